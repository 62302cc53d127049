"""An authority for tests, and what stands under it: bundles, a cloud node's front, a NATS server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from hand_edges import Front

from cloud_node.identity.authority import Authority
from cloud_node.identity.guard import Guard
from cloud_node.identity.node import NodeIdentity
from cloud_node.policy import Policy
from cloud_node.settings import CloudSettings
from common.channel import server_credentials, server_options
from common.files import write_private
from common.identity import Identity
from common.nats_server import EmbeddedServer, Secured
from lamplight.v1 import enhancement_pb2_grpc


def authority(folder: Path, *names: str) -> Authority:
    """A new one, known as loopback and these names."""
    return Authority.init(folder / "authority", names, ["localhost:50051"], [])


def bundle(authority: Authority, *edges: str, days: float = 1.0) -> Path:
    """The file of an edge that was let in just now."""
    out = authority.folder.parent / f"{edges[0]}.bundle"
    write_private(out, authority.enroll(edges, days).to_json())
    return out


def enrolled(authority: Authority, *edges: str, days: float = 1.0) -> Identity:
    return Identity(bundle(authority, *edges, days=days))


@asynccontextmanager
async def secured_front(authority: Authority, host: str = "localhost") -> AsyncIterator[tuple[Front, str]]:
    """A front behind TLS that reads the authority's folder as a node does, and its address."""
    identity = NodeIdentity(authority.node)
    guard = Guard(identity)
    identity.on_change.append(guard.cut)
    front = Front(CloudSettings(), Policy(), guard)
    server = grpc.aio.server(options=server_options(), interceptors=[guard])
    enhancement_pb2_grpc.add_EnhancementServicer_to_server(front.ingress, server)
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    reflection.enable_server_reflection((reflection.SERVICE_NAME,), server)
    port = server.add_secure_port(f"{host}:0", server_credentials(identity.certificates))
    await server.start()
    watching = asyncio.create_task(_watch(identity, guard))
    try:
        yield front, f"{host}:{port}"
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        await server.stop(0)


async def _watch(identity: NodeIdentity, guard: Guard) -> None:
    async def care() -> None:  # as the node does
        while True:
            await asyncio.sleep(0.1)
            guard.cut()

    await asyncio.gather(identity.run(), care())


@asynccontextmanager
async def secured_nats(identity: NodeIdentity) -> AsyncIterator[EmbeddedServer]:
    """A real NATS server that knows this authority alone."""
    server = EmbeddedServer(Secured(identity.nats_settings, identity.login, "127.0.0.1", 0, "localhost"))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
