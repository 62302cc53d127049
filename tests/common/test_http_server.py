"""Connections that say nothing, or too many of them, against a real server."""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from enrolled import authority
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from common import http_server
from common.http_server import Server, listen


@asynccontextmanager
async def serving(tls: Path | None = None) -> AsyncIterator[int]:
    """A server whose answer is what was sent; its port."""
    gate = asyncio.Event()

    async def echo(request: Request) -> Response:
        return PlainTextResponse(await request.body())

    async def slow(request: Request) -> Response:
        await asyncio.wait([asyncio.create_task(gate.wait())], timeout=3)
        return PlainTextResponse("at last")

    routes = [Route("/", echo, methods=["GET", "POST"]), Route("/slow", slow)]
    files = {"ssl_certfile": tls / "server.crt", "ssl_keyfile": tls / "server.key"} if tls else {}
    server = Server(uvicorn.Config(Starlette(routes=routes), log_config=None, lifespan="off", **files))  # type: ignore[arg-type]
    listener = listen("127.0.0.1", 0, "--http")
    task = asyncio.create_task(server.serve([listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def said(port: int, words: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    """All that comes after these words, until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    writer.write(words)
    try:
        return await asyncio.wait_for(reader.read(), 60)
    except ConnectionError:
        return b""
    finally:
        writer.close()


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_who_does_not_make_a_whole_request_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "SILENCE_S", 1.5)
    async with serving() as port:
        part = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"
        answers = await asyncio.gather(*(said(port, words) for words in (b"", b"GET / HT", part, GET, GET + GET[:9])))
        assert answers[:3] == [b"", b"", b""]
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers[3:])
        assert (await said(port, GET.replace(b"/ ", b"/slow "))).endswith(b"at last"), "an answer may take its time"


async def test_nor_is_a_tls_handshake_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(http_server, "SILENCE_S", 1.5)
    made = authority(tmp_path)
    trusting = ssl.create_default_context(cafile=made.folder / "ca.crt")
    trusting.check_hostname = False
    async with serving(made.node) as port:
        assert await said(port, b"") == b""
        assert await said(port, b"", trusting) == b""
        assert (await said(port, GET, trusting)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("tls", [False, True])
async def test_a_crowd_holds_few_handles_and_keeps_nobody_out(
    tls: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(http_server, "MOST", 8)
    made = authority(tmp_path) if tls else None
    context = ssl.create_default_context(cafile=made.folder / "ca.crt") if made else None
    if context:
        context.check_hostname = False
    async with serving(made and made.node) as port:
        crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(40)]
        gone = [asyncio.create_task(reader.read()) for reader, _ in crowd]
        while sum(task.done() for task in gone) < 32:
            await asyncio.sleep(0.01)
        answer = await said(port, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), context)
        assert answer.startswith(b"HTTP/1.1 200")
        for _, writer in crowd:
            writer.close()
        await asyncio.gather(*gone, return_exceptions=True)


def test_a_command_takes_all_the_file_handles_that_it_may_have() -> None:
    resource = pytest.importorskip("resource")
    code = (
        "import resource as r; from common import process; _, hard = r.getrlimit(r.RLIMIT_NOFILE); "
        "r.setrlimit(r.RLIMIT_NOFILE, (128, hard)); "
        "process.run(lambda: print(r.getrlimit(r.RLIMIT_NOFILE)[0]) or 0)"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert int(made.stdout) == resource.getrlimit(resource.RLIMIT_NOFILE)[1]
