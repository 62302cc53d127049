"""Settled frames to readings: text is looked for, and every sink gets what was found."""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from math import nan

from common.frame import Frame, Outcome, Reading, Region, Result, Route
from common.packing import to_rgb, unpack
from common.pixels import Bytes
from edge_node.in_hand import InHand
from edge_node.ledger import Flight, Ledger
from edge_node.metrics import Activity
from edge_node.reader import Reader
from edge_node.sights import Sight, SightSink, Tracker
from edge_node.sinks import JsonLines, Shown, Sink
from edge_node.smaller import restored
from edge_node.spool import Entry
from edge_node.steps import Steps

log = logging.getLogger(__name__)

CLOSE_S = 60.0


@dataclass(frozen=True, slots=True)
class Arrived:
    """A settled frame that waits for the reader."""

    flight: Flight
    result: Result
    size: int  # of the result, in bytes
    enhanced: Bytes | None  # or the frame as it is
    route: Route = Route.CLOUD
    unix_ns: int = field(default_factory=time.time_ns)
    ns: int = field(default_factory=time.perf_counter_ns)
    published_unix_ns: int = 0  # when NATS had the result, by its clock; 0 = there was none

    @property
    def who(self) -> "Frame | Entry":
        """The frame, as it was before it went into the spool."""
        return self.flight.frame if self.flight.origin is None else self.flight.origin

    def original(self) -> Bytes | None:
        """The frame as it went to the cloud, in the camera's size, (H, W, 3) uint8 RGB; None where it did not."""
        if self.route is not Route.CLOUD:
            return None
        return restored(to_rgb(unpack(self.flight.frame.image)), self.flight.size)


class Arrivals:
    """One node's: essential frames are read first.

    Args:
        networks: the thread for the detector.
        on_read: called with a flight, the seconds that reading took, the regions and the picture.
        on_written: called with a flight, and whether the record has its line whole.
        on_unread: called with a kept flight and its result, when there is no time left to read it.
        tracker: follows text over the frames.
        activity: counts what was read.
    """

    def __init__(
        self,
        reader: Reader,
        sinks: Sequence[Sink],
        ledger: Ledger,
        in_hand: InHand,
        steps: Steps,
        networks: ThreadPoolExecutor,
        *,
        limit: int,
        on_read: Callable[[Flight, float, Sequence[Region], Bytes], None],
        on_written: Callable[[Flight, bool], None],
        on_unread: Callable[[Flight, Result], object],
        tracker: Tracker | None = None,
        activity: Activity | None = None,
    ) -> None:
        self.record = next((sink for sink in sinks if isinstance(sink, JsonLines)), None)
        self._reader, self._sinks, self._ledger, self._in_hand, self._steps = reader, sinks, ledger, in_hand, steps
        self.hurried = False  # nothing is read any more: what arrives is written down
        self._on_read, self._on_written, self._on_unread = on_read, on_written, on_unread
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="sinks")  # the tracker's and the sinks', in order
        self._queue: asyncio.PriorityQueue[tuple[int, int, Arrived]] = asyncio.PriorityQueue(limit)
        self._numbers = itertools.count()
        self._noting = asyncio.Lock()
        self._networks, self._tracker = networks, tracker
        self._activity = activity or Activity("")

    async def put(self, arrived: Arrived) -> None:
        """Have it read; waits for room."""
        await self._queue.put((arrived.who.priority, next(self._numbers), arrived))

    async def run(self) -> None:
        """Read until cancelled. Raises what the detector lacks."""
        # Beside the first frames' way to the cloud and back; what the detector lacks ends the node all the same.
        await asyncio.get_running_loop().run_in_executor(self._networks, self._reader.load)
        while True:
            _, _, arrived = await self._queue.get()
            if self.hurried and arrived.flight.kept is not None and arrived.enhanced is not None:
                self._on_unread(arrived.flight, arrived.result)
                continue
            try:
                await self._steps.watch("reader", self._read(arrived))
            except Exception:
                log.exception("the reading of frame %s could not be written", arrived.result.id)
                self._on_written(arrived.flight, False)
            if arrived.flight.origin is None:
                await self._in_hand.left(arrived.flight.here)

    async def write_lost(self, reading: Reading) -> bool:
        """The reading of a kept frame that was given up; whether the record has its line whole."""
        self._ledger.outcomes[reading.outcome] += 1
        return await self._note(Shown(reading, None, None, spooled=True))

    async def close(self) -> None:
        """End the sights and close the sinks, after what is being written; a sink that hangs is left behind."""
        closing = asyncio.get_running_loop().run_in_executor(self._writing, self._finish)
        self._writing.shutdown(wait=False)
        done, _ = await asyncio.wait({closing}, timeout=CLOSE_S)
        if not done:
            log.error("the sinks could not be closed within %.0f s: what they wrote last may be missing", CLOSE_S)

    def _finish(self) -> None:
        if self._tracker is not None:
            try:
                self._write_sights(self._tracker.close())
            except Exception:
                log.exception("the last sights could not be written")
        for sink in self._sinks:
            try:
                sink.close()
            except Exception:
                log.exception("a sink could not be closed")

    async def _read(self, arrived: Arrived) -> None:
        flight, result = arrived.flight, arrived.result
        regions: tuple[Region, ...] = ()
        if arrived.enhanced is not None and self.hurried:
            result = replace(result, outcome=Outcome.FAILED, reason="the edge node was stopped before it was read")
        elif arrived.enhanced is not None:
            start_s, loop = time.monotonic(), asyncio.get_running_loop()
            try:
                read = partial(self._reader.read, arrived.enhanced, arrived.original)
                regions = await loop.run_in_executor(self._networks, read)
            except Exception as error:
                log.exception("text detection failed on frame %s", result.id)
                result = replace(result, outcome=Outcome.FAILED, reason=f"text detection failed: {error}")
            spent_ns = time.perf_counter_ns() - arrived.ns
            flight.timeline.add("reader", arrived.unix_ns, spent_ns, (), regions=len(regions))
            self._on_read(flight, time.monotonic() - start_s, regions, arrived.enhanced)
        reading = reading_of(arrived, result, regions, time.monotonic_ns() - flight.captured_ns)
        sights: tuple[Sight, ...] = ()
        if self._tracker is not None and arrived.enhanced is not None and reading.outcome.is_read:
            follow = partial(self._tracker.observe, reading, arrived.enhanced, flight.captured_ns)
            try:
                reading, sights = await asyncio.get_running_loop().run_in_executor(self._writing, follow)
            except Exception:
                log.exception("the text of frame %s could not be followed", result.id)
        self._ledger.outcomes[reading.outcome] += 1
        self._ledger.paths[reading.path] += reading.outcome.is_read
        self._activity.on_reading(reading)
        if reading.outcome.is_read:
            self._activity.on_lag(reading.priority, arrived.published_unix_ns)
        reason = "" if reading.outcome.is_read else reading.reason
        outcome = reading.outcome.name.lower()
        about: dict[str, str | int] = {"lamplight.outcome": outcome, "lamplight.regions": len(regions)}
        flight.timeline.end(reason, {**about, "lamplight.route": reading.path.value, "lamplight.model": reading.model})
        with flight.timeline.stage("sinks"):
            shown = Shown(reading, arrived.enhanced, flight.dark, spooled=flight.origin is not None)
            whole = await self._note(shown, sights)
        self._on_written(flight, whole)

    async def _note(self, shown: Shown, sights: Sequence[Sight] = ()) -> bool:
        """Write a reading down; whether the record has its line whole."""
        async with self._noting:
            return await asyncio.get_running_loop().run_in_executor(self._writing, self._write, shown, sights)

    def _write(self, shown: Shown, sights: Sequence[Sight]) -> bool:
        whole = True
        for sink in self._sinks:
            try:
                sink.write(shown)
            except Exception:
                log.exception("the reading of frame %s could not be written", shown.reading.id)
                whole &= sink is not self.record
        if sights:
            self._write_sights(sights)
        return whole and (self.record is None or self.record.written)

    def _write_sights(self, changed: Sequence[Sight]) -> None:
        for sink in self._sinks:
            if isinstance(sink, SightSink):
                try:
                    sink.sights(changed)
                except Exception:
                    log.exception("sights could not be written")


def reading_of(arrived: Arrived, result: Result, regions: tuple[Region, ...], latency_ns: int) -> Reading:
    """What is known of a frame that was read."""
    flight, who = arrived.flight, arrived.who
    measured = arrived.route is Route.CLOUD  # it was there, where sharpness is measured
    sent = measured or bool(flight.sent_ns)
    return Reading(
        id=who.id,
        name=flight.name,
        captured_unix_ns=flight.frame.captured_unix_ns,
        priority=who.priority,
        outcome=result.outcome,
        path=arrived.route,
        regions=regions,
        reason=result.reason,
        model=result.model,
        sharpness_before=result.sharpness_before if measured else nan,
        sharpness_after=result.sharpness_after if measured else nan,
        latency_ns=latency_ns,
        stages_ns={**flight.timeline.stages_ns, **result.stages_ns},
        bytes_raw=flight.bytes_raw,
        bytes_up=len(flight.frame.image.payload) if sent else 0,
        bytes_down=arrived.size,
        sent_as=flight.sent_as if sent else "",
    )
