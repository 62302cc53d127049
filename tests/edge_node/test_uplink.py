"""An uplink against cloud fronts: real gRPC servers on loopback."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
import numpy as np
import pytest
from hand_edges import serving

from cloud_node.settings import CloudSettings
from cloud_node.settings import Window as Granted
from common import packing
from common.channel import server_options, with_ports
from common.errors import CloudUnavailable, StreamRefused
from common.frame import Frame, FrameId, Priority
from common.pixels import RawImage
from edge_node import uplink as uplink_module
from edge_node.uplink import Uplink
from edge_node.window import Window
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import enhancement_pb2_grpc

HANG_S = 30


class Edge:
    """An uplink, and what it was told."""

    def __init__(self, address: str, edge: str = "e", part_bytes: int = 10**6, **more: float) -> None:
        self.opened: list[pb.Opened] = []
        self.rejected: list[pb.Rejected] = []
        self.unsettled: list[int] = []
        self.uplink = Uplink(
            address,
            opening=lambda: pb.Open(edge=edge, session="s", unsettled=self.unsettled),
            on_opened=self.opened.append,
            on_rejected=self.rejected.append,
            part_bytes=part_bytes,
            **more,
        )

    async def send(self, sequence: int, priority: Priority = Priority.STANDARD, side: int = 64) -> None:
        frame = make_frame(sequence, priority, side)
        async with asyncio.timeout(HANG_S):
            await self.uplink.reserve(frame)
            await self.uplink.send(frame)

    async def until(self, condition) -> None:
        async with asyncio.timeout(HANG_S):
            while not condition():
                await asyncio.sleep(0.01)


def make_frame(sequence: int, priority: Priority = Priority.STANDARD, side: int = 64) -> Frame:
    noise = np.random.default_rng(sequence).integers(0, 255, (side, side, 3), np.uint8)
    return Frame(FrameId("e", "s", sequence), packing.pack(RawImage.from_rgb(noise)), 1, priority)


@asynccontextmanager
async def running(edge: Edge) -> AsyncIterator[Edge]:
    task = asyncio.create_task(edge.uplink.run())
    try:
        yield edge
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_next_of_the_list_serves_when_one_is_away(free_port: int) -> None:
    async with serving() as (front, address):
        edge = Edge(f"127.0.0.1:{free_port},{address}")
        edge.unsettled = [7]
        async with running(edge):
            await edge.until(lambda: edge.opened)
            assert edge.uplink.address == address
            await edge.send(0)
            await edge.until(lambda: front.sequences("e") == [0])


async def test_a_node_that_goes_away_hands_over_to_the_next(caplog: pytest.LogCaptureFixture) -> None:
    async with contextlib.AsyncExitStack() as second, serving() as (other, other_address):
        front, address = await second.enter_async_context(serving())
        async with running(Edge(f"{address},{other_address}")) as edge:
            await edge.until(lambda: edge.opened)
            await edge.send(0)
            await edge.until(lambda: front.sequences("e") == [0])
            await second.aclose()
            await edge.until(lambda: len(edge.opened) == 2)
            await edge.send(1)
            await edge.until(lambda: other.sequences("e") == [1])
    assert f"no cloud node at {address}" in caplog.text


async def test_refused_by_every_node_ends_it_and_by_one_does_not() -> None:
    async with serving() as (_, first), serving() as (_, second):
        with pytest.raises(StreamRefused, match="edge name"):
            async with asyncio.timeout(HANG_S):
                await Edge(f"{first},{second}", edge="not a name").uplink.run()


async def test_no_node_answers_in_time(free_port: int) -> None:
    address = f"127.0.0.1:{free_port}"
    with pytest.raises(CloudUnavailable, match=f"{address} or {address}"):
        async with asyncio.timeout(HANG_S):
            await Edge(f"{address},{address}", connect_timeout_s=0.3).uplink.run()


async def test_the_link_is_measured_by_what_the_node_says_anyway() -> None:
    async with serving() as (front, address), running(Edge(address)) as edge:
        await edge.until(lambda: edge.opened)
        for sequence in range(4):
            await edge.send(sequence, side=512)
        await edge.until(lambda: len(front.sequences("e")) == 4)
        await edge.until(lambda: edge.uplink.meter.in_flight == 0)
        assert edge.uplink.meter.rate > 10**5 and 0 < edge.uplink.meter.round_trip_s < HANG_S


async def test_a_slow_link_gets_small_parts_and_they_come_together() -> None:
    async with serving() as (front, address), running(Edge(address)) as edge:
        await edge.until(lambda: edge.opened)
        edge.uplink.meter.rate = 100_000.0
        frame = make_frame(0, side=128)
        assert len(frame.image.payload) > 4 * edge.uplink._part_bytes()
        await edge.uplink.reserve(frame)
        await edge.uplink.send(frame)
        await edge.until(lambda: front.sequences("e") == [0])


async def test_an_idle_stream_is_kept_and_says_when_it_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uplink_module, "IDLE_PING_S", 0.0)
    async with serving() as (_, address), running(Edge(address)) as edge:
        await edge.until(lambda: edge.opened)
        heard_s = edge.uplink._heard_s
        await edge.until(lambda: edge.uplink._heard_s > heard_s)
        assert len(edge.opened) == 1


class Silent(enhancement_pb2_grpc.EnhancementServicer):
    """Opens every stream, and accepts frames until it says nothing any more."""

    def __init__(self) -> None:
        self.silent = False

    async def Stream(self, requests, context) -> AsyncIterator[pb.CloudMessage]:
        async for message in requests:
            if message.HasField("open"):
                limits = {"max_pixels": 10**8, "max_frame_bytes": 10**8}
                yield pb.CloudMessage(opened=pb.Opened(window_frames=8, window_bytes=10**8, **limits))
            elif message.HasField("frame") and not self.silent:
                yield pb.CloudMessage(accepted=pb.Accepted(sequence=message.frame.sequence))


async def test_a_stream_without_progress_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    server, servicer = grpc.aio.server(options=server_options()), Silent()
    enhancement_pb2_grpc.add_EnhancementServicer_to_server(servicer, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        async with running(Edge(address)) as edge:
            await edge.until(lambda: edge.opened)
            await edge.send(0)
            await edge.until(lambda: edge.uplink.meter.in_flight == 0)
            assert len(edge.opened) == 1
            servicer.silent = True
            monkeypatch.setattr("edge_node.link.STALL_S", 0.2)
            await edge.send(1)
            await edge.until(lambda: len(edge.opened) >= 2)
        assert "no progress" in caplog.text
    finally:
        await server.stop(0)


async def test_a_place_is_kept_for_essential_frames() -> None:
    """The node takes nothing to its device: bulk frames fill the window, all but one place."""
    settings = CloudSettings(window=Granted(window_frames=3))
    async with serving(settings) as (front, address), running(Edge(address)) as edge:
        await edge.until(lambda: edge.opened)
        front.working = False
        await edge.send(0, Priority.ESSENTIAL)
        await edge.until(lambda: front.scheduler)
        front.work()
        await edge.until(lambda: edge.uplink.window.frames == 3)
        await edge.send(1, Priority.SECONDARY)
        await edge.send(2, Priority.SECONDARY)
        bulk = asyncio.create_task(edge.send(3, Priority.SECONDARY))
        await edge.send(4, Priority.ESSENTIAL)
        assert not bulk.done()
        await edge.until(lambda: front.scheduler)
        front.working = True
        await edge.until(lambda: front.work() or front.sequences("e") == [0, 1, 2, 3, 4])
        await bulk


async def test_on_a_slow_link_bulk_waits_for_an_essential_frame_that_is_expected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uplink_module, "EXPECTED_S", HANG_S)
    async with serving() as (front, address), running(Edge(address)) as edge:
        await edge.until(lambda: edge.opened)
        edge.uplink._tuned = True
        edge.uplink.expect()
        bulk = asyncio.create_task(edge.send(0, Priority.SECONDARY))
        await edge.until(lambda: edge.uplink._queue and not edge.uplink._queued.is_set())
        await asyncio.sleep(0.05)
        assert not bulk.done()
        await edge.send(1, Priority.ESSENTIAL)
        await bulk
        await edge.until(lambda: front.sequences("e") == [0, 1])


async def test_bulk_does_not_wait_for_ever_for_what_does_not_come() -> None:
    async with serving() as (front, address), running(Edge(address)) as edge:
        await edge.until(lambda: edge.opened)
        edge.uplink._tuned = True
        edge.uplink.expect()
        await edge.send(0, Priority.SECONDARY)
        await edge.until(lambda: front.sequences("e") == [0])


async def test_once_an_essential_frame_is_through_bbrs_probe_is_put_off() -> None:
    async with serving() as (_, address), running(Edge(address)) as edge:
        await edge.until(lambda: edge.opened)
        edge.uplink._tuned, edge.uplink.meter.rate = True, 1e6
        await edge.send(0, Priority.SECONDARY)
        await edge.until(lambda: not edge.uplink.meter.in_flight)
        assert edge.uplink._probe.put_off_s == float("-inf")
        await edge.send(1, Priority.ESSENTIAL)
        first_s = edge.uplink._probe.put_off_s = edge.uplink._probe.put_off_s - 3.0
        await edge.until(lambda: not edge.uplink._urgent)
        assert float("-inf") < first_s < edge.uplink._probe.put_off_s


async def test_frames_that_are_ahead_of_the_link_wait_here() -> None:
    window = Window(lambda granted: 1)
    await window.reset(4, 1000)
    await window.take(100, Priority.STANDARD, "a")
    waiting = asyncio.create_task(window.take(100, Priority.STANDARD, "b"))
    await window.take(100, Priority.ESSENTIAL, "c")
    await asyncio.sleep(0)
    assert not waiting.done()
    await window.arrived("a")
    async with asyncio.timeout(HANG_S):
        await waiting


async def test_a_window_that_became_one_frame_wide_still_moves() -> None:
    """A place is kept for essential frames, but not when nothing else would ever go."""
    window = Window(lambda granted: granted)
    await window.reset(4, 1000)
    await window.take(10, Priority.ESSENTIAL, "e")
    await window.take(10, Priority.STANDARD, "a")
    await window.take(10, Priority.STANDARD, "b")
    assert not window.has_room(Priority.STANDARD) and window.has_room(Priority.ESSENTIAL)
    for key in "eab":  # the cloud node narrows the window: bytes come back, and no frames
        await window.arrived(key)
        await window.credit(0, 10)
    assert window.frames == 1 and window.has_room(Priority.STANDARD)


async def test_credit_alone_says_that_frames_arrived() -> None:
    """A node that leaves out Accepted does not close the window."""
    window = Window(lambda granted: 2)
    await window.reset(4, 1000)
    async with asyncio.timeout(HANG_S):
        for number in range(10):
            await window.take(100, Priority.STANDARD, number)
            await window.credit(1, 100)


def test_addresses_get_their_ports() -> None:
    assert with_ports("a, b:7 ,[::1]:9,") == "a:50051,b:7,[::1]:9"


async def test_one_that_refuses_is_not_all_while_another_is_away(free_port: int) -> None:
    """It used to end when one node had refused as often as the list is long."""
    async with serving() as (_, refusing):
        edge = Edge(f"{refusing},127.0.0.1:{free_port}", edge="not a name")
        async with running(edge):
            await edge.until(lambda: edge.uplink.clouds._backoff.tries >= 3)
