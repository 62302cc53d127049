"""How one node knows who calls and shows who it is: by its identity, or, on loopback or told --insecure, not at all."""

import ipaddress
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import grpc.aio
from starlette.routing import BaseRoute

from cloud_node.exposure import check_exposure
from cloud_node.http import HttpServer
from cloud_node.identity.crowding import Crowding
from cloud_node.identity.guard import Guard
from cloud_node.identity.node import NodeIdentity
from cloud_node.identity.pushing import ClaimsPusher
from cloud_node.settings import CloudSettings
from common.channel import server_credentials
from common.errors import SettingsError
from common.nats_connection import Login
from common.nats_server import EmbeddedServer, Secured


class Trust:
    """Raises SettingsError when the node would be open to other machines, or its identity cannot be used."""

    def __init__(self, settings: CloudSettings) -> None:
        check_exposure(settings)
        self._settings = settings
        folder = settings.security.identity
        self.identity = None if folder is None else NodeIdentity(folder)
        self.guard = Guard(self.identity)

    @property
    def login(self) -> Callable[[], Login] | None:
        """To NATS."""
        return None if self.identity is None else self.identity.login

    def listen(self, server: grpc.aio.Server, address: str) -> int:
        """Returns the port; 0 or a RuntimeError of gRPC's when it is taken."""
        if self.identity is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, server_credentials(self.identity.certificates)))

    def embedded(self) -> EmbeddedServer:
        """A NATS server of this node's own; with an identity it listens where the node does."""
        identity, host = self.identity, self._settings.host
        if identity is None:
            return EmbeddedServer()
        name = (identity.now.host or "localhost") if host in ("0.0.0.0", "::") else host
        _check_address(host, identity)
        port = self._settings.security.nats_port
        server = EmbeddedServer(Secured(identity.nats_settings, identity.login, host, port, name))
        identity.on_change.append(server.reload)
        return server

    def http(
        self,
        host: str,
        port: int,
        unready: Callable[[], str],
        status: Callable[[], dict[str, Any]],
        more: Sequence[BaseRoute],
    ) -> HttpServer:
        """Of health, status, and what else there is to see."""
        identity = self.identity
        if identity is None:
            return HttpServer(host, port, unready, status, more)
        tls = (identity.folder / "server.crt", identity.folder / "server.key")
        server = HttpServer(host, port, unready, status, more, tls=tls, token=lambda: identity.now.http_token)
        identity.on_change.append(server.reload)
        return server

    def runs(self, nats: str) -> list[Coroutine[Any, Any, None]]:
        """What sees to it, until cancelled, that replaced files count while the node runs."""
        if self.identity is None:
            return []
        self.identity.on_change.append(self.guard.cut)
        return [self.identity.run(), ClaimsPusher(nats, self.identity).run(), Crowding(nats, self.identity).run()]


def _check_address(host: str, identity: NodeIdentity) -> None:
    """NATS is reached by the address that it listens on, so its certificate must have that. Raises SettingsError."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a name, which the certificate may have as a wildcard
        return
    if not address.is_unspecified and address not in identity.now.addresses:
        raise SettingsError(
            f"--host {host}: the certificate in {identity.folder} is not for this address, so that nobody could trust "
            f"the NATS server there: run `python -m cloud_node enroll --rotate --name {host}`, take --host 0.0.0.0, or "
            "name a NATS server of yours by --nats"
        )
