"""gRPC options, in one place for both ends, so that no limit differs between them."""

import grpc
import grpc.aio

DEFAULT_PORT = 50051

# A packed 8K frame in RGB stays below this; both ends derive their limits from it.
MAX_MESSAGE_BYTES = 128 * 1024 * 1024
MAX_PIXELS = 7680 * 4320

# Idle streams. gRPC's own pings (below) keep a connection through routers and balancers that look at connections, and
# tell each end of a dead link; both ends agree on how many are no abuse. Balancers that look at streams do not pass
# them on, and end a stream in which nothing was said for a minute (AWS ALB, nginx): so an idle edge says Alive this
# often, and the node answers.
IDLE_PING_S = 20.0

_COMMON = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_timeout_ms", 10_000),
]


def server_options() -> list[tuple[str, int]]:
    """Options of a cloud node's server."""
    return [
        *_COMMON,
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


def client_options() -> list[tuple[str, int]]:
    """Options of an edge's channel: pings keep it alive through load balancers and notice dead links."""
    return [
        *_COMMON,
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]


def connect(address: str) -> grpc.aio.Channel:
    """A channel to a cloud node at HOST:PORT. Connects when first used."""
    return grpc.aio.insecure_channel(address, options=client_options())


def with_port(address: str, default: int = DEFAULT_PORT) -> str:
    """HOST or HOST:PORT or [IPv6]:PORT as HOST:PORT."""
    if address.startswith("["):
        return address if "]:" in address else f"{address}:{default}"
    return (
        address
        if address.count(":") == 1
        else (f"{address}:{default}" if ":" not in address else f"[{address}]:{default}")
    )


def with_ports(addresses: str, default: int = DEFAULT_PORT) -> str:
    """`with_port` for each of several addresses with commas between them."""
    return ",".join(with_port(address.strip(), default) for address in addresses.split(",") if address.strip())
