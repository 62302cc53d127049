"""The life of an edge node: take frames, send, receive, read, until the source ends or someone stops it."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from common.flow import BoundedQueue, Policy
from common.frame import Outcome, Region, Result, Route
from common.identity import identity_of
from common.pixels import Bytes
from common.wire import MAX_REASON
from edge_node.arrivals import Arrivals, Arrived
from edge_node.backlog import PAUSE_S, Backlog
from edge_node.capture import capture
from edge_node.care import Slowdown
from edge_node.delivery import Delivery
from edge_node.gate import Gate
from edge_node.in_hand import InHand
from edge_node.ledger import Flight, Ledger
from edge_node.live.state import state_of
from edge_node.local_enhancer import LocalEnhancer
from edge_node.metrics import Activity
from edge_node.packer import Packer
from edge_node.reader import Reader
from edge_node.results import Results
from edge_node.route import LocalMode
from edge_node.selection import Selection
from edge_node.settings import EdgeSettings
from edge_node.sights import Tracker
from edge_node.sinks import Sink
from edge_node.sources import Captured, Source
from edge_node.steps import Steps
from edge_node.takeover import Takeover
from edge_node.taking import Taking
from edge_node.uplink import Uplink
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import image_pb2

log = logging.getLogger(__name__)

STOP_GRACE_S = 5.0  # for what is on its way when someone stops the node
SOURCE_END_S = 1.0  # for a source to say why it ended
LONGEST_RETRY_S = 60.0  # whatever a cloud node says
KEPT_WAITING = 8  # frames of a live source that wait to be kept


class EdgeNode:
    """Frames from a source to readings in sinks.

    Use it as `await node.run(stop)`: it returns when the source has ended and every frame is read, or soon
    after `stop` was set. Every frame that was taken ends as one reading, in this run or, if it is kept, in a later one.

    Args:
        watched: whether somebody looks at the live page.
    """

    def __init__(
        self,
        settings: EdgeSettings,
        source: Source,
        reader: Reader,
        sinks: Sequence[Sink],
        enhancer: LocalEnhancer | None = None,
        *,
        slowdown: Slowdown | None = None,
        tracker: Tracker | None = None,
        watched: Callable[[], bool] = bool,
    ) -> None:
        self.settings, self.source = settings, source
        self.session = os.urandom(6).hex()
        self.ledger, self.in_hand, self.steps = Ledger(), InHand(), Steps()
        self.activity = Activity(settings.name)
        choosing, in_flight = settings.choosing, settings.sending.in_flight
        self.selection = Selection(every=choosing.every, on_change=choosing.on_change, still_s=choosing.still_s)
        self.gate = Gate(choosing.gate, choosing.areas)
        policy = Policy.DROP_OLDEST if source.live else Policy.WAIT
        self.captured: BoundedQueue[Captured] = BoundedQueue("source", 1 if source.live else 2, policy)
        self._slowdown = slowdown or Slowdown()
        self._background: set[asyncio.Task[Any]] = set()
        self._pixels = ThreadPoolExecutor(2, thread_name_prefix="pixels")
        self._networks = ThreadPoolExecutor(1, thread_name_prefix="networks")  # never the memory of two at once
        self._uplink = Uplink(
            settings.cloud,
            opening=self._opening,
            on_opened=self._opened,
            on_rejected=self._rejected,
            part_bytes=settings.sending.part_kib * 1024,
            connect_timeout_s=settings.connect_timeout_s,
            identity=identity_of(settings.identity),
        )
        self.takeover = Takeover(
            enhancer,
            choosing.local,
            settings.sending.deadline_ms,
            self.ledger,
            self._lit_here,
            lambda: self._uplink.connected,
            self._networks,
        )
        self._arrivals = Arrivals(
            reader,
            sinks,
            self.ledger,
            self.in_hand,
            self.steps,
            self._networks,
            limit=in_flight + 1,
            on_read=self._learn,
            on_written=lambda flight, whole: self.backlog.written(flight, whole),
            on_unread=lambda flight, result: self._spawn(self._let_go(flight, result)),
            tracker=tracker,
            activity=self.activity,
        )
        self._delivery = Delivery(settings, self._uplink, self.ledger, self._settle, self._spawn)
        self.backlog = Backlog(
            settings,
            self.session,
            self.ledger,
            self._arrivals.record,
            self._uplink,
            live=lambda: len(self.captured) > 0 or self.in_hand.frames > 0,
            launch=self._launch,
            write=self._arrivals.write_lost,
            spawn=self._spawn,
            notify=self.in_hand.changed,
            shows_dark=lambda: settings.draws or watched(),
        )
        alone = self.takeover.router.mode is LocalMode.ONLY
        if source.live and not alone and self.backlog.keeping.keeps(settings.sending.priority):
            self.captured.limit = KEPT_WAITING
        packer = Packer(settings, source.live, self._uplink.meter, self.steps, self._pixels)
        self._taking = Taking(
            settings,
            self.session,
            source,
            self.captured,
            self.gate,
            self.takeover,
            self._uplink,
            self._delivery,
            self.backlog,
            packer,
            self.ledger,
            self.in_hand,
            self._pixels,
            self._settle,
            self._spawn,
        )
        self._results = Results(
            settings,
            self.session,
            self.ledger,
            self.backlog,
            self.takeover,
            packer,
            self._arrivals,
            self._pixels,
            self._let_go,
            self._uplink.renew,
            self._spawn,
        )

    @property
    def connected(self) -> bool:
        """Whether a stream to a cloud node is open."""
        return self._uplink.connected

    @property
    def uplink(self) -> Uplink:
        """Its stream."""
        return self._uplink

    @property
    def results_connected(self) -> bool:
        """Whether NATS is there."""
        return self._results.connected

    @property
    def downlink_counts(self) -> dict[str, int]:
        """Results that were of no use, by reason."""
        return self._results.counts

    @property
    def results_waiting(self) -> dict[str, int]:
        """Messages that NATS holds for this edge, by priority."""
        return self._results.waiting

    @property
    def moving(self) -> bool:
        """Whether frames have begun to flow, or can."""
        return self.connected or len(self.captured) > 0

    def state(self) -> dict[str, Any]:
        """How it stands, for the live page."""
        return state_of(self, self._uplink, self._results.connected)

    async def run(self, stop: asyncio.Event) -> None:
        """Run to the end.

        Raises:
            LamplightError: the source broke, or no cloud node could be used.
        """
        alone = self.takeover.router.mode is LocalMode.ONLY
        if alone:
            self._uplink.closed.set()
            self.backlog.stopping = True
        else:
            await self.backlog.keeping.open()
        life = [self.takeover.watch()]
        if not alone:
            life += [self._uplink.run(), self._delivery.care(self._reachable), self.backlog.run()]
        reading = capture(self.source, self.captured, self.settings.fps, self.selection, self._slowdown)
        frames, take = asyncio.create_task(reading), asyncio.create_task(self._taking.run())
        reads = asyncio.create_task(self._arrivals.run())
        parts = [reads, *(asyncio.create_task(part) for part in life)]
        finish = asyncio.create_task(self._finish(frames, take))
        halt = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({finish, halt, *parts}, return_when=asyncio.FIRST_COMPLETED)
            if (failure := _failure(parts)) is not None:
                take.cancel()
                self.backlog.stopping = True
                if not reads.done():  # there is still someone to write readings down
                    await self._give_up(str(failure))
                raise failure
            if not finish.done():
                log.warning("stopping: %d frames are on their way", self.in_hand.frames)
                self.source.close()
                await self.captured.close(discard=not self.source.live)  # of a live one some have to be kept
                take.cancel()
                self.backlog.stopping = True
                await self.in_hand.changed()
                await asyncio.wait({finish, *parts}, timeout=STOP_GRACE_S, return_when=asyncio.FIRST_COMPLETED)
                if (failure := _failure(parts)) is not None:
                    raise failure
                await self._give_up("the edge node was stopped before its result came")
            else:
                finish.result()
        finally:
            self.source.close()
            await self._close([frames, take, finish, halt, *parts])

    async def _finish(self, frames: "asyncio.Task[None]", take: "asyncio.Task[None]") -> None:
        """Until every frame is sent and read; then raises what broke the source, if anything did."""
        await asyncio.wait({take})
        await asyncio.wait({frames}, timeout=SOURCE_END_S)
        broken = frames.done() and not frames.cancelled() and frames.exception() is not None
        await self.in_hand.until(lambda: self.in_hand.frames == 0 and (broken or self.backlog.done))
        if not take.cancelled():
            take.result()
        if frames.done() and not frames.cancelled():
            frames.result()

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
        self._results.listen(opened.results)
        holding = set(opened.holding)
        for flight in self.ledger.on_way():
            if flight.sequence not in holding:
                self._delivery.again(flight)

    def _rejected(self, rejected: pb.Rejected) -> None:
        flight = self.ledger.flights.get(rejected.sequence)
        if flight is None or flight.frame.attempt != rejected.attempt:
            return
        if self.takeover.lights(rejected.sequence):
            return
        if rejected.retry_after_ms:
            self._delivery.again(flight, min(rejected.retry_after_ms / 1000, LONGEST_RETRY_S))
        elif rejected.reason != pb.REJECT_REASON_DUPLICATE:  # then its result is to come
            self._settle(
                rejected.sequence, Outcome.FAILED, f"the cloud node refused it: {rejected.detail[:MAX_REASON]}"
            )

    def _reachable(self) -> bool:
        return self._uplink.connected and self._results.connected

    # --- how frames end ---

    def _settle(
        self,
        sequence: int,
        outcome: Outcome,
        reason: str,
        rgb: Bytes | None = None,
        route: Route = Route.CLOUD,
        *,
        final: bool = True,
    ) -> None:
        """Settle a frame without a result from the cloud; unless it is `final`, a kept one waits in the spool."""
        if outcome is Outcome.EXPIRED and self.takeover.lights(sequence):
            return
        flight = self.ledger.settle(sequence)
        if flight is None:
            return
        frame = flight.frame
        identity = (frame.id, frame.attempt, frame.priority, frame.captured_unix_ns)
        result = Result(*identity, outcome, reason=reason, trace=frame.trace)
        if not final and flight.kept is not None:
            self._spawn(self._let_go(flight, result))
        else:
            self._spawn(self._arrivals.put(Arrived(flight, result, 0, rgb, route)))

    async def _let_go(self, flight: Flight, result: Result) -> None:
        """Into the spool again; a reading without an image where that cannot be."""
        if not await self.backlog.release(flight, PAUSE_S if flight.unanswered else 0.0):
            await self._arrivals.put(Arrived(flight, result, 0, None))
        elif flight.origin is None:
            await self.in_hand.left(flight.here)

    async def _lit_here(self, flight: Flight, result: Result, lit: Bytes | None) -> None:
        await self._arrivals.put(Arrived(flight, result, 0, lit, Route.EDGE))

    async def _launch(self, flight: Flight) -> None:
        """Send a frame from the spool."""
        self.ledger.add(flight)
        await asyncio.wait({self._delivery.start(flight)})

    def _learn(self, flight: Flight, seconds: float, regions: Sequence[Region], picture: Bytes) -> None:
        self.takeover.router.read(seconds)
        if flight.origin is None:  # what was in sight hours ago says nothing of now
            self.gate.read(regions, picture.shape[1], picture.shape[0])

    async def _give_up(self, reason: str) -> None:
        """What is still on its way becomes a reading all the same, or waits in the spool."""
        self._arrivals.hurried = True
        for sequence in list(self.ledger.flights):
            self._settle(sequence, Outcome.FAILED, reason, final=False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_GRACE_S):
                await self.in_hand.until(lambda: self.in_hand.frames == 0 and self.backlog.done)

    # --- tasks ---

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
        self.takeover.close()
        keeping = self.backlog.keeping  # which writes to the sinks; its lock goes when no line can come any more
        for close in (self._results.close, keeping.end, self._arrivals.close, keeping.close):
            try:
                await close()
            except Exception:
                log.exception("a part of the node could not be closed")
        self._pixels.shutdown(wait=False)
        self._networks.shutdown(wait=False)


def _failure(parts: Sequence["asyncio.Task[None]"]) -> BaseException | None:
    return next((part.exception() for part in parts if part.done() and part.exception() is not None), None)
