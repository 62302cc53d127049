"""Simulated edges against a cloud node that says what the test wants: a real gRPC server, and a real NATS server."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import numpy as np
import pytest
from results import make_result, publish, running_server, until
from scripted import Parts

from common.broker import Broker
from common.channel import server_options
from common.errors import BrokerUnavailable, CloudUnavailable, StreamRefused
from common.frame import Priority
from common.nats_server import EmbeddedServer
from common.packing import pack
from common.pixels import RawImage
from common.wire import result_to_proto
from edge_node.load import LoadSettings
from edge_node.load.fleet import Fleet
from edge_node.load.records import Ending, Measured
from edge_node.load.schedule import schedule
from edge_node.load.settings import Patience, Traffic
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import enhancement_pb2_grpc, frame_pb2

IMAGES = [pack(RawImage.from_rgb(np.full((16, 16, 3), level, np.uint8))) for level in (0, 9)]
Answer = Callable[[frame_pb2.Frame], Awaitable[list[pb.CloudMessage]]]


class Script(enhancement_pb2_grpc.EnhancementServicer):
    """Opens every stream and answers each frame as the test says; results go where `nats` is."""

    def __init__(self, nats: str, answer: Answer, window_frames: int) -> None:
        self.nats, self.answer, self.window_frames = nats, answer, window_frames
        self.broker: Broker | None = None
        self.refuse, self.break_at = "", -1  # frames
        self.openings: list[pb.Open] = []
        self.frames: list[frame_pb2.Frame] = []

    async def Stream(self, requests, context) -> AsyncIterator[pb.CloudMessage]:
        parts = Parts()
        async for message in requests:
            match message.WhichOneof("message"):
                case "open" if self.refuse:
                    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, self.refuse)
                case "open":
                    self.openings.append(message.open)
                    yield pb.CloudMessage(opened=await self._opened(message.open.edge))
                case "frame" | "part":
                    if (frame := parts.whole(message)) is None:
                        continue
                    self.frames.append(frame)
                    if len(self.frames) == self.break_at:
                        await context.abort(grpc.StatusCode.UNAVAILABLE, "broken by the test")
                    for answer in await self.answer(frame):
                        yield answer
                case "close":
                    return

    async def _opened(self, edge: str) -> pb.Opened:
        consumers = await self.broker.ensure_consumers(edge) if self.broker else []
        address = pb.ResultsAddress(
            servers=[self.nats],
            consumers=[
                pb.ResultsConsumer(priority=int(item.priority), stream=item.stream, consumer=item.name)
                for item in consumers
            ],
        )
        return pb.Opened(
            model="script-1",
            window_frames=self.window_frames,
            window_bytes=10**8,
            max_pixels=10**8,
            max_frame_bytes=10**8,
            results=address,
        )

    async def give_result(self, frame: frame_pb2.Frame) -> None:
        opening = self.openings[-1]
        made = make_result(
            frame.sequence, priority=Priority(frame.priority), edge=opening.edge, session=opening.session,
            attempt=frame.attempt,
        )  # fmt: skip
        message_id = f"{made.id}/{made.attempt}"
        await publish(
            self.broker, opening.edge, made.priority, result_to_proto(made).SerializeToString(), message_id,
            {"Lamplight-Frame": str(made.id)},
        )  # fmt: skip


async def say_nothing(frame: frame_pb2.Frame) -> list[pb.CloudMessage]:
    return []


def credit(frame: frame_pb2.Frame) -> pb.CloudMessage:
    return pb.CloudMessage(credit=pb.Credit(frames=1, bytes=len(frame.image.payload)))


def rejected(frame: frame_pb2.Frame, retry_after_ms: int = 0) -> list[pb.CloudMessage]:
    verdict = pb.Rejected(
        sequence=frame.sequence, attempt=frame.attempt, reason=pb.REJECT_REASON_OVERLOADED, detail="not now",
        retry_after_ms=retry_after_ms,
    )  # fmt: skip
    return [pb.CloudMessage(rejected=verdict), credit(frame)]


@pytest.fixture
async def nats() -> AsyncIterator[EmbeddedServer]:
    async with running_server() as server:
        yield server


@asynccontextmanager
async def scripted(
    nats: str, answer: Answer = say_nothing, window_frames: int = 2
) -> AsyncIterator[tuple[str, Script]]:
    """A running Script, and its address."""
    script = Script(nats, answer, window_frames)
    server = grpc.aio.server(options=server_options())
    enhancement_pb2_grpc.add_EnhancementServicer_to_server(script, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", script
    finally:
        await server.stop(None)


@asynccontextmanager
async def publishing(script: Script, nats: EmbeddedServer) -> AsyncIterator[None]:
    script.broker = await Broker.connect(nats.url)
    try:
        await script.broker.ensure_streams()
        yield
    finally:
        await script.broker.close()


def settings(cloud: str, **changed: object) -> LoadSettings:
    base = LoadSettings(
        source="unused", edges=1, fps=50.0, duration_s=1.0, warm_up_s=0.0, cloud=cloud,
        patience=Patience(timeout_s=0.2),
    )  # fmt: skip
    return replace(base, **changed)


async def play(given: LoadSettings, stop: asyncio.Event | None = None) -> Measured:
    fleet = Fleet(given, range(given.edges), IMAGES)
    try:
        await fleet.connect()
        return await fleet.play(time.monotonic() + 0.1, stop or asyncio.Event())
    finally:
        await fleet.close()


def reasons(measured: Measured) -> dict[str, int]:
    return {reason: count for (_, reason), count in measured.reasons.items()}


async def test_a_closed_window_does_not_shift_the_times_that_frames_are_meant_to_be_sent(nats: EmbeddedServer) -> None:
    async with scripted(nats.edge_url()) as (cloud, script):
        given = settings(cloud, traffic=Traffic(backlog=10))
        measured = await play(given)
    rows = measured.rows
    assert rows["due_s"].tolist() == [arrival.due_s for arrival in schedule(given, 0)]
    assert [Priority(number) for number in rows["priority"]] == [arrival.priority for arrival in schedule(given, 0)]
    assert len(script.frames) == 2, "two frames fit the window, and no credit came"
    endings = np.bincount(rows["ending"], minlength=len(Ending))
    assert (endings[Ending.LOST], endings[Ending.DROPPED], rows.size) == (2, 48, 50)
    assert reasons(measured) == {
        "no answer came": 2,
        "the edge's backlog was full": 38,
        "the run was over before it could be sent": 10,
    }


async def test_a_stalled_event_loop_is_told_as_lateness_and_leaves_no_frame_out(nats: EmbeddedServer) -> None:
    async with scripted(nats.edge_url()) as (cloud, _):
        given = settings(cloud)
        loop = asyncio.get_running_loop()
        loop.call_later(0.5, time.sleep, 0.4)
        rows = (await play(given)).rows
    assert rows["due_s"].tolist() == [arrival.due_s for arrival in schedule(given, 0)]
    assert rows["late_ms"].max() > 200


async def test_results_end_frames_and_latency_counts_from_the_intended_time(nats: EmbeddedServer) -> None:
    async def answer(frame: frame_pb2.Frame) -> list[pb.CloudMessage]:
        await asyncio.sleep(0.02)  # slower than the frames come: the later ones wait
        await script.give_result(frame)
        return [credit(frame)]

    async with scripted(nats.edge_url(), answer, 1) as (cloud, script), publishing(script, nats):
        given = settings(cloud, duration_s=0.5, fps=100.0, patience=Patience(timeout_s=60.0))
        measured = await play(given)
    rows = measured.rows
    assert (rows["ending"] == Ending.ENHANCED).all() and rows.size == 50
    assert sorted(frame.sequence for frame in script.frames) == list(range(50))
    # One every 20 ms at most, while one was due every 10 ms: the last of them waited for half of all.
    assert rows["latency_ms"].max() > 400 and (rows["sent_ms"] <= rows["latency_ms"]).all()
    assert len({frame.image.payload for frame in script.frames}) == len(IMAGES)
    essential = rows[rows["priority"] == Priority.ESSENTIAL]
    assert essential["latency_ms"].mean() < rows["latency_ms"].mean(), "essential frames overtake in the edge"


async def test_a_rejected_frame_is_counted_by_its_reason(nats: EmbeddedServer) -> None:
    async def answer(frame: frame_pb2.Frame) -> list[pb.CloudMessage]:
        return rejected(frame, retry_after_ms=10)

    async with scripted(nats.edge_url(), answer) as (cloud, script):
        measured = await play(settings(cloud, patience=Patience(timeout_s=60.0)))
    assert reasons(measured) == {"overloaded: not now": 50} and len(script.frames) == 50
    assert (measured.rows["ending"] == Ending.REJECTED).all() and (measured.rows["latency_ms"] > 0).all()


async def test_with_retry_it_is_sent_again_and_counts_from_its_first_time(nats: EmbeddedServer) -> None:
    async def answer(frame: frame_pb2.Frame) -> list[pb.CloudMessage]:
        if frame.attempt < 2:
            return rejected(frame, retry_after_ms=100)
        await script.give_result(frame)
        return [credit(frame)]

    async with scripted(nats.edge_url(), answer, 8) as (cloud, script), publishing(script, nats):
        given = settings(cloud, fps=10.0, traffic=Traffic(retry=True), patience=Patience(timeout_s=60.0))
        measured = await play(given)
    assert (measured.rows["ending"] == Ending.ENHANCED).all()
    assert (measured.rows["attempts"] == 3).all() and (measured.rows["latency_ms"] > 200).all()


async def test_what_is_turned_away_until_the_end_is_rejected(nats: EmbeddedServer) -> None:
    async def answer(frame: frame_pb2.Frame) -> list[pb.CloudMessage]:
        return rejected(frame, retry_after_ms=60_000)

    async with scripted(nats.edge_url(), answer) as (cloud, _):
        given = settings(cloud, fps=10.0, traffic=Traffic(retry=True), patience=Patience(timeout_s=2.0))
        measured = await play(given)
    assert reasons(measured) == {"overloaded: not now": 10}


async def test_frames_expire_while_the_window_is_closed(nats: EmbeddedServer) -> None:
    async with scripted(nats.edge_url()) as (cloud, script):
        measured = await play(settings(cloud, traffic=Traffic(deadline_ms=100, backlog=8)))
    assert {frame.deadline_ms for frame in script.frames} <= set(range(1, 101))
    assert reasons(measured) == {"no answer came": 2, "its deadline passed before it could be sent": 48}


async def test_a_stream_that_breaks_is_opened_again_and_what_was_on_it_is_sent_again(nats: EmbeddedServer) -> None:
    async def answer(frame: frame_pb2.Frame) -> list[pb.CloudMessage]:
        if len(script.openings) == 1:  # the first stream takes frames and answers nothing
            return [credit(frame)]
        await script.give_result(frame)
        return [credit(frame)]

    async with scripted(nats.edge_url(), answer) as (cloud, script), publishing(script, nats):
        script.break_at = 5
        given = settings(cloud, fps=20.0, traffic=Traffic(retry=True), patience=Patience(timeout_s=60.0))
        measured = await play(given)
    assert (measured.rows["ending"] == Ending.ENHANCED).all() and measured.rows.size == 20
    assert measured.reopened == 1 and len(script.openings[1].unsettled) >= 5


async def test_stop_ends_arrivals_and_still_waits_for_answers(nats: EmbeddedServer) -> None:
    stop = asyncio.Event()
    async with scripted(nats.edge_url()) as (cloud, script):
        playing = asyncio.create_task(play(settings(cloud, duration_s=600.0), stop))
        await until(lambda: len(script.frames) == 2)
        stop.set()
        measured = await playing
    assert 0 < measured.ended_s < 600 and reasons(measured)["no answer came"] == 2
    assert measured.endings.sum() == measured.offered.sum() == measured.rows.size


async def test_nobody_there_and_refused_and_no_nats(free_port: int, nats: EmbeddedServer) -> None:
    soon = Patience(connect_timeout_s=0.5)
    with pytest.raises(CloudUnavailable, match=f"no cloud node at 127.0.0.1:{free_port}"):
        await play(settings(f"127.0.0.1:{free_port}", patience=soon))
    async with scripted(nats.edge_url()) as (cloud, script):
        script.refuse = "edge name 'load-0000' is in use"
        with pytest.raises(StreamRefused, match="is in use"):
            await play(settings(cloud, edges=3, patience=Patience(connect_timeout_s=60.0)))
    async with scripted(f"nats://user:secret@127.0.0.1:{free_port}") as (cloud, _):
        with pytest.raises(BrokerUnavailable, match=rf"nats://\*\*\*@127.0.0.1:{free_port}.*--nats"):
            await play(settings(cloud, patience=Patience(connect_timeout_s=2.0)))
