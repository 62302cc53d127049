"""Who may look at a node over HTTP."""

import base64

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from cloud_node.http_access import Access


async def page(request: Request) -> PlainTextResponse:
    return PlainTextResponse("here")


async def get(
    path: str, *, token: str = "", loopback: bool = True, host: str = "localhost:8080", shown: str | bytes = ""
) -> httpx.Response:
    app = Starlette(routes=[Route(name, page) for name in ("/livez", "/status", "/live")])
    transport = httpx.ASGITransport(app=Access(app, lambda: token, loopback))
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
        return await client.get(path, headers={"Authorization": shown} if shown else {})


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080"])
async def test_on_loopback_this_machine_is_let_in(host: str) -> None:
    assert (await get("/status", host=host)).text == "here"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "localhost.evil.example", "10.0.0.1:8080"])
async def test_on_loopback_a_name_from_elsewhere_is_refused(host: str) -> None:
    answer = await get("/live", host=host)
    assert answer.status_code == 400 and "loopback" in answer.text
    assert (await get("/livez", host=host)).text == "here", "orchestrators ask by any name"
    assert (await get("/live", host=host, loopback=False)).text == "here"


async def test_with_a_token_those_who_show_it() -> None:
    basic, junk = (f"Basic {base64.b64encode(data).decode()}" for data in (b"me:hush", b"\xff"))
    for shown in ("Bearer hush", "bearer hush", basic):
        assert (await get("/status", token="hush", loopback=False, shown=shown)).text == "here"
    for shown in ("", "hush", "Bearer", "Bearer hus", "Basic aHVzaA==", "Basic !!", junk, "Basic é".encode()):
        answer = await get("/status", token="hush", loopback=False, shown=shown)
        assert answer.status_code == 401 and "Basic" in answer.headers["WWW-Authenticate"] and "hush" not in answer.text
    assert (await get("/livez", token="hush", loopback=False)).text == "here"
