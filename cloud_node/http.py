"""Health and status over HTTP, for orchestrators that do not speak gRPC and for people with curl."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from cloud_node.http_access import Access
from common.http_server import Server, listen
from common.loopback import is_loopback

log = logging.getLogger(__name__)


class HttpServer:
    """`/livez`, `/readyz` (200 or 503, and why in words) and `/status` (JSON).

    Args:
        host, port: where to listen; port 0 takes a free one.
        unready: why the node should get no frames; "" when it is ready.
        status: what `/status` shows.
        more: what else is served.
        tls: files of the certificate and its key; without them there is no TLS.
        token: to be shown for everything but the first two; "" = none.
    """

    def __init__(
        self,
        host: str,
        port: int,
        unready: Callable[[], str],
        status: Callable[[], dict[str, Any]],
        more: Sequence[BaseRoute] = (),
        *,
        tls: tuple[Path, Path] | None = None,
        token: Callable[[], str] = lambda: "",
    ) -> None:
        self._socket = listen(host, port, "--http")
        address = self._socket.getsockname()
        self.address = f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"
        self.url = f"{'https' if tls else 'http'}://{self.address}"

        async def livez(request: Request) -> Response:
            return PlainTextResponse("alive\n")

        async def readyz(request: Request) -> Response:
            reason = unready()
            return PlainTextResponse(f"{reason or 'ready'}\n", 503 if reason else 200)

        async def show(request: Request) -> Response:
            return JSONResponse(status())

        routes = [Route("/livez", livez), Route("/readyz", readyz), Route("/status", show), *more]
        config = uvicorn.Config(
            Access(Starlette(routes=routes), token, is_loopback(address[0])),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
            ssl_certfile=tls and tls[0],
            ssl_keyfile=tls and tls[1],
        )
        self._tls, self._config = tls, config
        self._server = Server(config)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Serve in the background."""
        self._task = asyncio.create_task(self._server.serve([self._socket]), name="http")

    def reload(self) -> None:
        """Its certificate is another one now: new connections get it."""
        if self._tls is not None and self._config.loaded and self._config.ssl is not None:
            with contextlib.suppress(OSError, ssl.SSLError):  # said by who reads the identity
                self._config.ssl.load_cert_chain(*self._tls)

    async def stop(self) -> None:
        """Close; safe to call twice."""
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        self._socket.close()
