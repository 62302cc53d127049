"""One simulated edge: frames come whether or not they can be sent, and each ends exactly once."""

import asyncio
import math
import os
import time
from collections.abc import Collection, Coroutine, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

from common import packing
from common.errors import CloudUnavailable, FrameTooLarge
from common.frame import Frame, FrameId, Outcome, Result
from common.packing import PackedImage
from common.tasks import end_tasks
from edge_node.load.flights import Backlog, Flight
from edge_node.load.link import Link
from edge_node.load.records import Ending, Recorder
from edge_node.load.schedule import Arrival, schedule
from edge_node.load.settings import LoadSettings
from lamplight.v1 import enhancement_pb2 as pb


class SimulatedEdge:
    """`connect`, `begin`, `end_arrivals`, `give_up`, `close`, in this order.

    Args:
        images: sent in turns; each edge begins with another.
        pixels: where result images are decoded.
    """

    def __init__(
        self,
        settings: LoadSettings,
        index: int,
        images: Sequence[PackedImage],
        recorder: Recorder,
        pixels: Executor,
    ) -> None:
        self.name, self.session = settings.edge_name(index), os.urandom(6).hex()
        self.flights: dict[int, Flight] = {}
        self.link = Link(
            settings,
            self.name,
            self.session,
            unsettled=lambda: [flight.sequence for flight in self._on_the_way()],
            on_holding=self._holding,
            on_rejected=self._rejected,
            on_result=self._result,
        )
        self._index, self._images, self._recorder, self._pixels = index, images, recorder, pixels
        self._traffic, self._decode = settings.traffic, settings.results.decode
        self._schedule = schedule(settings, index)
        self._next: Arrival | None = next(self._schedule, None)
        self._start_s, self._sequence = 0.0, 0
        self._timer: asyncio.TimerHandle | None = None
        self._backlog = Backlog(self._traffic.backlog)
        self._queued = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        """Raises CloudUnavailable, StreamRefused or BrokerUnavailable, with the reason."""
        await self.link.connect()
        self._spawn(self._send_queued())

    async def close(self) -> None:
        """End every connection and task. Safe to call at any time."""
        if self._timer is not None:
            self._timer.cancel()
        try:
            await end_tasks(self._tasks)
        finally:
            await self.link.close()

    # --- frames come ---

    def begin(self, start_s: float) -> None:
        """Frames come from now on; `start_s` is the schedule's zero on the monotonic clock."""
        self._start_s = start_s
        self._arrive()

    def _arrive(self) -> None:
        now_s = self._now_s()
        while self._next is not None and self._next.due_s <= now_s:
            self._offer(self._next, now_s)
            self._next = next(self._schedule, None)
        if self._next is not None:
            self._timer = asyncio.get_running_loop().call_at(self._start_s + self._next.due_s, self._arrive)

    def end_arrivals(self) -> None:
        """What is due has come; nothing comes after."""
        if self._timer is not None:
            self._timer.cancel()
        self._arrive()
        if self._timer is not None:
            self._timer.cancel()

    def _offer(self, arrival: Arrival, now_s: float) -> None:
        row = self._recorder.add(self._index, arrival, (now_s - arrival.due_s) * 1000)
        flight = Flight(self._sequence, arrival.priority, arrival.due_s, row)
        self._sequence += 1
        self.flights[flight.sequence] = flight
        self._enqueue(flight)
        if len(self._backlog) > self._backlog.limit:
            for late in [flight for flight in self._backlog if self._left_ms(flight) == 0]:
                self._expire(late)
            self._backlog.keep(lambda flight: flight.sequence in self.flights)
            if dropped := self._backlog.drop():
                self._end(dropped, Ending.DROPPED, "the edge's backlog was full")

    # --- frames go ---

    def _enqueue(self, flight: Flight) -> None:
        self._backlog.push(flight)
        self._queued.set()

    async def _send_queued(self) -> None:
        while True:
            await self._queued.wait()
            await self.link.uplink.window.open()
            if not self._backlog:
                self._queued.clear()
                continue
            flight = self._backlog.pop()
            if flight.sequence not in self.flights:  # its result came while it waited to be sent again
                continue
            frame = self._frame(flight)
            try:
                await self.link.uplink.reserve(frame)
            except FrameTooLarge as error:
                self._end(flight, Ending.REJECTED, f"too_large: {error}")
                continue
            left_ms = self._left_ms(flight)
            if left_ms == 0:
                await self.link.uplink.release(frame)
                self._expire(flight)
                continue
            self._spawn(self._send(flight, replace(frame, deadline_ms=left_ms or 0)))

    async def _send(self, flight: Flight, frame: Frame) -> None:
        flight.on_the_way = True
        try:
            await self.link.uplink.send(frame)
        except CloudUnavailable:
            self._again(flight, frame.attempt)
            return
        self._recorder.sent(flight.row, self._age_ms(flight), len(frame.image.payload))

    def _frame(self, flight: Flight) -> Frame:
        return Frame(
            id=FrameId(self.name, self.session, flight.sequence),
            image=self._images[(self._index + flight.sequence) % len(self._images)],
            captured_unix_ns=time.time_ns() - int(self._age_ms(flight) * 1e6),
            priority=flight.priority,
            attempt=flight.attempt,
        )

    def _again(self, flight: Flight, failed: int) -> None:
        """Send it under a new attempt, unless this is done already."""
        if flight.sequence in self.flights and flight.attempt == failed:
            flight.attempt += 1
            self._enqueue(flight)

    # --- answers ---

    def _holding(self, holding: Collection[int]) -> None:
        """A stream is open: what was on its way and is not on the node is sent again, or may still come by NATS."""
        if self._traffic.retry:
            for flight in self._on_the_way():
                if flight.sequence not in holding:
                    self._again(flight, flight.attempt)

    def _rejected(self, rejected: pb.Rejected) -> None:
        flight = self.flights.get(rejected.sequence)
        if flight is None or flight.attempt != rejected.attempt:
            return
        if rejected.reason == pb.REJECT_REASON_DUPLICATE:  # then its result is to come
            return
        name = pb.RejectReason.Name(rejected.reason).removeprefix("REJECT_REASON_").lower()
        reason = f"{name}: {rejected.detail}"
        if rejected.retry_after_ms and self._traffic.retry:
            flight.on_the_way, flight.turned_away = False, reason
            asyncio.get_running_loop().call_later(rejected.retry_after_ms / 1000, self._again, flight, rejected.attempt)
        else:
            self._end(flight, Ending.REJECTED, reason)

    async def _result(self, result: Result, size: int) -> None:
        if self._decode and result.image is not None:
            try:
                await asyncio.get_running_loop().run_in_executor(self._pixels, packing.decode, result.image)
            except Exception as error:
                result = replace(result, outcome=Outcome.FAILED, reason=f"the result came back broken: {error}")
        flight = self.flights.pop(result.id.sequence, None)
        if flight is None:
            self._recorder.late_results += 1
        else:
            self._recorder.came(flight.row, result, self._age_ms(flight), size)

    # --- the end of a frame ---

    def _end(self, flight: Flight, ending: Ending, reason: str) -> None:
        """Without a result."""
        if self.flights.pop(flight.sequence, None) is not None:
            known = ending in (Ending.REJECTED, Ending.EXPIRED)
            self._recorder.end(flight.row, ending, self._age_ms(flight) if known else math.nan, reason)

    def _expire(self, flight: Flight) -> None:
        self._end(flight, Ending.EXPIRED, "its deadline passed before it could be sent")

    def give_up(self) -> None:
        """The run is over: what was sent is lost; what never left ends as what kept it, or is dropped."""
        for flight in list(self.flights.values()):
            if flight.on_the_way:
                self._end(flight, Ending.LOST, "no answer came")
            elif self._left_ms(flight) == 0:
                self._expire(flight)
            elif flight.turned_away:
                self._end(flight, Ending.REJECTED, flight.turned_away)
            else:
                self._end(flight, Ending.DROPPED, "the run was over before it could be sent")

    # --- helpers ---

    def _on_the_way(self) -> list[Flight]:
        return [flight for flight in self.flights.values() if flight.on_the_way]

    def _now_s(self) -> float:
        return time.monotonic() - self._start_s

    def _age_ms(self, flight: Flight) -> float:
        return (self._now_s() - flight.due_s) * 1000

    def _left_ms(self, flight: Flight) -> int | None:
        """To its deadline, rounded up; 0 = it is over, None = there is none."""
        deadline_ms = self._traffic.deadline_ms
        return max(0, math.ceil(deadline_ms - self._age_ms(flight))) if deadline_ms else None

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
