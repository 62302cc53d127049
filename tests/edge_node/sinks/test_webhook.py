"""A webhook against real HTTP servers of every kind, plain and TLS."""

import asyncio
import ssl
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from http_receiver import Receiver, status, until

from common.errors import SettingsError
from edge_node.sinks.outlet import Message, NotDelivered, Outlet, Refused, close_all
from edge_node.sinks.webhook import Webhook, read_secret, retry_after_s, signed

BODY = b'{"schema": 1}'


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def send(url: str, secret: bytes | None = None, *, answer_s: float = 30.0) -> None:
    webhook = Webhook(url, secret, answer_s=answer_s)
    await webhook.open()
    try:
        await webhook.send(Message("5f0c-1-1", BODY))
    finally:
        await webhook.close()


async def test_a_message_is_posted_as_json_with_its_id() -> None:
    with Receiver() as receiver:
        await send(receiver.url)
    [post] = receiver.posts
    assert (post.path, post.body) == ("/hook/secret-token", BODY)
    assert post.headers["Content-Type"] == "application/json"
    assert post.headers["Idempotency-Key"] == post.headers["Webhook-Id"] == "5f0c-1-1"
    assert post.headers["Webhook-Signature"] is None


def test_the_signature_is_that_of_standard_webhooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of their own documentation."""
    secret = read_secret(None, {"LAMPLIGHT_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})
    message = Message("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}')
    headers = signed(message, secret, 1614265330)
    assert headers["Webhook-Signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("content", ["", "hello", "whsec_c2hvcnQ=", "\xff"])
def test_a_file_that_holds_no_secret_is_said_without_it(tmp_path: Path, content: str) -> None:
    file = tmp_path / "secret"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(SettingsError, match="needs 24 to 64 random bytes") as error:
        read_secret(file, {})
    assert not content or content not in str(error.value)
    with pytest.raises(SettingsError, match="No such file"):
        read_secret(tmp_path / "none", {})
    assert read_secret(None, {}) is None


@pytest.mark.parametrize("code", [500, 503, 429, 408])
async def test_what_may_be_better_later_is_tried_again(code: int) -> None:
    with Receiver(status(code, Retry_After="7")) as receiver:
        with pytest.raises(NotDelivered, match=f"it answers {code}") as error:
            await send(receiver.url)
    assert error.value.after_s == 7


@pytest.mark.parametrize("code", [400, 401, 404, 410])
async def test_what_will_not_be_better_is_refused(code: int) -> None:
    with Receiver(status(code)) as receiver, pytest.raises(Refused, match=f"it answers {code}"):
        await send(receiver.url)


@pytest.mark.parametrize("code", [301, 302, 307, 308])
async def test_redirects_are_not_followed(code: int) -> None:
    with Receiver() as elsewhere, Receiver(status(code, Location=elsewhere.url)) as receiver:
        with pytest.raises(Refused, match=r"redirects \(\d+\) to '127.0.0.1', which is not followed") as error:
            await send(receiver.url)
    assert not elsewhere.posts and "secret-token" not in str(error.value)


def rubbish(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\x00\xffSSH-2.0-OpenSSH\r\n\r\n")
    handler.close_connection = True


def silence(handler: BaseHTTPRequestHandler) -> None:
    handler.server.shutdown_request(handler.request)


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Headers that never end: each read succeeds, and the whole does not."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X: y\r\n")
        handler.wfile.flush()
        asyncio.run(asyncio.sleep(0.02))


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        handler.wfile.write(b"400\r\n" + bytes(1024) + b"\r\n")
        handler.wfile.flush()


def stalled(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx")
    handler.wfile.flush()
    handler.server.receiver_over.wait(60)


@pytest.mark.parametrize("answer", [rubbish, silence])
async def test_rubbish_for_an_answer_is_no_delivery(answer) -> None:
    with Receiver(answer) as receiver, pytest.raises(NotDelivered, match="Protocol"):
        await send(receiver.url)


async def test_headers_that_never_end_are_given_up() -> None:
    with Receiver(drip) as receiver, pytest.raises(NotDelivered, match="no answer within|Protocol"):
        await send(receiver.url, answer_s=0.3)


@pytest.mark.parametrize("answer", [endless, stalled])
async def test_a_body_that_never_ends_does_not_matter(answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_node.sinks.webhook.BODY_S", 0.2)
    with Receiver(answer, status(204)) as receiver:
        receiver._server.receiver_over = receiver.over
        webhook = Webhook(receiver.url)
        await webhook.open()
        await webhook.send(Message("a", BODY))
        await webhook.send(Message("b", BODY))  # on a new connection
        await webhook.close()
        assert len(receiver.posts) == 2


async def test_a_slow_server_is_given_up_in_time() -> None:
    with Receiver(lambda handler: receiver.over.wait(60)) as receiver:
        with pytest.raises(NotDelivered, match=r"no answer within 0\.2 s"):
            await send(receiver.url, answer_s=0.2)


async def test_nobody_there(free_port: int) -> None:
    with pytest.raises(NotDelivered, match="ConnectError"):
        await send(f"http://user:topsecret@127.0.0.1:{free_port}/token")


async def test_tls_is_verified(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    with Receiver(context=context) as receiver:
        with pytest.raises(NotDelivered, match="CERTIFICATE_VERIFY_FAILED"):
            await send(receiver.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        await send(receiver.url)
        with pytest.raises(NotDelivered):  # the name counts too
            await send(receiver.url.replace("127.0.0.1", "localhost"))
    assert len(receiver.posts) == 1


def test_a_webhook_that_comes_back_gets_what_waited_and_no_secret_is_logged(
    free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "edge_node")
    outlet = Outlet("readings", Webhook(f"http://me:topsecret@127.0.0.1:{free_port}/token"), first_delay_s=0.01)
    for number in range(3):
        outlet.put(Message(str(number), BODY))
    until(lambda: "trying again" in caplog.text)
    with Receiver(status(503), status(204), port=free_port) as receiver:
        until(lambda: outlet.counts["delivered"] == 3)
        close_all([outlet])
    assert [post.headers["Webhook-Id"] for post in receiver.posts] == ["0", "0", "1", "2"]
    assert "works again" in caplog.text and "topsecret" not in caplog.text and "token" not in caplog.text


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after_s("120") == 120 and 0 < retry_after_s(formatdate(4e9, usegmt=True)) < 4e9
    assert [retry_after_s(text) for text in ("", "soon", "-5", "Sun, 06 Nov 1994 08:49:37 GMT", "9" * 400)][:4] == [
        0
    ] * 4


@pytest.mark.parametrize("url", ["http://", "ftp://host/x", "http://a b/", "http://host:99999/", "http://host/\x01"])
def test_what_is_no_address_is_said_without_it(url: str) -> None:
    with pytest.raises(SettingsError):
        Webhook(url)
