import io
import json
import logging

import pytest

from common import logs
from common.frame import FrameId
from common.nats_connection import masked


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch):
    """A logger whose lines are JSON; gives it, and a function for the objects."""
    monkeypatch.setattr(logs, "_traces", logs.OrderedDict())
    out, logger = io.StringIO(), logging.getLogger("test of logs")
    handler = logging.StreamHandler(out)
    handler.setFormatter(logs.JsonLines("lamplight-test"))
    logger.addHandler(handler)
    logger.propagate = False
    yield logger, lambda: [json.loads(line) for line in out.getvalue().splitlines()]
    logger.removeHandler(handler)


def test_a_line_about_a_frame_has_its_trace(log) -> None:
    logger, lines = log
    frame = FrameId("cam", "4f", 17)
    logs.remember(frame, {"traceparent": f"00-{7:032x}-{9:016x}-01"})
    logger.warning("frame %s has no result after %.0f s", frame, 30.0)
    logger.warning("frame %s is another", FrameId("cam", "4f", 18))
    first, second = lines()
    assert first["message"] == "frame cam/4f/17 has no result after 30 s"
    assert (first["frame"], first["trace_id"]) == ("cam/4f/17", f"{7:032x}")
    assert (first["service"], first["level"], first["logger"]) == ("lamplight-test", "warning", "test of logs")
    assert first["time"].endswith("Z")
    assert second["frame"] == "cam/4f/18" and "trace_id" not in second


def test_what_goes_wrong_is_one_line_and_secrets_stay_out(log) -> None:
    logger, lines = log
    try:
        raise OSError("cannot reach nats://lamp:s3cret@10.0.0.5:4222\nsecond line")
    except OSError:
        logger.exception("%s, token=abc, Bearer: xyz", "rtsp://me:s3cret@10.0.0.7/stream")
    [line] = lines()
    text = json.dumps(line)
    assert "s3cret" not in text and "abc" not in text and "xyz" not in text
    assert "nats://***@10.0.0.5:4222" in line["error"] and "Traceback" in line["error"]


def test_only_so_many_traces_are_remembered(log) -> None:
    for number in range(logs.REMEMBERED + 50):
        logs.remember(FrameId("cam", "s", number), {"traceparent": f"00-{number + 1:032x}-{9:016x}-01"})
    assert logs._traces is not None and len(logs._traces) == logs.REMEMBERED


@pytest.mark.parametrize("password", ["a/b", "p@ss", "/@/", "a:b@c/d", "//@"])
def test_no_password_shows_whatever_it_is_made_of(password: str) -> None:
    address = f"rtsp://me:{password}@10.0.0.7/a"
    assert logs.without_secrets(f"{address}: no answer, {address}") == (
        "rtsp://***@10.0.0.7/a: no answer, rtsp://***@10.0.0.7/a"
    )
    assert masked(address) == "rtsp://***@10.0.0.7/a"


@pytest.mark.parametrize(
    "text",
    [
        "LAMPLIGHT_LIVE_TOKEN=hush99",
        "live_token='hush99'",
        "http_token: hush99",
        "GET /?access_token=hush99&a=b",
        '{"token": "hush99"}',
        "Authorization: Basic hush99",
        "Authorization: Bearer hush99",
        "--live-token hush99",
        "nats://u:hush99/w@h",
    ],
)
def test_a_secret_is_starred_out_however_it_is_named(text: str) -> None:
    assert "hush99" not in logs.without_secrets(text) and "***" in logs.without_secrets(text)


@pytest.mark.parametrize(
    "text", ["the token is needed", "no secret file: give one", "basic authentication is asked for"]
)
def test_plain_words_stay_as_they_are(text: str) -> None:
    assert logs.without_secrets(text) == text


def test_what_others_sent_begins_no_line_of_its_own() -> None:
    record = logging.LogRecord(
        "a", logging.WARNING, "f", 1, "cloud node: %s", ("x\nlamplight: all is lost\x1b[2J",), None
    )
    assert logs._Plain("lamplight: %(message)s").format(record) == (
        "lamplight: cloud node: x\\nlamplight: all is lost\\x1b[2J"
    )
