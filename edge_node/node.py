"""The life of an edge node: open the source, send, receive, read, until the source ends or someone stops it."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from common import packing
from common.errors import CloudUnavailable, ImageError
from common.flow import BoundedQueue, Policy, QueueClosed
from common.frame import Frame, FrameId, Outcome, Reading, Region, Result
from common.pixels import Bytes
from common.telemetry import STAGES, Timeline
from edge_node.capture import capture
from edge_node.downlink import Downlink
from edge_node.ledger import Flight, Ledger
from edge_node.reader import Reader
from edge_node.settings import EdgeSettings
from edge_node.sinks import Shown, Sink
from edge_node.sources import Captured, Source
from edge_node.uplink import Uplink
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import image_pb2

log = logging.getLogger(__name__)

REJECTED_WAIT_S = 0.1


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

    Use it as `await node.run(stop)`: it returns when the source has ended and every frame is settled, or
    after `stop` was set and what is on its way came back (a few seconds at most).
    """

    def __init__(self, settings: EdgeSettings, source: Source, reader: Reader, sinks: Sequence[Sink]) -> None:
        self.settings, self.source, self.reader, self.sinks = settings, source, reader, sinks
        self.session = os.urandom(6).hex()
        self.ledger = Ledger()
        policy = Policy.DROP_OLDEST if source.live else Policy.WAIT
        self.captured: BoundedQueue[Captured] = BoundedQueue("source", 1 if source.live else 2, policy)
        self._received: BoundedQueue[_Arrived] = BoundedQueue("reader", settings.sending.in_flight + 1, Policy.WAIT)
        self._slots = asyncio.Semaphore(settings.sending.in_flight)
        self._uplink = Uplink(
            settings.cloud,
            opening=self._opening,
            on_opened=self._opened,
            on_rejected=self._rejected,
            part_bytes=settings.sending.part_kib * 1024,
            connect_timeout_s=settings.connect_timeout_s,
        )
        self._downlink: Downlink | None = None
        self._address: pb.ResultsAddress | None = None
        self._receiving: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[Any]] = set()
        self._pixels = ThreadPoolExecutor(2, thread_name_prefix="pixels")
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="reader")

    async def run(self, stop: asyncio.Event) -> None:
        """Run to the end.

        Raises:
            LamplightError: the source broke, or no cloud node could be used.
        """
        settings, source = self.settings, self.source
        link = asyncio.create_task(self._uplink.run())
        care = asyncio.create_task(self._care())
        read = asyncio.create_task(self._read_results())
        send = asyncio.create_task(self._send_frames())
        halt = asyncio.create_task(stop.wait())
        work = asyncio.ensure_future(asyncio.gather(capture(source, self.captured, settings.fps, settings.limit), send))
        tasks: list[asyncio.Future[Any]] = [work, link, read, care, halt]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self.source.close()
            for task in (link, read, care):
                if task.done():
                    task.result()
            if halt.done():
                log.warning("stopping: %d frames are on their way", len(self.ledger))
                send.cancel()
                await self.captured.close()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(5.0):
                        await self._settled(link, read)
            else:
                await send  # what the source gave before it ended, or broke
                await self._settled(link, read)
                work.result()
        finally:
            self.source.close()
            await self._close([link, care, read, send, halt], work)

    # --- out ---

    async def _send_frames(self) -> None:
        """Take a frame once it can go, so that a live source waits with its newest."""
        while True:
            await self._slots.acquire()
            await self._uplink.window.open()
            try:
                captured = await self.captured.get()
            except QueueClosed:
                self._slots.release()
                return
            if not self.source.live:  # a file waits for us, not we for it
                captured = replace(captured, captured_unix_ns=time.time_ns())
            flight = await self._pack(captured)
            self.ledger.add(flight)
            await self._deliver(flight)

    async def _pack(self, captured: Captured) -> Flight:
        settings, image = self.settings, captured.image
        sequence = self.ledger.next_sequence()
        timeline = Timeline.begin(
            captured.captured_unix_ns,
            {
                "lamplight.edge": settings.name,
                "lamplight.sequence": sequence,
                "lamplight.name": captured.name,
                "lamplight.priority": settings.sending.priority.name.lower(),
            },
        )
        timeline.add("source", captured.captured_unix_ns, time.time_ns() - captured.captured_unix_ns)
        with timeline.stage("pack", raw_bytes=image.data.size):
            packed = await asyncio.get_running_loop().run_in_executor(self._pixels, packing.pack, image)
        frame = Frame(
            id=FrameId(settings.name, self.session, sequence),
            image=packed,
            captured_unix_ns=captured.captured_unix_ns,
            priority=settings.sending.priority,
            trace=timeline.trace,
        )
        return Flight(frame, captured.name, image if self._shows_dark() else None, image.data.size, timeline)

    async def _deliver(self, flight: Flight) -> None:
        """Send until it went out whole; over several streams if need be."""
        deadline_ms = self.settings.sending.deadline_ms
        start_unix_ns, start_ns = time.time_ns(), time.perf_counter_ns()
        while not flight.settled:
            if flight.expired(deadline_ms):
                self._settle(flight.sequence, Outcome.EXPIRED, "its deadline passed before it could be sent")
                return
            left = deadline_ms - flight.age_ms() if deadline_ms else 0
            try:
                await self._uplink.send(replace(flight.frame, deadline_ms=left))
            except CloudUnavailable:
                continue
            flight.sent_unix_ns = time.time_ns()
            flight.timeline.add(
                "uplink",
                start_unix_ns,
                time.perf_counter_ns() - start_ns,
                (),
                bytes=len(flight.frame.image.payload),
                attempt=flight.frame.attempt,
            )
            return

    def _again(self, flight: Flight, delay_s: float = 0.0) -> None:
        """Send a frame again under a new attempt."""

        async def later() -> None:
            await asyncio.sleep(delay_s)
            await self._deliver(flight)

        if flight.frame.attempt + 1 >= self.settings.sending.attempts:
            self._settle(flight.sequence, Outcome.FAILED, f"no result after {flight.frame.attempt + 1} attempts")
            return
        flight.again()
        self.ledger.resent += 1
        self._spawn(later())

    # --- what the cloud node says ---

    def _opening(self) -> pb.Open:
        sending = self.settings.sending
        return pb.Open(
            edge=self.settings.name,
            session=self.session,
            encoding=image_pb2.ResultEncoding(
                format=int(sending.result_format or 0),
                quality=sending.quality,
            ),
            preset=sending.preset,
            unsettled=[flight.sequence for flight in self.ledger.sent()],
        )

    def _opened(self, opened: pb.Opened) -> None:
        if opened.results != self._address:
            self._address = opened.results
            self._spawn(self._listen(opened.results))
        holding = set(opened.holding)
        for flight in self.ledger.sent():
            if flight.sequence not in holding:
                self._again(flight)

    def _rejected(self, rejected: pb.Rejected) -> None:
        flight = self.ledger.flights.get(rejected.sequence)
        if flight is None or flight.frame.attempt != rejected.attempt:
            return
        if rejected.retry_after_ms:
            self._again(flight, max(REJECTED_WAIT_S, rejected.retry_after_ms / 1000))
        elif rejected.reason == pb.REJECT_REASON_EXPIRED:
            self._settle(rejected.sequence, Outcome.EXPIRED, rejected.detail)
        elif rejected.reason != pb.REJECT_REASON_DUPLICATE:
            self._settle(rejected.sequence, Outcome.FAILED, f"the cloud node refused it: {rejected.detail}")

    # --- back ---

    async def _listen(self, address: pb.ResultsAddress) -> None:
        if self._receiving is not None:
            self._receiving.cancel()
            await asyncio.gather(self._receiving, return_exceptions=True)
        servers = [self.settings.nats] if self.settings.nats else list(address.servers)
        self._downlink = Downlink(
            servers,
            [(item.priority, item.stream, item.consumer) for item in address.consumers],
            edge=self.settings.name,
            session=self.session,
            on_missing=self._make_consumers,
        )
        self._receiving = asyncio.create_task(self._downlink.run(self._result))
        self._receiving.add_done_callback(self._finished)

    async def _make_consumers(self) -> None:
        self._uplink.renew()

    async def _result(self, result: Result, size: int) -> None:
        flight = self.ledger.settle(result.id.sequence, result.outcome)
        if flight is None:
            return
        now_ns = time.time_ns()
        # Both journeys together: what is left between sending and receiving after the node's own stages.
        inside_ns = sum(ns for stage, ns in result.stages_ns.items() if "/" not in stage)
        travel_ns = max(0, now_ns - flight.sent_unix_ns - inside_ns)
        flight.timeline.add("downlink", now_ns - travel_ns, travel_ns, (), bytes=size)
        enhanced: Bytes | None = None
        if result.image is not None:
            try:
                with flight.timeline.stage("unpack"):
                    loop = asyncio.get_running_loop()
                    enhanced = await loop.run_in_executor(self._pixels, packing.decode, result.image)
            except ImageError as error:
                result = replace(result, outcome=Outcome.FAILED, reason=f"the result came back broken: {error}")
        await self._received.put(_Arrived(flight, result, size, enhanced))

    async def _read_results(self) -> None:
        async for arrived in self._received:
            try:
                await self._read(arrived.flight, arrived)
            except Exception:
                log.exception("frame %s could not be read", arrived.result.id)
            finally:
                self._slots.release()

    async def _read(self, flight: Flight, arrived: "_Arrived") -> None:
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
        latency_ns = time.time_ns() - flight.frame.captured_unix_ns
        reading = _reading(flight, result, regions, latency_ns, arrived.size)
        reason = reading.reason if reading.outcome is not Outcome.ENHANCED else ""
        outcome = reading.outcome.name.lower()
        flight.timeline.end(reason, {"lamplight.outcome": outcome, "lamplight.regions": len(regions)})
        with flight.timeline.stage("sinks"):
            await loop.run_in_executor(self._pixels, self._write, Shown(reading, arrived.enhanced, flight.dark))

    def _write(self, shown: Shown) -> None:
        for sink in self.sinks:
            sink.write(shown)

    def _settle(self, sequence: int, outcome: Outcome, reason: str) -> None:
        """Settle a frame without a result from the cloud."""
        flight = self.ledger.settle(sequence, outcome)
        if flight is not None:
            frame = flight.frame
            result = Result(
                frame.id,
                frame.attempt,
                frame.priority,
                frame.captured_unix_ns,
                outcome,
                reason=reason,
                trace=frame.trace,
            )
            self._spawn(self._received.put(_Arrived(flight, result, 0, None)))

    # --- care ---

    async def _care(self) -> None:
        """Send again what is without a result for too long."""
        retry_s = self.settings.sending.retry_s
        while True:
            await asyncio.sleep(min(1.0, retry_s / 4))
            if self._uplink.connected:
                for flight in self.ledger.overdue(retry_s):
                    log.warning("frame %s has no result after %.0f s: sending it again", flight.frame.id, retry_s)
                    self._again(flight)

    async def _settled(self, link: "asyncio.Task[None]", read: "asyncio.Task[None]") -> None:
        """Until every frame is settled and read."""
        while len(self.ledger) or self._slots._value < self.settings.sending.in_flight:
            for task in (link, read):
                if task.done():
                    task.result()
            await asyncio.sleep(0.01)

    def _shows_dark(self) -> bool:
        return self.settings.output.annotate or self.settings.output.video

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s", error, exc_info=error)

    async def _close(self, tasks: Sequence["asyncio.Task[Any]"], work: "asyncio.Future[Any]") -> None:
        self._uplink.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.gather(tasks[0], return_exceptions=True)
        work.cancel()
        for task in (*tasks, *self._background):
            task.cancel()
        if self._receiving is not None:
            self._receiving.cancel()
        await asyncio.gather(
            *tasks, *self._background, self._receiving or asyncio.sleep(0), work, return_exceptions=True
        )
        if self._downlink is not None:
            await self._downlink.close()
        for sink in self.sinks:
            await asyncio.to_thread(sink.close)
        self._pixels.shutdown(wait=False)
        self._reading.shutdown(wait=False)


def _reading(flight: Flight, result: Result, regions: tuple[Region, ...], latency_ns: int, size: int) -> Reading:
    spent = {**flight.timeline.stages_ns, **result.stages_ns}
    order = {stage: place for place, stage in enumerate(STAGES)}
    return Reading(
        id=flight.frame.id,
        name=flight.name,
        captured_unix_ns=flight.frame.captured_unix_ns,
        priority=flight.frame.priority,
        outcome=result.outcome,
        regions=regions,
        reason=result.reason,
        model=result.model,
        sharpness_before=result.sharpness_before,
        sharpness_after=result.sharpness_after,
        latency_ns=latency_ns,
        stages_ns=dict(sorted(spent.items(), key=lambda item: order.get(item[0].split("/")[0], 99))),
        bytes_raw=flight.bytes_raw,
        bytes_up=len(flight.frame.image.payload),
        bytes_down=size,
    )
