"""What is set on the socket below a channel, on real connections."""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Iterator

import grpc.aio
import pytest

from common.channel import connect
from edge_node.sockets import CONGESTION, SO_MAX_PACING_RATE, UNLIMITED, BbrProbe, new_mark, tune_for_slow_link

HANG_S = 30
Pair = tuple[socket.socket, int]


@contextlib.contextmanager
def connected() -> Iterator[Pair]:
    """Ours, which does not block as gRPC's do not, and its mark, as gRPC sets it."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as ours:
        ours.setblocking(False)
        mark = new_mark()
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, mark)
        yield ours, mark


@pytest.fixture
def connection() -> Iterator[Pair]:
    with connected() as pair:
        yield pair


def congestion(ours: socket.socket) -> bytes:
    return ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")


def pacing(ours: socket.socket) -> int:
    return struct.unpack("I", ours.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, 4))[0]


@pytest.fixture
def tuned(connection: Pair) -> Pair:
    ours, mark = connection
    assert tune_for_slow_link(mark) == 1
    if congestion(ours) != CONGESTION:
        pytest.skip("this machine has no BBR, or does not allow it")
    return connection


def test_only_the_connections_of_the_channel_are_touched(connection: Pair) -> None:
    assert tune_for_slow_link(new_mark()) == 0
    assert tune_for_slow_link(connection[1]) == 1


async def test_two_channels_to_one_address_are_told_apart() -> None:
    server, marks = grpc.aio.server(), (new_mark(), new_mark())
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    async with contextlib.AsyncExitStack() as channels, asyncio.timeout(HANG_S):
        for mark in marks:
            channel = await channels.enter_async_context(connect(address, keepalive_timeout_ms=mark))
            await channel.channel_ready()
        assert [tune_for_slow_link(mark) for mark in marks] == [1, 1]
    await server.stop(None)


def test_another_channel_has_its_probe_as_before(tuned: Pair) -> None:
    with connected() as (other, mark):
        assert tune_for_slow_link(mark) == 1
        before = pacing(other)
        assert BbrProbe(tuned[1]).put_off(1e6, 100.0, after_s=9.0) == 1
        assert pacing(tuned[0]) == 1_250_000 and pacing(other) == before


def test_bbr_begins_anew_and_the_socket_stays_as_it_was(tuned: Pair) -> None:
    ours, mark = tuned
    assert BbrProbe(mark).put_off(1e6, 100.0, after_s=9.0) == 1
    assert congestion(ours) == CONGESTION and pacing(ours) == 1_250_000
    assert not os.get_blocking(ours.fileno())


def test_a_probe_is_not_put_off_more_often_than_asked(tuned: Pair) -> None:
    probe = BbrProbe(tuned[1])
    done = [probe.put_off(1e6, now_s, 9.0) for now_s in (100.0, 105.0, 108.9, 109.0, 110.0)]
    assert done == [1, 0, 0, 1, 0]
    assert probe.put_off(1e6, 111.5, 2.0) == 1


def test_where_bbr_is_not_in_use_nothing_is_done(tuned: Pair) -> None:
    ours, mark = tuned
    ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
    assert BbrProbe(mark).put_off(1e6, 100.0, 9.0) == 0
    assert congestion(ours) == b"reno" and pacing(ours) != 1_250_000


def test_the_limit_is_lifted_once_bbr_began_anew(tuned: Pair) -> None:
    ours, mark = tuned
    probe = BbrProbe(mark)
    probe.put_off(1e6, 100.0, 9.0)
    assert probe.lift(100.5) == 0 and pacing(ours) == 1_250_000
    assert probe.lift(102.0) == 1 and pacing(ours) == UNLIMITED
    assert probe.lift(103.0) == 0


def test_any_rate_can_be_set(tuned: Pair) -> None:
    for rate in (2e9, 1e12, float("inf")):
        assert BbrProbe(tuned[1]).put_off(rate, 100.0, 9.0) == 1
