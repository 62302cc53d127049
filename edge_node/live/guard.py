"""Who may have what of the live page: checked for every request before anything else."""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import socket
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.loopback import is_loopback
from edge_node.live.options import Page

COOKIE: Final = "lamplight"
COOKIE_S: Final = 30 * 24 * 3600
LARGEST_FORM: Final = 4096  # bytes
GUESS_S: Final = 1.0  # a wrong token is answered after this
SHARED: Final = "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; img-src 'self' blob:"
POLICY: Final = (
    f"{SHARED}; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # with none, browsers send a form's Origin as null
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Before an application: a Host that is ours (a page elsewhere must not reach us by a name that it turned to this
    machine), an Origin that is ours for what streams or changes something, the token where there is one."""

    def __init__(self, app: ASGIApp, page: Page) -> None:
        self._app, self._token = app, page.live_token
        host = page.address[0].lower()
        self._any_address = not is_loopback(host)
        self._names = {"localhost", "127.0.0.1", "[::1]", host, f"[{host}]", *map(str.lower, page.live_names)}
        if self._any_address:
            self._names |= {socket.gethostname().lower(), f"{socket.gethostname().lower()}.local"}
        self._form = (Path(__file__).parent / "static" / "token.html").read_text(encoding="utf-8")
        style = self._form.partition("<style>")[2].partition("</style>")[0]
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        self._form_policy = f"{SHARED}; style-src 'sha256-{digest}'"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        refusal = self._refusal(scope)
        if refusal is None and self._token and not self._knows_token(Headers(scope=scope)):
            refusal = await self._ask(scope, receive)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *(pair for pair in added if pair[0] not in given)]
            await send(message)

        if refusal is None:
            await self._app(scope, receive, guarded)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refusal(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            return PlainTextResponse("this page has another address; --live-names adds one\n", 421)
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        origin = headers.get("origin")
        if (changes or origin is not None) and urlsplit(origin or "").netloc.lower() != host.lower():
            return PlainTextResponse("asked by another page\n", 403)
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and scope["path"] != "/":
            return PlainTextResponse("asked by another page\n", 403)
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if ":" in name:
            name = f"[{name}]"
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return self._any_address

    # --- the token ---

    def _knows_token(self, headers: Headers) -> bool:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(bearer.strip(), self._token):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and _same(cookie.value, self._proof)

    @property
    def _proof(self) -> str:
        """What the browser keeps: not the token itself."""
        return hmac.new(self._token.encode(), b"lamplight live page", hashlib.sha256).hexdigest()

    async def _ask(self, scope: Scope, receive: Receive) -> Response:
        """Ask for the token, or take it; a wrong one is answered late, wherever it is shown."""
        headers = Headers(scope=scope)
        if "authorization" in headers or COOKIE in headers.get("cookie", ""):
            await asyncio.sleep(GUESS_S)
        if scope["type"] == "websocket" or scope["path"] not in ("/", "/token"):
            return PlainTextResponse("the token is needed\n", 401, {"www-authenticate": "Bearer"})
        form = self._form
        if scope["method"] == "POST" and scope["path"] == "/token":
            if _same(await _given(Request(scope, receive)), self._token):
                answer = RedirectResponse("/", 303)
                answer.set_cookie(COOKIE, self._proof, COOKIE_S, httponly=True, samesite="strict")
                return answer
            await asyncio.sleep(GUESS_S)
            form = form.replace("hidden role", "role")
        return HTMLResponse(form, 401, {"content-security-policy": self._form_policy})


async def _given(request: Request) -> str:
    """The token in a form; "" when there is none."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_FORM:
            return ""
    return parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0]


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())
