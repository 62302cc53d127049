"""What arrives is read in its order and written down, whatever fails."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import numpy as np
import pytest

from common import packing
from common.frame import Frame, FrameId, Outcome, Priority, Reading, Result, Route
from common.pixels import RawImage
from common.telemetry import Timeline
from edge_node import arrivals
from edge_node.arrivals import Arrivals, Arrived
from edge_node.in_hand import InHand
from edge_node.ledger import Flight, Ledger
from edge_node.reader import Reader
from edge_node.sinks import Shown
from edge_node.smaller import smaller
from edge_node.steps import Steps

RGB = np.zeros((48, 64, 3), np.uint8)
PACKED = packing.pack(RawImage.from_rgb(RGB))


class Slow:
    """A detector that waits until it may."""

    def __init__(self) -> None:
        self.reached, self.go = threading.Event(), threading.Event()

    def detect(self, rgb: np.ndarray) -> tuple:
        self.reached.set()
        assert self.go.wait(60)
        return ()


class Sink:
    def __init__(self, failing: bool = False) -> None:
        self.readings: list[Reading] = []
        self.failing = failing

    def write(self, shown: Shown) -> None:
        if self.failing:
            raise ValueError("no")
        self.readings.append(shown.reading)

    def close(self) -> None:
        pass


class Recorder(Sink):
    """Tells what is called when, and takes its time to write."""

    def __init__(self, told: list[str], go: threading.Event, failing: bool = False) -> None:
        super().__init__(failing)
        self.told, self.go = told, go

    def write(self, shown: Shown) -> None:
        self.told.append("write")
        assert self.go.wait(60)
        self.told.append("written")

    def sights(self, changed: tuple) -> None:
        self.told.append("sights")

    def close(self) -> None:
        self.told.append("close")
        if self.failing:
            raise ValueError("no")


class Follower:
    """A tracker, with what it should fail at."""

    def __init__(self, told: list[str], fails: str = "") -> None:
        self.told, self.fails = told, fails

    def observe(self, reading: Reading, rgb: np.ndarray) -> tuple:
        if self.fails == "observe":
            raise ValueError("no")
        return reading, ()

    def close(self) -> tuple:
        self.told.append("tracker")
        if self.fails == "close":
            raise ValueError("no")
        return ("a sight",)


class House:
    def __init__(self, *sinks: Sink, detector: Slow | None = None, tracker: Follower | None = None) -> None:
        self.in_hand, self.written, self.unread = InHand(), list[tuple[int, bool]](), list[int]()
        self.arrivals = Arrivals(
            Reader(detector),
            sinks,
            Ledger(),
            self.in_hand,
            Steps(),
            ThreadPoolExecutor(1),
            limit=8,
            on_read=lambda *about: None,
            on_written=lambda flight, whole: self.written.append((flight.sequence, whole)),
            on_unread=lambda flight, result: self.unread.append(flight.sequence),
            tracker=tracker,
        )

    async def arrive(self, sequence: int, priority: Priority = Priority.STANDARD, kept: bool = False) -> None:
        frame = Frame(FrameId("e", "s", sequence), PACKED, 10**18, priority)
        flight = Flight(frame, f"#{sequence}", None, 9216, Timeline.begin(10**18, {}), 0)
        if kept:
            flight.kept = asyncio.get_running_loop().create_future()
        self.in_hand.took(False)
        result = Result(frame.id, 0, priority, 10**18, Outcome.ENHANCED, model="m")
        await self.arrivals.put(Arrived(flight, result, 0, RGB))

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.005)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.arrivals.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_an_essential_frame_is_read_before_others_that_came_first() -> None:
    sink, slow = Sink(), Slow()
    house = House(sink, detector=slow)
    async with house.running():
        await house.arrive(0)
        await house.until(slow.reached.is_set)
        for sequence in (1, 2):
            await house.arrive(sequence)
        await house.arrive(3, Priority.ESSENTIAL)
        slow.go.set()
        await house.until(lambda: len(sink.readings) == 4)
    assert [reading.id.sequence for reading in sink.readings] == [0, 3, 1, 2] and house.in_hand.frames == 0


def test_the_dark_frame_has_the_size_of_what_is_read_whatever_was_sent() -> None:
    """Else a frame that was sent smaller is never read again with it."""
    dark = RawImage.from_rgb(np.random.default_rng(0).integers(0, 30, (48, 64, 3), dtype=np.uint8))
    frame = Frame(FrameId("e", "s", 1), packing.pack(smaller(dark, 0.5)), 10**18)
    assert (frame.image.width, frame.image.height) == (32, 24)
    flight = Flight(frame, "#1", None, 9216, Timeline({}), 0, (64, 48))
    result = Result(frame.id, 0, Priority.STANDARD, 10**18, Outcome.ENHANCED, model="m")
    there = Arrived(flight, result, 0, RGB).original()
    assert there is not None and there.shape == RGB.shape and 0 < there.mean() < 30


async def test_a_sink_that_fails_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink()
    house = House(Sink(failing=True), sink)
    async with house.running():
        await house.arrive(0)
        await house.until(lambda: house.written)
    assert house.written == [(0, True)] and len(sink.readings) == 1 and "could not be written" in caplog.text


async def test_when_time_is_up_kept_frames_wait_for_the_next_run_and_others_are_written_down() -> None:
    sink, slow = Sink(), Slow()
    house = House(sink, detector=slow)
    async with house.running():
        await house.arrive(0)
        await house.until(slow.reached.is_set)
        await house.arrive(1, kept=True)
        await house.arrive(2)
        house.arrivals.hurried = True
        slow.go.set()
        await house.until(lambda: len(sink.readings) == 2)
    assert house.unread == [1]
    assert [(reading.id.sequence, reading.outcome) for reading in sink.readings] == [
        (0, Outcome.ENHANCED),
        (2, Outcome.FAILED),
    ]


async def test_a_tracker_that_fails_costs_no_reading(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink()
    house = House(sink, tracker=Follower([], "observe"))
    async with house.running():
        await house.arrive(0)
        await house.until(lambda: house.written)
    assert house.written == [(0, True)] and len(sink.readings) == 1
    assert sink.readings[0].outcome is Outcome.ENHANCED and "could not be followed" in caplog.text


async def test_closing_waits_for_what_is_being_written() -> None:
    told, go = list[str](), threading.Event()
    house = House(Recorder(told, go), tracker=Follower(told))
    async with house.running():
        await house.arrive(0)
        await house.until(lambda: told)
    closing = asyncio.create_task(house.arrivals.close())  # the frame was given up; its thread still writes
    await asyncio.sleep(0.05)
    go.set()
    await closing
    assert told == ["write", "written", "tracker", "sights", "close"]


@pytest.mark.parametrize("fails", ["", "close"])
async def test_what_cannot_be_closed_leaves_nothing_else_open(fails: str, caplog: pytest.LogCaptureFixture) -> None:
    told, go = list[str](), threading.Event()
    house = House(Recorder(told, go, failing=True), Recorder(told, go), tracker=Follower(told, fails))
    await house.arrivals.close()
    assert told == ["tracker", *(["sights"] * 2 if not fails else []), "close", "close"]
    assert "a sink could not be closed" in caplog.text


async def test_a_sink_that_hangs_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(arrivals, "CLOSE_S", 0.05)
    told, go = list[str](), threading.Event()
    house = House(Recorder(told, go))
    async with house.running():
        await house.arrive(0)
        await house.until(lambda: told)
    await house.arrivals.close()
    assert "could not be closed within" in caplog.text
    go.set()


def test_the_dark_frame_is_at_hand_where_the_cloud_had_it() -> None:
    dark = np.random.default_rng(0).integers(0, 20, (48, 64, 3), np.uint8)
    frame = Frame(FrameId("e", "s", 0), packing.pack(RawImage.from_rgb(dark)), 10**18)
    flight = Flight(frame, "#0", None, dark.size, Timeline({}), 0, (64, 48))
    result = Result(frame.id, 0, Priority.STANDARD, 10**18, Outcome.ENHANCED, model="m")
    there = Arrived(flight, result, 0, dark * 10).original()
    assert there is not None and np.array_equal(there, dark)
    assert Arrived(flight, result, 0, dark * 10, Route.EDGE).original() is None
