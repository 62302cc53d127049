"""HTTP by uvicorn, with bounds: who says nothing goes, and no crowd takes the process's file handles."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from common.errors import PortInUse

SILENCE_S: Final = 10.0  # for a TLS handshake, and for a whole request
MOST: Final = 256  # connections


class Server(uvicorn.Server):
    """Serves on sockets of `listen`; signals belong to the node."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, with a bound on TLS handshakes, which it does not offer."""
        await self.lifespan.startup()
        loop, config = asyncio.get_running_loop(), self.config

        def protocol() -> asyncio.Protocol:
            return Protocol(config, self.server_state, self.lifespan.state)

        tls: dict[str, Any] = {"ssl": config.ssl, "ssl_handshake_timeout": SILENCE_S} if config.ssl else {}
        self.servers = [
            await loop.create_server(protocol, sock=each, backlog=config.backlog, **tls) for each in sockets or ()
        ]
        self.started = True


class Protocol(H11Protocol):
    """Hangs up when no whole request came for SILENCE_S; uvicorn's own limit ends with a request's first byte."""

    _limit: asyncio.TimerHandle | None = None
    _upgraded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._judge()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._wait(False)

    def handle_events(self) -> None:
        super().handle_events()
        self._judge()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._judge()

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._upgraded = True
        super().handle_websocket_upgrade(event)

    def _judge(self) -> None:
        cycle = self.cycle
        self._wait(not self._upgraded and (cycle is None or cycle.more_body or cycle.response_complete))

    def _wait(self, wanted: bool) -> None:
        if wanted and self._limit is None and not self.transport.is_closing():
            self._limit = self.loop.call_later(SILENCE_S, self.transport.abort)
        elif not wanted and self._limit is not None:
            self._limit.cancel()
            self._limit = None


class Connection(socket.socket):
    """One that was accepted."""

    listener: "Listener | None" = None
    host = ""

    def close(self) -> None:
        if self.listener is not None:
            self.listener.open.pop(self, None)
        super().close()


class Listener(socket.socket):
    """Has MOST connections at once: for one more the oldest goes, of the host that has most."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.open: dict[Connection, None] = {}  # the oldest first

    def accept(self) -> tuple[socket.socket, Any]:
        plain, address = super().accept()
        made = Connection(plain.family, plain.type, plain.proto, fileno=plain.detach())
        made.listener, made.host = self, str(address[0])
        self.open[made] = None
        if len(self.open) > MOST:
            hosts = [each.host for each in self.open]
            most = max(set(hosts), key=hosts.count)
            oldest = next(each for each in self.open if each.host == most)
            del self.open[oldest]
            with contextlib.suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)  # its protocol closes it
        return made, address


def listen(host: str, port: int, flag: str) -> socket.socket:
    """Raises PortInUse that names the flag."""
    try:
        plain = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise PortInUse.by(flag, host, port, error) from None
    return Listener(plain.family, plain.type, plain.proto, fileno=plain.detach())
