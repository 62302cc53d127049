"""The life of an edge node: take frames, send, receive, read, until the source ends or someone stops it."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

from common import packing
from common.errors import CloudUnavailable, ImageError
from common.flow import BoundedQueue, Policy, QueueClosed
from common.frame import Frame, FrameId, Outcome, Reading, Region, Result
from common.pixels import Bytes
from common.telemetry import Timeline
from edge_node.backlog import PAUSE_S, Backlog
from edge_node.capture import capture
from edge_node.downlink import Downlink
from edge_node.ledger import Flight, Ledger
from edge_node.reader import Reader
from edge_node.settings import EdgeSettings
from edge_node.sinks import JsonLines, Shown, Sink
from edge_node.sources import Captured, Source
from edge_node.uplink import Uplink
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import image_pb2

log = logging.getLogger(__name__)

STOP_GRACE_S = 5.0  # for what is on its way when someone stops the node
PLACE_POLL_S = 0.02
KEPT_WAITING = 8  # frames of a live source that wait to be kept
LOST_CLOCK_NS = 60_000_000_000  # a frame that seems to wait longer for being taken comes from a clock that jumped


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A settled frame that waits for the reader."""

    flight: Flight
    result: Result
    size: int
    enhanced: Bytes | None
    unix_ns: int = field(default_factory=time.time_ns)
    ns: int = field(default_factory=time.perf_counter_ns)


class EdgeNode:
    """Frames from a source to readings in sinks.

    Use it as `await node.run(stop)`: it returns when the source has ended and every frame is read, or soon
    after `stop` was set. Every frame that was taken ends as one reading.
    """

    def __init__(self, settings: EdgeSettings, source: Source, reader: Reader, sinks: Sequence[Sink]) -> None:
        self.settings, self.source, self.reader, self.sinks = settings, source, reader, sinks
        self.session = os.urandom(6).hex()
        self.ledger = Ledger()
        policy = Policy.DROP_OLDEST if source.live else Policy.WAIT
        self.captured: BoundedQueue[Captured] = BoundedQueue("source", 1 if source.live else 2, policy)
        self.record = next((sink for sink in sinks if isinstance(sink, JsonLines)), None)
        self._arrived: BoundedQueue[_Arrived] = BoundedQueue("reader", settings.sending.in_flight + 1, Policy.WAIT)
        self._unread = 0  # frames taken and not yet read; those from the spool are apart
        self._changed = asyncio.Condition()
        self._noting = asyncio.Lock()
        self._uplink = Uplink(
            settings.cloud,
            opening=self._opening,
            on_opened=self._opened,
            on_rejected=self._rejected,
            part_bytes=settings.sending.part_kib * 1024,
            connect_timeout_s=settings.connect_timeout_s,
        )
        self.backlog = Backlog(
            settings,
            self.session,
            self.ledger,
            self.record,
            self._uplink,
            live=lambda: len(self.captured) > 0 or self._unread > 0,
            launch=self._launch,
            write=self._write_lost,
            spawn=self._spawn,
            notify=lambda: self._count_unread(0),
        )
        if source.live and self.backlog.keeping.keeps(settings.sending.priority):
            self.captured.limit = KEPT_WAITING
        self._downlink: Downlink | None = None
        self._address: pb.ResultsAddress | None = None
        self._receiving: asyncio.Task[None] | None = None
        self._forwarding: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[Any]] = set()
        self._pixels = ThreadPoolExecutor(2, thread_name_prefix="pixels")
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="reader")

    async def run(self, stop: asyncio.Event) -> None:
        """Run to the end.

        Raises:
            LamplightError: the source broke, or no cloud node could be used.
        """
        await self.backlog.keeping.open()
        frames = asyncio.create_task(capture(self.source, self.captured, self.settings.fps))
        keeps = self.source.live and self.backlog.keeping.keeps(self.settings.sending.priority)
        send = asyncio.create_task(self._send_or_keep_frames() if keeps else self._send_frames())
        lives = (self._uplink.run(), self._care(), self._read_arrived(), self.backlog.run())
        parts = [asyncio.create_task(part) for part in lives]
        finish = asyncio.create_task(self._finish(frames, send))
        halt = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({finish, halt, *parts}, return_when=asyncio.FIRST_COMPLETED)
            _raise_failure(parts)
            if not finish.done():
                log.warning("stopping: %d frames are on their way", self._unread)
                self.source.close()
                await self.captured.close(discard=True)
                send.cancel()
                await self._count_unread(0, stopping=True)
                await asyncio.wait({finish, *parts}, timeout=STOP_GRACE_S, return_when=asyncio.FIRST_COMPLETED)
                _raise_failure(parts)
                await self._give_up("the edge node was stopped before its result came")
            else:
                finish.result()
        finally:
            self.source.close()
            await self._close([frames, send, finish, halt, *parts])

    async def _finish(self, frames: "asyncio.Task[None]", send: "asyncio.Task[None]") -> None:
        """Until every frame is sent and read; then raises what broke the source, if anything did."""
        await asyncio.wait({send})
        await asyncio.wait({frames}, timeout=1.0)
        broken = frames.done() and not frames.cancelled() and frames.exception() is not None
        async with self._changed:
            await self._changed.wait_for(lambda: self._unread == 0 and (broken or self.backlog.done))
        if not send.cancelled():
            send.result()
        if frames.done() and not frames.cancelled():
            frames.result()

    # --- out ---

    async def _send_frames(self) -> None:
        """Take a frame once it can go, so that a live source waits with its newest."""
        taken = 0
        while await self.captured.ready():
            async with self._changed:
                await self._changed.wait_for(lambda: self._unread < self.settings.sending.in_flight)
            await self._uplink.window.open()
            try:
                captured = await self.captured.get()
            except QueueClosed:
                return
            self._unread += 1
            await asyncio.shield(self._spawn(self._forward(captured)))
            taken += 1
            if taken == self.settings.limit:
                self.source.close()
                await self.captured.close(discard=True)

    async def _send_or_keep_frames(self) -> None:
        """Take every frame of a live source at once: the newest goes when it can, the others wait in the spool."""
        taken = 0
        async for captured in self.captured:
            self._unread += 1
            await asyncio.shield(self._spawn(self._send_or_keep(captured)))
            taken += 1
            if taken == self.settings.limit:
                self.source.close()
                await self.captured.close(discard=True)

    async def _send_or_keep(self, captured: Captured) -> None:
        flight = await self._pack(captured)
        self.backlog.keep(flight)
        while not (place := self._has_place()) and not self.backlog.stopping:
            newest = self._uplink.connected and not len(self.captured)
            if not newest and self.backlog.takes(flight.frame.priority):
                break
            await asyncio.sleep(PLACE_POLL_S)
        self.ledger.add(flight)
        if place:
            self._forwarding = self._spawn(self._deliver(flight))
        else:
            if flight.kept is not None:
                await asyncio.wait({flight.kept})  # no more frames in memory than the disk takes
            self._settle(flight.sequence, Outcome.FAILED, "it could be neither sent nor kept", final=False)

    def _has_place(self) -> bool:
        """Whether one more live frame may go now."""
        busy = self._forwarding is not None and not self._forwarding.done()
        return not busy and self._uplink.window.frames > 0 and self._unread <= self.settings.sending.in_flight

    async def _forward(self, captured: Captured) -> None:
        """Pack and send."""
        flight = await self._pack(captured)
        self.ledger.add(flight)
        self.backlog.keep(flight)
        await self._deliver(flight)

    async def _launch(self, flight: Flight) -> None:
        """Send a frame from the spool."""
        self.ledger.add(flight)
        await self._deliver(flight)

    async def _pack(self, captured: Captured) -> Flight:
        settings, image = self.settings, captured.image
        taken_unix_ns, taken_ns = time.time_ns(), time.monotonic_ns()
        waited_ns = taken_unix_ns - captured.captured_unix_ns
        if not self.source.live or not 0 <= waited_ns < LOST_CLOCK_NS:  # a file waits for us, not we for it
            waited_ns = 0
        captured_unix_ns, sequence = taken_unix_ns - waited_ns, self.ledger.next_sequence()
        timeline = Timeline.begin(
            captured_unix_ns,
            {
                "lamplight.edge": settings.name,
                "lamplight.sequence": sequence,
                "lamplight.name": captured.name,
                "lamplight.priority": settings.sending.priority.name.lower(),
            },
        )
        timeline.add("source", captured_unix_ns, waited_ns)
        with timeline.stage("pack", raw_bytes=image.data.size):
            packed = await asyncio.get_running_loop().run_in_executor(self._pixels, packing.pack, image)
        frame = Frame(
            id=FrameId(settings.name, self.session, sequence),
            image=packed,
            captured_unix_ns=captured_unix_ns,
            priority=settings.sending.priority,
            trace=timeline.trace,
        )
        shown = image if settings.output.annotate or settings.output.video else None
        return Flight(frame, captured.name, shown, image.data.size, timeline, taken_ns - waited_ns)

    async def _deliver(self, flight: Flight, delay_s: float = 0.0) -> None:
        """Send until it went out whole, over several streams if need be."""
        await asyncio.sleep(delay_s)
        start_unix_ns, start_ns = time.time_ns(), time.perf_counter_ns()
        while not flight.settled:
            try:
                async with asyncio.timeout(self._left_s(flight)):
                    await self._uplink.reserve(flight.frame)
                left_s = self._left_s(flight)
                if left_s == 0:
                    await self._uplink.window.credit(1, len(flight.frame.image.payload))
                    raise TimeoutError
                await self._uplink.send(replace(flight.frame, deadline_ms=ceil((left_s or 0) * 1000)))
            except TimeoutError:
                reason = "its deadline passed before it could be sent"
                return self._settle(flight.sequence, Outcome.EXPIRED, reason, final=False)
            except CloudUnavailable:
                continue
            except Exception as error:
                if not isinstance(error, ImageError):
                    log.exception("frame %s could not be sent", flight.frame.id)
                return self._settle(flight.sequence, Outcome.FAILED, str(error))
            flight.sent()
            spent_ns, size = time.perf_counter_ns() - start_ns, len(flight.frame.image.payload)
            flight.timeline.add("uplink", start_unix_ns, spent_ns, (), bytes=size, attempt=flight.frame.attempt)
            return

    def _left_s(self, flight: Flight) -> float | None:
        """Seconds to the deadline; None = there is none."""
        deadline_ms = self.settings.sending.deadline_ms if flight.origin is None else 0
        return max(0.0, (deadline_ms - flight.age_ms()) / 1000) if deadline_ms else None

    def _again(self, flight: Flight, delay_s: float = 0.0) -> None:
        """Send a frame again under a new attempt."""
        flight.again()
        self.ledger.resent += 1
        self._spawn(self._deliver(flight, delay_s))

    # --- what the cloud node says ---

    def _opening(self) -> pb.Open:
        sending = self.settings.sending
        return pb.Open(
            edge=self.settings.name,
            session=self.session,
            encoding=image_pb2.ResultEncoding(format=int(sending.result_format or 0), quality=sending.quality),
            preset=sending.preset,
            unsettled=[flight.sequence for flight in self.ledger.on_way()],
        )

    def _opened(self, opened: pb.Opened) -> None:
        if opened.results != self._address:
            self._address = opened.results
            self._listen(opened.results)
        holding = set(opened.holding)
        for flight in self.ledger.on_way():
            if flight.sequence not in holding:
                self._again(flight)

    def _rejected(self, rejected: pb.Rejected) -> None:
        flight = self.ledger.flights.get(rejected.sequence)
        if flight is None or flight.frame.attempt != rejected.attempt:
            return
        if rejected.retry_after_ms:
            self._again(flight, rejected.retry_after_ms / 1000)
        elif rejected.reason != pb.REJECT_REASON_DUPLICATE:  # then its result is to come
            self._settle(rejected.sequence, Outcome.FAILED, f"the cloud node refused it: {rejected.detail}")

    # --- back ---

    def _listen(self, address: pb.ResultsAddress) -> None:
        """Fetch results at this address, and at no other."""
        before, self._downlink = (
            self._receiving,
            Downlink(
                [self.settings.nats] if self.settings.nats else list(address.servers),
                [(item.priority, item.stream, item.consumer) for item in address.consumers],
                edge=self.settings.name,
                session=self.session,
                former=self.backlog.keeping.sessions,
                on_missing=self._make_consumers,
                on_state=lambda connected: self.ledger.wait_anew() if connected else None,
            ),
        )
        self._receiving = self._spawn(self._receive(self._downlink, before))

    async def _receive(self, downlink: Downlink, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            before.cancel()
            await asyncio.gather(before, return_exceptions=True)
        while True:
            try:
                await downlink.run(self._result)
                return
            except Exception:
                log.exception("receiving results failed; trying again")
            await asyncio.sleep(1.0)

    async def _make_consumers(self) -> None:
        self._uplink.renew()

    async def _result(self, result: Result, size: int) -> None:
        flight = await self._flight_of(result.id)
        if flight is None:
            return
        if result.outcome is Outcome.EXPIRED and flight.kept is not None:  # a deadline is for live frames
            self._spawn(self._let_go(flight, result))
            return
        sent_ns = flight.sent_ns.get(result.attempt) if result.id == flight.frame.id else None
        if sent_ns is not None:
            # Both journeys together: what is left between sending and receiving after the node's own stages.
            inside_ns = sum(ns for stage, ns in result.stages_ns.items() if "/" not in stage)
            travel_ns = max(0, time.monotonic_ns() - sent_ns - inside_ns)
            flight.timeline.add("downlink", time.time_ns() - travel_ns, travel_ns, (), bytes=size)
        # It is settled: what happens to the downlink now must not lose it.
        await asyncio.shield(self._spawn(self._unpack(flight, result, size)))

    async def _flight_of(self, id: FrameId) -> Flight | None:
        """The flight that a result belongs to, settled with that."""
        if id.session != self.session or id.sequence not in self.ledger.flights:
            flight = await self.backlog.claim(id)  # from before a restart, or it waits in the spool again
            if flight is not None or id.session != self.session:
                return flight
        return self.ledger.settle(id.sequence)

    async def _unpack(self, flight: Flight, result: Result, size: int) -> None:
        enhanced: Bytes | None = None
        if result.image is not None:
            try:
                with flight.timeline.stage("unpack"):
                    loop = asyncio.get_running_loop()
                    enhanced = await loop.run_in_executor(self._pixels, packing.decode, result.image)
            except Exception as error:
                result = replace(result, outcome=Outcome.FAILED, reason=f"the result came back broken: {error}")
        await self._arrived.put(_Arrived(flight, result, size, enhanced))

    def _settle(self, sequence: int, outcome: Outcome, reason: str, *, final: bool = True) -> None:
        """Settle a frame without a result from the cloud; unless it is `final`, a kept one waits in the spool."""
        flight = self.ledger.settle(sequence)
        if flight is not None:
            frame = flight.frame
            identity = (frame.id, frame.attempt, frame.priority, frame.captured_unix_ns)
            result = Result(*identity, outcome, reason=reason, trace=frame.trace)
            if not final and flight.kept is not None:
                self._spawn(self._let_go(flight, result))
            else:
                self._spawn(self._arrived.put(_Arrived(flight, result, 0, None)))

    async def _let_go(self, flight: Flight, result: Result) -> None:
        """Into the spool again; a reading without an image where that cannot be."""
        if await self.backlog.release(flight, PAUSE_S if flight.unanswered else 0.0):
            await self._count_unread(-1 if flight.origin is None else 0)
        else:
            await self._arrived.put(_Arrived(flight, result, 0, None))

    async def _count_unread(self, change: int, stopping: bool = False) -> None:
        async with self._changed:
            self._unread += change
            self.backlog.stopping |= stopping
            self._changed.notify_all()

    # --- reading ---

    async def _read_arrived(self) -> None:
        async for arrived in self._arrived:
            try:
                await self._read(arrived.flight, arrived)
            except Exception:
                log.exception("the reading of frame %s could not be written", arrived.result.id)
            await self._count_unread(-1 if arrived.flight.origin is None else 0)

    async def _read(self, flight: Flight, arrived: _Arrived) -> None:
        loop, result = asyncio.get_running_loop(), arrived.result
        regions: tuple[Region, ...] = ()
        if arrived.enhanced is not None:
            try:
                regions = await loop.run_in_executor(self._reading, self.reader.read, arrived.enhanced)
            except Exception as error:
                log.exception("text detection failed on frame %s", result.id)
                result = replace(result, outcome=Outcome.FAILED, reason=f"text detection failed: {error}")
            flight.timeline.add(
                "reader", arrived.unix_ns, time.perf_counter_ns() - arrived.ns, (), regions=len(regions)
            )
        reading = _reading(flight, result, regions, time.monotonic_ns() - flight.captured_ns, arrived.size)
        self.ledger.outcomes[reading.outcome] += 1
        reason = reading.reason if reading.outcome is not Outcome.ENHANCED else ""
        outcome = reading.outcome.name.lower()
        flight.timeline.end(reason, {"lamplight.outcome": outcome, "lamplight.regions": len(regions)})
        with flight.timeline.stage("sinks"):
            whole = await self._note(Shown(reading, arrived.enhanced, flight.dark))
        self.backlog.written(flight, whole)

    async def _write_lost(self, reading: Reading) -> None:
        """A kept frame was given up."""
        self.ledger.outcomes[reading.outcome] += 1
        await self._note(Shown(reading, None, None))

    async def _note(self, shown: Shown) -> bool:
        """Write a reading down; whether the record has its line whole."""
        async with self._noting:
            return await asyncio.get_running_loop().run_in_executor(self._pixels, self._write, shown)

    def _write(self, shown: Shown) -> bool:
        for sink in self.sinks:
            sink.write(shown)
        return self.record is None or self.record.written

    # --- care ---

    async def _care(self) -> None:
        """Send again what is without a result for too long, though one could have come."""
        retry_s, attempts = self.settings.sending.retry_s, self.settings.sending.attempts
        while True:
            await asyncio.sleep(min(1.0, retry_s / 4))
            if not (self._uplink.connected and self._downlink is not None and self._downlink.connected):
                self.ledger.wait_anew()
                continue
            for flight in self.ledger.overdue(retry_s):
                flight.unanswered += 1
                if flight.unanswered >= attempts:
                    reason = f"no result after {attempts} attempts"
                    self._settle(flight.sequence, Outcome.FAILED, reason, final=False)
                else:
                    log.warning("frame %s has no result after %.0f s: sending it again", flight.frame.id, retry_s)
                    self._again(flight)

    async def _give_up(self, reason: str) -> None:
        """What is still on its way becomes a reading all the same."""
        for sequence in list(self.ledger.flights):
            self._settle(sequence, Outcome.FAILED, reason, final=False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_GRACE_S), self._changed:
                await self._changed.wait_for(lambda: self._unread == 0 and self.backlog.done)

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._spawned_ended)
        return task

    def _spawned_ended(self, task: "asyncio.Task[Any]") -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s", error, exc_info=error)

    async def _close(self, tasks: Sequence["asyncio.Task[Any]"]) -> None:
        self._uplink.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._uplink.closed.wait()
        remaining = [*tasks, *self._background]
        for task in remaining:
            task.cancel()
        await asyncio.gather(*remaining, return_exceptions=True)
        if self._downlink is not None:
            await self._downlink.close()
        for sink in self.sinks:
            await asyncio.to_thread(sink.close)
        await self.backlog.keeping.close()
        self._pixels.shutdown(wait=False)
        self._reading.shutdown(wait=False)


def _raise_failure(parts: Sequence["asyncio.Task[None]"]) -> None:
    for part in parts:
        if part.done():
            part.result()


def _reading(flight: Flight, result: Result, regions: tuple[Region, ...], latency_ns: int, size: int) -> Reading:
    return Reading(
        id=flight.origin.id if flight.origin is not None else flight.frame.id,
        name=flight.name,
        captured_unix_ns=flight.frame.captured_unix_ns,
        priority=flight.origin.priority if flight.origin is not None else flight.frame.priority,
        outcome=result.outcome,
        regions=regions,
        reason=result.reason,
        model=result.model,
        sharpness_before=result.sharpness_before,
        sharpness_after=result.sharpness_after,
        latency_ns=latency_ns,
        stages_ns={**flight.timeline.stages_ns, **result.stages_ns},
        bytes_raw=flight.bytes_raw,
        bytes_up=len(flight.frame.image.payload),
        bytes_down=size,
    )
