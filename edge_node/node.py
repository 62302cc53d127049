"""The life of an edge node: take frames, send, receive, read, until the source ends or someone stops it."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from math import ceil, nan
from typing import Any

from common import packing
from common.errors import CloudUnavailable, ImageError
from common.flow import BoundedQueue, Policy, QueueClosed
from common.frame import Frame, FrameId, Outcome, Priority, Reading, Region, Result, Route
from common.pixels import Bytes, RawImage
from common.telemetry import Timeline
from edge_node.capture import capture
from edge_node.downlink import Downlink
from edge_node.gate import Gate, Verdict
from edge_node.ledger import Flight, Ledger
from edge_node.local_enhancer import LocalEnhancer
from edge_node.reader import Reader
from edge_node.route import LocalMode
from edge_node.selection import Selection
from edge_node.settings import EdgeSettings
from edge_node.sinks import Shown, Sink
from edge_node.sources import Captured, Source
from edge_node.takeover import Takeover
from edge_node.uplink import Uplink
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import image_pb2

log = logging.getLogger(__name__)

STOP_GRACE_S = 5.0  # for what is on its way when someone stops the node
HERE = 2  # frames on this device's own path: one is read while the next is lit up
LOOK_AGAIN_S = 0.1  # longest wait of a frame before its route is chosen again
LOST_CLOCK_NS = 60_000_000_000  # a frame that seems to wait longer for being taken comes from a clock that jumped


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A settled frame that waits for the reader."""

    flight: Flight
    result: Result
    size: int
    enhanced: Bytes | None
    route: Route = Route.CLOUD
    unix_ns: int = field(default_factory=time.time_ns)
    ns: int = field(default_factory=time.perf_counter_ns)


class EdgeNode:
    """Frames from a source to readings in sinks.

    Use it as `await node.run(stop)`: it returns when the source has ended and every frame is read, or soon
    after `stop` was set. Every frame that was taken ends as one reading.
    """

    def __init__(
        self,
        settings: EdgeSettings,
        source: Source,
        reader: Reader,
        sinks: Sequence[Sink],
        enhancer: LocalEnhancer | None = None,
    ) -> None:
        self.settings, self.source, self.reader, self.sinks = settings, source, reader, sinks
        self.session = os.urandom(6).hex()
        self.ledger = Ledger()
        policy = Policy.DROP_OLDEST if source.live else Policy.WAIT
        self.captured: BoundedQueue[Captured] = BoundedQueue("source", 1 if source.live else 2, policy)
        self._arrived: BoundedQueue[_Arrived] = BoundedQueue("reader", settings.sending.in_flight + 1, Policy.WAIT)
        self._unread = 0  # frames taken and not yet read
        self._here = 0  # those of them that no cloud node sees
        self._changed = asyncio.Condition()
        self._uplink = Uplink(
            settings.cloud,
            opening=self._opening,
            on_opened=self._opened,
            on_rejected=self._rejected,
            part_bytes=settings.sending.part_kib * 1024,
            connect_timeout_s=settings.connect_timeout_s,
        )
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="reader")
        choosing = settings.choosing
        self.selection = Selection(every=choosing.every, on_change=choosing.on_change, still_s=choosing.still_s)
        self.gate = Gate(choosing.gate, choosing.areas)
        self.takeover = Takeover(
            enhancer,
            choosing.local,
            settings.sending.deadline_ms,
            self.ledger,
            self._lit_here,
            lambda: self._uplink.connected,
            self._reading,
        )
        self._downlink: Downlink | None = None
        self._address: pb.ResultsAddress | None = None
        self._receiving: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[Any]] = set()
        self._pixels = ThreadPoolExecutor(2, thread_name_prefix="pixels")

    async def run(self, stop: asyncio.Event) -> None:
        """Run to the end.

        Raises:
            LamplightError: the source broke, or no cloud node could be used.
        """
        frames = asyncio.create_task(capture(self.source, self.captured, self.settings.fps, self.selection))
        send = asyncio.create_task(self._send_frames())
        alone = self.takeover.router.mode is LocalMode.ONLY
        if alone:
            self._uplink.closed.set()
        life = (self._read_arrived(), self.takeover.watch(), *(() if alone else (self._uplink.run(), self._care())))
        parts = [asyncio.create_task(part) for part in life]
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
        async with self._changed:
            await self._changed.wait_for(lambda: self._unread == 0)
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
            try:
                captured, verdict, route = await self._next()
            except QueueClosed:
                return
            self._unread += 1
            self._here += route is not Route.CLOUD
            forwarded = self._spawn(self._forward(captured, verdict, route))
            if route is Route.CLOUD:
                await asyncio.shield(forwarded)
            taken += 1
            if taken == self.settings.limit:
                self.source.close()
                await self.captured.close(discard=True)

    async def _next(self) -> tuple[Captured, Verdict, Route]:
        """The next frame, judged, and where it goes. An essential one is not replaced while it waits for its way."""
        while True:
            captured = await self.captured.first()
            verdict = await asyncio.get_running_loop().run_in_executor(self._pixels, self.gate.judge, captured.image)
            taken = verdict.essential and await self.captured.take(captured)
            replaced = False
            while not replaced:
                route = self._route(verdict)
                if self._is_free(route):
                    if not taken and not await self.captured.take(captured):
                        break
                    self.gate.take(verdict)
                    return captured, verdict, route
                way = self._uplink.window.open() if route is Route.CLOUD else self._room_here()
                replaced = await self._wait_for(way, None if taken else captured)

    def _route(self, verdict: Verdict) -> Route:
        if not verdict.light:
            return Route.NONE
        return self.takeover.router.choose(time.monotonic(), self._is_free(Route.CLOUD))

    def _is_free(self, route: Route) -> bool:
        if route is Route.CLOUD:
            return self._uplink.connected and self._uplink.window.frames > 0
        return self._here < HERE

    async def _wait_for(self, way: Coroutine[Any, Any, None], captured: Captured | None) -> bool:
        """Until the way is free or time is up, or a newer frame is there; only then it is True."""
        waits = [asyncio.create_task(way)]
        if captured is not None:
            waits.append(asyncio.create_task(self.captured.gone(captured)))
        try:
            done, _ = await asyncio.wait(waits, timeout=LOOK_AGAIN_S, return_when=asyncio.FIRST_COMPLETED)
            return captured is not None and waits[-1] in done
        except asyncio.CancelledError:
            self.captured.dropped += captured is None  # it is in no queue any more
            raise
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _room_here(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._here < HERE)

    async def _forward(self, captured: Captured, verdict: Verdict, route: Route) -> None:
        """Pack and send, light up here, or read as it is."""
        flight = self._begin(captured, verdict)
        flight.here = route is not Route.CLOUD
        self.ledger.add(flight)
        try:
            match route:
                case Route.CLOUD:
                    flight.pixels = self.takeover.keeps(captured.image)
                    await self._pack(flight, captured.image)
                    await asyncio.wait({self._start(flight)})
                case Route.EDGE:
                    await self.takeover.light(flight, captured.image)
                case Route.NONE:
                    await self._as_is(flight, captured.image)
        except Exception as error:
            log.exception("frame %s could not be worked on", flight.frame.id)
            self._settle(flight.sequence, Outcome.FAILED, str(error))

    def _begin(self, captured: Captured, verdict: Verdict) -> Flight:
        """A frame that is taken, not packed yet."""
        settings, image = self.settings, captured.image
        priority = Priority.ESSENTIAL if verdict.essential else settings.sending.priority
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
                "lamplight.priority": priority.name.lower(),
            },
        )
        timeline.add("source", captured_unix_ns, max(0, waited_ns - verdict.spent_ns))
        timeline.add("gate", taken_unix_ns - verdict.spent_ns, verdict.spent_ns, (), verdict=verdict.reason)
        frame = Frame(
            id=FrameId(settings.name, self.session, sequence),
            image=packing.unsent(image),
            captured_unix_ns=captured_unix_ns,
            priority=priority,
            trace=timeline.trace,
        )
        shown = image if settings.output.annotate or settings.output.video else None
        return Flight(frame, captured.name, shown, image.data.size, timeline, taken_ns - waited_ns)

    async def _pack(self, flight: Flight, image: RawImage) -> None:
        with flight.timeline.stage("pack", raw_bytes=image.data.size):
            packed = await asyncio.get_running_loop().run_in_executor(self._pixels, packing.pack, image)
        flight.frame = replace(flight.frame, image=packed)

    async def _as_is(self, flight: Flight, image: RawImage) -> None:
        """Nothing to light up: straight to the reader."""
        rgb = await asyncio.get_running_loop().run_in_executor(self._pixels, packing.to_rgb, image)
        self._settle(flight.sequence, Outcome.AS_IS, "", rgb, Route.NONE)

    def _start(self, flight: Flight, delay_s: float = 0.0) -> "asyncio.Task[None]":
        flight.delivery = self._spawn(self._deliver(flight, delay_s))
        return flight.delivery

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
                return self._settle(flight.sequence, Outcome.EXPIRED, "its deadline passed before it could be sent")
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
        deadline_ms = self.settings.sending.deadline_ms
        return max(0.0, (deadline_ms - flight.age_ms()) / 1000) if deadline_ms else None

    def _again(self, flight: Flight, delay_s: float = 0.0) -> None:
        """Send a frame again under a new attempt."""
        flight.again()
        self.ledger.resent += 1
        self._start(flight, delay_s)

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
        if result.outcome is Outcome.ENHANCED:
            self.takeover.answered(result.id.sequence)
        elif self._is_lit_here(result.id.sequence):
            return
        flight = self.ledger.settle(result.id.sequence)
        if flight is None:
            return
        sent_ns = flight.sent_ns.get(result.attempt)
        if sent_ns is not None:
            # Both journeys together: what is left between sending and receiving after the node's own stages.
            inside_ns = sum(ns for stage, ns in result.stages_ns.items() if "/" not in stage)
            travel_ns = max(0, time.monotonic_ns() - sent_ns - inside_ns)
            flight.timeline.add("downlink", time.time_ns() - travel_ns, travel_ns, (), bytes=size)
        # It is settled: what happens to the downlink now must not lose it.
        await asyncio.shield(self._spawn(self._unpack(flight, result, size)))

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

    def _is_lit_here(self, sequence: int) -> bool:
        """Whether this device lights the frame up, so that the cloud's failing does not end it."""
        flight = self.ledger.flights.get(sequence)
        return flight is not None and flight.lighting

    async def _lit_here(self, flight: Flight, result: Result, lit: Bytes | None) -> None:
        await self._arrived.put(_Arrived(flight, result, 0, lit, Route.EDGE))

    def _settle(
        self,
        sequence: int,
        outcome: Outcome,
        reason: str,
        rgb: Bytes | None = None,
        route: Route = Route.CLOUD,
    ) -> None:
        """Settle a frame without a result from the cloud."""
        if outcome is Outcome.EXPIRED and self._is_lit_here(sequence):
            return
        flight = self.ledger.settle(sequence)
        if flight is not None:
            frame = flight.frame
            identity = (frame.id, frame.attempt, frame.priority, frame.captured_unix_ns)
            result = Result(*identity, outcome, reason=reason, trace=frame.trace)
            self._spawn(self._arrived.put(_Arrived(flight, result, 0, rgb, route)))

    # --- reading ---

    async def _read_arrived(self) -> None:
        async for arrived in self._arrived:
            try:
                await self._read(arrived.flight, arrived)
            except Exception:
                log.exception("the reading of frame %s could not be written", arrived.result.id)
            async with self._changed:
                self._unread -= 1
                self._here -= arrived.flight.here
                self._changed.notify_all()

    async def _read(self, flight: Flight, arrived: _Arrived) -> None:
        loop, result = asyncio.get_running_loop(), arrived.result
        regions: tuple[Region, ...] = ()
        if arrived.enhanced is not None:
            start_s = time.monotonic()
            try:
                regions = await loop.run_in_executor(self._reading, self.reader.read, arrived.enhanced)
            except Exception as error:
                log.exception("text detection failed on frame %s", result.id)
                result = replace(result, outcome=Outcome.FAILED, reason=f"text detection failed: {error}")
            flight.timeline.add(
                "reader", arrived.unix_ns, time.perf_counter_ns() - arrived.ns, (), regions=len(regions)
            )
            self.takeover.router.read(time.monotonic() - start_s)
            self.gate.read(regions, arrived.enhanced.shape[1], arrived.enhanced.shape[0])
        reading = _reading(flight, arrived, result, regions, time.monotonic_ns() - flight.captured_ns)
        self.ledger.outcomes[reading.outcome] += 1
        self.ledger.paths[reading.path] += reading.outcome.is_read
        reason = "" if reading.outcome.is_read else reading.reason
        outcome = reading.outcome.name.lower()
        flight.timeline.end(reason, {"lamplight.outcome": outcome, "lamplight.regions": len(regions)})
        with flight.timeline.stage("sinks"):
            await loop.run_in_executor(self._pixels, self._write, Shown(reading, arrived.enhanced, flight.dark))

    def _write(self, shown: Shown) -> None:
        for sink in self.sinks:
            sink.write(shown)

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
                    self._settle(flight.sequence, Outcome.FAILED, f"no result after {attempts} attempts")
                else:
                    log.warning("frame %s has no result after %.0f s: sending it again", flight.frame.id, retry_s)
                    self._again(flight)

    async def _give_up(self, reason: str) -> None:
        """What is still on its way becomes a reading all the same."""
        for sequence in list(self.ledger.flights):
            self._settle(sequence, Outcome.FAILED, reason)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_GRACE_S), self._changed:
                await self._changed.wait_for(lambda: self._unread == 0)

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
        self._pixels.shutdown(wait=False)
        self._reading.shutdown(wait=False)


def _raise_failure(parts: Sequence["asyncio.Task[None]"]) -> None:
    for part in parts:
        if part.done():
            part.result()


def _reading(
    flight: Flight, arrived: _Arrived, result: Result, regions: tuple[Region, ...], latency_ns: int
) -> Reading:
    measured = arrived.route is Route.CLOUD  # it was there, where sharpness is measured
    return Reading(
        id=flight.frame.id,
        name=flight.name,
        captured_unix_ns=flight.frame.captured_unix_ns,
        priority=flight.frame.priority,
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
        bytes_up=len(flight.frame.image.payload) if measured or flight.sent_ns else 0,
        bytes_down=arrived.size,
    )
