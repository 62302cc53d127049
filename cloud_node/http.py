"""Health and status over HTTP, for orchestrators that do not speak gRPC and for people with curl."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from common.errors import PortInUse

LOOPBACK = ("127.0.0.1", "::1", "[::1]", "localhost")
log = logging.getLogger(__name__)


class HttpServer:
    """`/livez`, `/readyz` (200 or 503, and why in words) and `/status` (JSON).

    Args:
        host, port: where to listen; port 0 takes a free one.
        unready: why the node should get no frames; "" when it is ready.
        status: what `/status` shows.
        more: what else is served.
    """

    def __init__(
        self,
        host: str,
        port: int,
        unready: Callable[[], str],
        status: Callable[[], dict[str, Any]],
        more: Sequence[BaseRoute] = (),
    ) -> None:
        self._socket = _listen(host, port)
        address = self._socket.getsockname()
        self.address = f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"

        async def livez(request: Request) -> Response:
            return PlainTextResponse("alive\n")

        async def readyz(request: Request) -> Response:
            reason = unready()
            return PlainTextResponse(f"{reason or 'ready'}\n", 503 if reason else 200)

        async def show(request: Request) -> Response:
            return JSONResponse(status())

        routes = [Route("/livez", livez), Route("/readyz", readyz), Route("/status", show), *more]
        # On loopback no page from elsewhere may reach this by a name that it turned to this machine.
        names = LOOPBACK if address[0] in LOOPBACK else ("*",)
        guard = Middleware(TrustedHostMiddleware, allowed_hosts=list(names))
        config = uvicorn.Config(
            Starlette(routes=routes, middleware=[guard]),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Serve in the background."""
        self._task = asyncio.create_task(self._server.serve([self._socket]), name="http")

    async def stop(self) -> None:
        """Close; safe to call twice."""
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        self._socket.close()


class _Server(uvicorn.Server):
    """Signals belong to the node."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = error.strerror or error
        raise PortInUse(f"--http cannot listen on {host}:{port} ({reason}): choose another port, or 0") from None
