"""gRPC options, in one place for both ends, so that no limit differs between them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

if TYPE_CHECKING:
    from common.identity import Identity

DEFAULT_PORT = 50051

# A packed 8K frame in RGB stays below this; both ends derive their limits from it.
MAX_MESSAGE_BYTES = 128 * 1024 * 1024
MAX_PIXELS = 7680 * 4320

# Idle streams. gRPC's own pings (below) keep a connection through routers and balancers that look at connections, and
# tell each end of a dead link; both ends agree on how many are no abuse. Balancers that look at streams do not pass
# them on, and end a stream in which nothing was said for a minute (AWS ALB, nginx): so an idle edge says Alive this
# often, and the node answers.
IDLE_PING_S = 20.0
KEEPALIVE_TIMEOUT_MS = 10_000

_COMMON = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # No compression: 100 kB of gzip would be 100 MB of memory.
    ("grpc.compression_enabled_algorithms_bitset", 1),
]


def server_options() -> list[tuple[str, int]]:
    """Options of a cloud node's server."""
    return [
        *_COMMON,
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.so_reuseport", 0),  # a second node on the same port must fail, not share
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.max_concurrent_streams", 128),  # of one connection
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.max_connection_idle_ms", 300_000),  # without any stream
        ("grpc.max_metadata_size", 8 * 1024),
        ("grpc.absolute_max_metadata_size", 16 * 1024),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def client_options(keepalive_timeout_ms: int = KEEPALIVE_TIMEOUT_MS) -> list[tuple[str, int]]:
    """Options of an edge's channel: pings keep it alive through load balancers and notice dead links."""
    return [
        *_COMMON,
        ("grpc.keepalive_timeout_ms", keepalive_timeout_ms),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]


def connect(
    address: str, identity: "Identity | None" = None, *, keepalive_timeout_ms: int = KEEPALIVE_TIMEOUT_MS
) -> grpc.aio.Channel:
    """A channel to a cloud node at HOST:PORT, with TLS if there is an identity. Connects when first used."""
    options = client_options(keepalive_timeout_ms)
    if identity is None:
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(address, client_credentials(identity), options=options)


def client_credentials(identity: "Identity") -> grpc.ChannelCredentials:
    """Of an edge: it shows its certificate, and trusts its own authority alone."""
    bundle = identity.bundle
    return grpc.ssl_channel_credentials(bundle.authority.encode(), bundle.key.encode(), bundle.certificate.encode())


def explained(error: Any, identity: "Identity | None") -> str:
    """What an error of gRPC's says; of a connection that did not come about, also what it means for TLS, if it does."""
    detail = str(error.details() or error.code().name)
    low = detail.lower()
    if error.code() is not grpc.StatusCode.UNAVAILABLE:  # somebody answered
        hint = ""
    elif identity is None:
        hint = "it may ask for TLS: is --identity missing?" if "socket closed" in low or "reset" in low else ""
    elif "handshake" in low or "certificate" in low or "hostname" in low:
        hint = (
            "it speaks no TLS, or its certificate is of another authority, has expired, or is not for this name: see "
            "`enroll --rotate --name` there, or have this edge enrolled again"
        )
    elif "socket closed" in low or "reset" in low:
        hint = "it hung up on our certificate: has that expired, or is it of another authority? Have this edge enrolled"
    else:
        hint = ""
    return f"{detail}; {hint}" if hint else detail


Certificates = tuple[bytes, bytes, bytes]  # of a server: its chain, its key, and the authorities of its clients, in PEM


def server_credentials(current: Callable[[], Certificates]) -> grpc.ServerCredentials:
    """Of a cloud node: clients must show a certificate; `current` is asked at each handshake, from gRPC's threads."""

    def configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
        chain, key, authority = certificates
        return grpc.ssl_server_certificate_configuration([(key, chain)], authority)

    given = current()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        if (now := current()) == given:
            return None  # as before
        given = now
        return configuration(now)

    return grpc.dynamic_ssl_server_credentials(configuration(given), fetch, require_client_authentication=True)


def with_port(address: str) -> str:
    """HOST or HOST:PORT or [IPv6]:PORT as HOST:PORT; DEFAULT_PORT where there is none."""
    if "]:" in address or address.count(":") == 1:
        return address
    host = f"[{address}]" if ":" in address and not address.startswith("[") else address
    return f"{host}:{DEFAULT_PORT}"


def with_ports(addresses: str) -> str:
    """`with_port` for each of several addresses with commas between them."""
    return ",".join(with_port(address.strip()) for address in addresses.split(",") if address.strip())
