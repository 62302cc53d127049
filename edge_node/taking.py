"""From the source's queue to a flight: to the cloud, to this device's own network, to the reader, or into the spool."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from common import logs, packing
from common.flow import BoundedQueue, QueueClosed
from common.frame import Frame, FrameId, Outcome, Priority, Route
from common.pixels import RawImage
from common.telemetry import Timeline
from edge_node.backlog import Backlog
from edge_node.delivery import Delivery
from edge_node.gate import Gate, Verdict
from edge_node.in_hand import InHand
from edge_node.ledger import Flight, Ledger
from edge_node.packer import Packer
from edge_node.route import LocalMode
from edge_node.settings import EdgeSettings
from edge_node.sources import Captured, Source
from edge_node.takeover import Takeover
from edge_node.uplink import Uplink

log = logging.getLogger(__name__)

HERE = 2  # frames on this device's own path: one is read while the next is lit up
LOOK_AGAIN_S = 0.1  # longest wait of a frame before its route is chosen again
LOST_CLOCK_NS = 60_000_000_000  # a frame that seems to wait longer for being taken comes from a clock that jumped


@dataclass(slots=True)
class _Taken:
    """A frame that was judged; `route` is None while it has none, and for one that goes into the spool alone."""

    captured: Captured
    verdict: Verdict
    priority: Priority
    kept: bool  # it must not be lost
    route: Route | None = None


@dataclass(slots=True)
class Taking:
    """Takes a frame once it can go, so that a live source waits with its newest.

    An essential frame is not replaced by a newer one while it waits; one that must not be lost makes way for newer
    ones, and waits in the spool, where there is one.

    Args:
        settle: ends a flight that no cloud node sees, as `EdgeNode.settle`.
        spawn: starts a task that the node looks after.
    """

    settings: EdgeSettings
    session: str
    source: Source
    captured: BoundedQueue[Captured]
    gate: Gate
    takeover: Takeover
    uplink: Uplink
    delivery: Delivery
    backlog: Backlog
    packer: Packer
    ledger: Ledger
    in_hand: InHand
    pixels: ThreadPoolExecutor
    settle: Callable[..., None]
    spawn: "Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]"
    _forwarding: "dict[Priority, asyncio.Task[None]]" = field(default_factory=dict)  # to the cloud, not whole yet
    _waiting: _Taken | None = None  # taken out of the queue, and without a route yet

    async def run(self) -> None:
        """Until the queue is closed and empty, or the limit of frames is reached."""
        taken = 0
        try:
            while True:
                await self._forward_one(await self._next())
                taken += 1
                if taken == self.settings.limit:
                    self.source.close()
                    await self.captured.close(discard=True)
        except QueueClosed:
            return
        except asyncio.CancelledError:
            await self._leave()
            raise

    async def _leave(self) -> None:
        """The node stops: what waits and must not be lost goes into the spool, the rest is dropped and counted."""
        waiting, self._waiting = self._waiting, None
        while waiting is not None or len(self.captured):
            frame = waiting or await self._judge(await self.captured.get())
            waiting = None
            if self._may_wait_apart(frame):
                frame.route = None
                await self._forward_one(frame)
            else:
                self.captured.dropped += 1

    async def _next(self) -> _Taken:
        """The next frame that goes, with its route."""
        while True:
            captured = await self.captured.first()
            frame = await self._judge(captured)
            verdict = frame.verdict
            if self.source.live and not frame.kept and not verdict.essential and len(self.captured) > 1:
                self.captured.dropped += await self.captured.take(captured)  # the queue is long for kept ones alone
                continue
            if verdict.essential or self._may_wait_apart(frame):
                if not await self.captured.take(captured):
                    continue
                self._waiting = frame
            if not await self._find_way(frame):
                continue
            self._waiting = None
            if frame.route is Route.CLOUD and not verdict.essential and not frame.kept and self.packer.skips():
                self.captured.dropped += 1
                continue
            self.gate.take(verdict)
            return frame

    async def _judge(self, captured: Captured) -> _Taken:
        verdict = await asyncio.get_running_loop().run_in_executor(self.pixels, self.gate.judge, captured.image)
        priority = Priority.ESSENTIAL if verdict.essential else self.settings.sending.priority
        may_be_sent = verdict.light and self.takeover.router.mode is not LocalMode.ONLY
        return _Taken(captured, verdict, priority, kept=may_be_sent and self.backlog.keeping.keeps(priority))

    async def _find_way(self, frame: _Taken) -> bool:
        """Wait until it can go, and choose its route; False when a newer one took its place."""
        queued = None if self._waiting is frame else frame.captured
        while True:
            route = self._route(frame)
            if self._is_free(route, frame.priority):
                frame.route = route
                return queued is None or await self.captured.take(queued)
            apart = self._may_wait_apart(frame) and self.backlog.takes(frame.priority)
            newer = apart and self.backlog.takes(self.settings.sending.priority)  # the next one has to be kept as well
            if apart and ((newer and len(self.captured)) or not self.uplink.connected):
                return True
            if await self._wait_for(self._way(route, frame.priority), queued, newer):
                return False

    def _may_wait_apart(self, frame: _Taken) -> bool:
        return frame.kept and self.source.live

    def _route(self, frame: _Taken) -> Route:
        if not frame.verdict.light:
            return Route.NONE
        return self.takeover.router.choose(time.monotonic(), self._is_free(Route.CLOUD, frame.priority))

    def _is_free(self, route: Route, priority: Priority) -> bool:
        if self.in_hand.frames >= self._most(priority):
            return False
        if route is not Route.CLOUD:
            return self.in_hand.here < HERE
        return not self._before(priority) and self.uplink.connected and self.uplink.window.has_room(priority)

    def _most(self, priority: Priority) -> int:
        """Frames that may be in hand; an essential one finds a place more."""
        return self.settings.sending.in_flight + (priority is Priority.ESSENTIAL)

    def _before(self, priority: Priority) -> "list[asyncio.Task[None]]":
        """What is being sent and as urgent, or more; parts of less urgent frames are overtaken."""
        return [task for other, task in self._forwarding.items() if other <= priority and not task.done()]

    async def _way(self, route: Route, priority: Priority) -> None:
        """Until the route may be free."""
        await self.in_hand.until(
            lambda: self.in_hand.frames < self._most(priority) and (route is Route.CLOUD or self.in_hand.here < HERE)
        )
        if route is Route.CLOUD:
            if before := self._before(priority):
                await asyncio.wait(before)
            await self.uplink.window.open(priority)

    async def _wait_for(self, way: Coroutine[Any, Any, None], queued: Captured | None, newer: bool) -> bool:
        """Until the way is free, time is up, or (`newer`) a newer frame came; True if it replaced the queued one."""
        waits = [asyncio.create_task(way)]
        if newer:
            waits.append(asyncio.create_task(self._newer()))
        if queued is not None:
            waits.append(asyncio.create_task(self.captured.gone(queued)))
        try:
            done, _ = await asyncio.wait(waits, timeout=LOOK_AGAIN_S, return_when=asyncio.FIRST_COMPLETED)
            return queued is not None and waits[-1] in done
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _newer(self) -> None:
        if not await self.captured.ready():
            await asyncio.Event().wait()  # none will come

    async def _forward_one(self, frame: _Taken) -> None:
        self._waiting = None
        self.in_hand.took(frame.route in (Route.EDGE, Route.NONE))
        task = self.spawn(self._forward(frame))
        if frame.route is Route.CLOUD:
            self._forwarding[frame.priority] = task
        elif frame.route is None:
            await asyncio.shield(task)  # no more frames in memory than the disk takes

    async def _forward(self, frame: _Taken) -> None:
        here = frame.route in (Route.EDGE, Route.NONE)
        try:
            flight = self._begin(frame)
        except Exception:
            log.exception("a frame of %s could not be taken", frame.captured.name)
            self.captured.dropped += 1
            return await self.in_hand.left(here)
        flight.here = here
        if frame.route is Route.CLOUD:
            flight.pixels = self.takeover.keeps(frame.captured.image)
        if frame.route is not None:
            self.ledger.add(flight)
        try:
            await self._work_on(flight, frame)
        except Exception as error:
            log.exception("frame %s could not be worked on", flight.frame.id)
            if not flight.settled:
                self.ledger.add(flight)
                self.settle(flight.sequence, Outcome.FAILED, str(error))

    async def _work_on(self, flight: Flight, frame: _Taken) -> None:
        """Pack and send, light up here, read as it is, or store."""
        image = frame.captured.image
        if frame.route is Route.CLOUD and frame.priority is Priority.ESSENTIAL:
            self.uplink.expect()
        if frame.kept or frame.route is Route.CLOUD:
            await self.packer.pack(flight, image)
        if frame.kept and not flight.settled:
            self.backlog.keep(flight)
        match frame.route:
            case Route.CLOUD:
                await asyncio.wait({self.delivery.start(flight)})
            case Route.EDGE:
                await self.takeover.light(flight, image)
            case Route.NONE:
                await self._as_is(flight, image)
            case None:
                if flight.kept is not None:
                    await asyncio.wait({flight.kept})
                self.ledger.add(flight)
                self.settle(flight.sequence, Outcome.FAILED, "it could be neither sent nor kept", final=False)

    async def _as_is(self, flight: Flight, image: RawImage) -> None:
        """Nothing to light up: straight to the reader."""
        rgb = await asyncio.get_running_loop().run_in_executor(self.pixels, packing.to_rgb, image)
        self.settle(flight.sequence, Outcome.AS_IS, "", rgb, Route.NONE)

    def _begin(self, frame: _Taken) -> Flight:
        """A frame that is taken, not packed yet."""
        settings, captured, verdict = self.settings, frame.captured, frame.verdict
        image = captured.image
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
                "lamplight.priority": frame.priority.name.lower(),
            },
        )
        timeline.add("source", captured_unix_ns, max(0, waited_ns - verdict.spent_ns))
        timeline.add("gate", taken_unix_ns - verdict.spent_ns, verdict.spent_ns, (), verdict=verdict.reason)
        sent = Frame(
            id=FrameId(settings.name, self.session, sequence),
            image=packing.unsent(image),
            captured_unix_ns=captured_unix_ns,
            priority=frame.priority,
            trace=timeline.trace,
        )
        logs.remember(sent.id, timeline.trace)
        shown = image if settings.shows_dark else None
        size, captured_ns = (image.width, image.height), taken_ns - waited_ns
        return Flight(sent, captured.name, shown, image.data.size, timeline, captured_ns, size)
