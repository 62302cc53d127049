"""Who may look at a node over HTTP: with a token those who show it, without one whoever is on this machine."""

import base64
import hmac
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from common.loopback import names_loopback

OPEN = ("/livez", "/readyz")  # for orchestrators


class Access:
    """ASGI middleware.

    Args:
        token: to be shown as `Authorization: Bearer TOKEN`, or as the password of Basic authentication, which browsers
            ask for by themselves; "" = none is wanted.
        loopback: the server listens there alone. A page elsewhere that gets its own name to mean this machine (DNS
            rebinding) sends that name, and is refused.
    """

    def __init__(self, app: ASGIApp, token: Callable[[], str], loopback: bool) -> None:
        self._app, self._token, self._loopback = app, token, loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN and (refusal := self._refusal(Headers(scope=scope))):
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, headers: Headers) -> PlainTextResponse | None:
        if wanted := self._token():
            if not _shows(headers.get("authorization", ""), wanted):
                challenge = {
                    "WWW-Authenticate": 'Basic realm="lamplight: the token in node/http.token", charset="UTF-8"'
                }
                return PlainTextResponse("show the token in node/http.token\n", 401, challenge)
        elif self._loopback and not names_loopback(headers.get("host", "")):
            return PlainTextResponse("this node answers on loopback alone: ask for localhost or 127.0.0.1\n", 400)
        return None


def _shows(authorization: str, token: str) -> bool:
    scheme, _, shown = authorization.partition(" ")
    if scheme.lower() == "basic":
        try:
            shown = base64.b64decode(shown, validate=True).decode().partition(":")[2]
        except ValueError:  # no ASCII, no base64, no UTF-8
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(shown.encode(), token.encode())
