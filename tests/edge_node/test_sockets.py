"""What is set on the socket below a channel, on real connections."""

import os
import socket
import struct
from collections.abc import Iterator

import pytest

from edge_node.sockets import CONGESTION, SO_MAX_PACING_RATE, UNLIMITED, BbrProbe, tune_for_slow_link

Pair = tuple[socket.socket, str]


@pytest.fixture
def connection() -> Iterator[Pair]:
    """Ours, which does not block as gRPC's do not, and the address that it goes to."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as ours:
        ours.setblocking(False)
        yield ours, f"127.0.0.1:{server.getsockname()[1]}"


def congestion(ours: socket.socket) -> bytes:
    return ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")


def pacing(ours: socket.socket) -> int:
    return struct.unpack("I", ours.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, 4))[0]


@pytest.fixture
def tuned(connection: Pair) -> Pair:
    ours, address = connection
    assert tune_for_slow_link(address) == 1
    if congestion(ours) != CONGESTION:
        pytest.skip("this machine has no BBR, or does not allow it")
    return connection


def test_only_connections_to_that_port_are_touched(connection: Pair) -> None:
    assert tune_for_slow_link("127.0.0.1:1") == 0
    assert tune_for_slow_link(connection[1]) == 1


def test_bbr_begins_anew_and_the_socket_stays_as_it_was(tuned: Pair) -> None:
    ours, address = tuned
    probe = BbrProbe()
    assert probe.put_off(address, 1e6, 100.0, after_s=9.0) == 1
    assert congestion(ours) == CONGESTION and pacing(ours) == 1_250_000
    assert not os.get_blocking(ours.fileno())


def test_a_probe_is_not_put_off_more_often_than_asked(tuned: Pair) -> None:
    probe = BbrProbe()
    done = [probe.put_off(tuned[1], 1e6, now_s, 9.0) for now_s in (100.0, 105.0, 108.9, 109.0, 110.0)]
    assert done == [1, 0, 0, 1, 0]
    assert probe.put_off(tuned[1], 1e6, 111.5, 2.0) == 1


def test_where_bbr_is_not_in_use_nothing_is_done(tuned: Pair) -> None:
    ours, address = tuned
    ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
    assert BbrProbe().put_off(address, 1e6, 100.0, 9.0) == 0
    assert congestion(ours) == b"reno" and pacing(ours) != 1_250_000


def test_the_limit_is_lifted_once_bbr_began_anew(tuned: Pair) -> None:
    ours, address = tuned
    probe = BbrProbe()
    probe.put_off(address, 1e6, 100.0, 9.0)
    assert probe.lift(address, 100.5) == 0 and pacing(ours) == 1_250_000
    assert probe.lift(address, 102.0) == 1 and pacing(ours) == UNLIMITED
    assert probe.lift(address, 103.0) == 0


def test_any_rate_can_be_set(tuned: Pair) -> None:
    for rate in (2e9, 1e12, float("inf")):
        assert BbrProbe().put_off(tuned[1], rate, 100.0, 9.0) == 1
