"""Keeps one device busy: takes batches from the scheduler, has them enhanced and hands the results on."""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cloud_node.batch_bound import BatchBound
from cloud_node.batches import Done
from cloud_node.device import Device, Flight
from cloud_node.handover import Handover
from cloud_node.jobs import Job
from cloud_node.restarts import RestartLimit, Suspects
from cloud_node.scheduler import Scheduler, Selection
from common.errors import DeviceLost
from common.frame import Outcome, Result

log = logging.getLogger(__name__)

UNENCODED = 4  # enhanced frames that wait for their encoding, or as many as two batches hold; then the device waits
LOOK_EVERY_S = 0.002  # frames that arrive within it while the device is busy are looked at together
READY_S = 600.0  # for an engine to be built and warm, compilers included; or to take other weights
CLOSE_S = 10.0  # for the batch on the device, when the node stops


@dataclass(slots=True, eq=False)
class _Flight:
    """A batch that was handed to the device."""

    selection: Selection[Job]
    jobs: list[Job]
    call: Flight

    @property
    def priority(self) -> int:
        return self.selection.batch[0].priority

    def makes_way(self, scheduler: Scheduler[Job]) -> bool:
        """Whether what waits by now should go before it, or in the place of its less urgent frames."""
        urgent, batch = scheduler.most_urgent, self.selection.batch
        if urgent is None or self.selection.overdue:
            return False
        return urgent < self.priority or (urgent < batch[-1].priority and scheduler.waits(urgent, batch[0].bucket))


class Worker:
    """One per device.

    While a batch is on the device the next one lines up behind it, so that the device never waits for the event loop:
    only if it is full, since more frames may join another; and it steps back for a frame that is more urgent, and for
    a device that is free sooner.

    A job that is taken from the scheduler is either settled or given back, exactly once; its credit returns when it
    reaches the device. What runs out of memory is halved and tried again, and the scheduler's bound lowered
    (`BatchBound`).

    When the device is lost (it says so, a small image fails too, a batch never returns, or its process ends), what was
    on it is given back; a frame that is there at a second loss fails, since it may be the cause. Another takes its
    place, as often as `restarts` allows: in a process of its own that cures a sticky CUDA error, too. Then `run`
    raises.

    Args:
        make_device: makes the device, which is started then; also after a loss.
        settle: gets a job with its result.
        give_back: gets a job that another node should do, and why; by default such a job fails.
        bound: lowers the scheduler's when memory runs out; one for all devices.
        name: of the device, for logs.
        stuck_after_s: a batch, or encoding a frame, that takes longer means that the device is lost; 0 = never.
        restarts: of the device.
        on_batch: called after each batch with its pixels, the time on the device in ns, and its frames.
    """

    def __init__(
        self,
        make_device: Callable[[], Device],
        scheduler: Scheduler[Job],
        settle: Callable[[Job, Result], None],
        *,
        give_back: Callable[[Job, str], None] | None = None,
        bound: BatchBound | None = None,
        name: str = "device",
        stuck_after_s: float = 120.0,
        restarts: RestartLimit = RestartLimit(),  # noqa: B008  # frozen
        on_batch: Callable[[int, int, int], None] = lambda pixels, device_ns, frames: None,
    ) -> None:
        self.name, self.healthy = name, False
        self.on_health: Callable[[], None] = lambda: None  # called when `healthy` changed
        self.on_returned: Callable[[], None] = self.wake  # called when frames went back to the scheduler
        self.on_measured: Callable[[int, int, int], None] = lambda pixels, device_ns, frames: None  # as `on_batch`
        self.on_free: Callable[[], None] = lambda: None  # called before a batch is chosen
        self.ahead_elsewhere: Callable[[], int | None] = lambda: None  # the most urgent in line behind another device
        self.model, self.models = "", dict[str, str]()  # of the engine, or of the last one
        self.counts: Counter[str] = Counter()  # faults: "lost", "out of memory", "not numbers"
        self._make_device, self._stuck_after_s = make_device, stuck_after_s
        self._scheduler, self._bound = scheduler, bound or BatchBound(scheduler)
        self._on_batch = on_batch
        self._handover = Handover(settle, give_back or _failing(settle), self.wake, self.counts, stuck_after_s)
        self._handover.on_encoded = self._encoded
        self._restarts = restarts
        self._restarts_s: list[float] = []  # when, monotonic
        self._device: Device | None = None  # started
        self._suspects = Suspects()
        self._wake, self._changed = asyncio.Event(), asyncio.Event()
        self._busy, self._given_up = False, ""
        self._hung: Device | None = None  # it did not take other weights
        self._ahead: _Flight | None = None  # behind the batch on the device
        self._looking: asyncio.Handle | None = None
        self._room = UNENCODED  # frames that may wait for their encoding
        self._held_up = False  # nothing lined up for want of it

    # --- its life ---

    async def start(self) -> float:
        """Start the device; returns the seconds that took.

        Raises:
            LamplightError: as the engine does.
            DeviceLost: if the device is not ready within `READY_S`.
        """
        start_s = time.monotonic()
        device = self._make_device()
        try:
            async with asyncio.timeout(READY_S):
                await device.start()
        except BaseException as error:
            device.leave()
            if isinstance(error, TimeoutError):
                raise DeviceLost(f"{self.name} was not ready within {READY_S:.0f} s") from None
            raise
        self._device, device.on_lost = device, self._wake.set
        self._note_models(device)
        self._set_health(True)
        return time.monotonic() - start_s

    @property
    def pid(self) -> int:
        """Of the device's process; 0 = there is none now."""
        device = self._device
        return 0 if device is None else device.pid

    async def run(self) -> None:
        """Work until cancelled; starts, unless that was done.

        Raises:
            DeviceLost: once the device is given up.
        """
        try:
            if self._device is None:
                await self.start()
            while True:
                await self._restart(*await self._serve())
        finally:
            self.healthy = False
            if self._ahead is not None:
                self._ahead.call.revoke()
            self._handover.cancel("this node is stopping")

    async def close(self) -> None:
        """Once `run` is over: wait for the batch on the device, `CLOSE_S` at most."""
        if self._device is not None:
            self._device.leave()
            if not await self._device.ended(CLOSE_S):
                log.warning("%s is still busy: it is left behind", self.name)

    @property
    def pending(self) -> int:
        """Frames on the device or being encoded."""
        return len(self._handover)

    def wake(self) -> None:
        """Something was submitted. Call it from the event loop."""
        self._wake.set()
        if self._ahead is not None and self._ahead.makes_way(self._scheduler):
            self.step_back()
        if self._busy and self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look_ahead)

    @property
    def ahead_priority(self) -> int | None:
        """Of the batch that lined up; None if none did."""
        return None if self._ahead is None else self._ahead.priority

    def step_back(self) -> bool:
        """What lined up waits in the scheduler again; False if nothing had, or the device began with it."""
        if self._ahead is None or not self._ahead.call.revoke():
            return False
        ahead, self._ahead = self._ahead, None
        self._put_back(ahead)
        return True

    async def reload(self, preset: str, weights: Path | None) -> str:
        """Put other weights into a preset while batches go on; returns the model's new version.

        Waits while the device is being restarted; an engine that was lost meanwhile does not count.

        Raises:
            WeightsError: if they do not fit; the old ones stay.
            DeviceLost: if the device is given up.
        """
        while True:
            while (device := self._device) is None:
                if self._given_up:
                    raise DeviceLost(self._given_up)
                self._changed.clear()
                await self._changed.wait()
            try:
                async with asyncio.timeout(READY_S):
                    version = await device.reload(preset, weights)
            except TimeoutError:  # `run` makes another
                self._hung = device
                self._wake.set()
                await self._until_other_than(device)
                continue
            except Exception as error:
                if isinstance(error, DeviceLost) and device.lost:
                    await self._until_other_than(device)
                elif device is self._device:
                    raise
                continue
            if device is self._device:
                self._note_models(device)
                return version

    # --- one batch after another ---

    async def _serve(self) -> tuple[str, list[Job]]:
        """Until the device is lost: returns why, and what was on it.

        The next batch is on its way to the device before the results of the last are handed on.
        """
        device = self._device
        assert device is not None
        done: Done | None = None
        flight: _Flight | None
        while True:
            if done is not None and self._handover.encoding + len(done.jobs) > self._room:
                self._hand_on(done, device)
                done = None
            await self._handover.room(self._room)
            if self._handover.crash is not None:
                raise self._handover.crash
            if device in (self._handover.stuck, self._hung):
                if done is not None:
                    self._hand_on(done, device)
                what = "encode a frame" if device is self._handover.stuck else "take other weights"
                return f"{self.name} did not {what} in time", []
            until_ns = 0
            flight, self._ahead = self._ahead, None
            if flight is None:
                self.on_free()
                flight, until_ns = self._next()
            if done is not None:
                self._hand_on(done, device)
                done = None
            if flight is None:
                if device.lost:
                    return device.lost, []
                await self._more(until_ns)
                continue
            self._busy = True
            for job in flight.jobs:
                job.release()
            self._look_ahead_soon()
            self._room = max(UNENCODED, 2 * len(flight.jobs))
            try:
                async with asyncio.timeout(self._stuck_after_s or None):
                    done = await flight.call
            except TimeoutError:
                return f"{self.name} did not finish a batch within {self._stuck_after_s:g} s", flight.jobs
            except DeviceLost as error:
                if not flight.call.revoke():
                    return str(error), flight.jobs
                self._put_back(flight)
                return str(error), []
            finally:
                self._busy = False
            if done is None:
                self._put_back(flight)
                continue
            if done.ran.result.fits_pixels:
                self.counts["out of memory"] += 1
                self._bound.lower(done.ran.result.fits_pixels, time.monotonic())
            if done.ran.result.lost:
                self._hand_on(done, device)
                return done.ran.result.lost, done.left

    def _next(self, ahead: bool = False) -> tuple[_Flight | None, int]:
        """Send off the next batch; returns when to ask again if there is none (monotonic ns; 0 = when more comes)."""
        assert self._device is not None
        self._bound.relax(time.monotonic())
        while True:
            self._wake.clear()
            selection = self._scheduler.select(time.monotonic_ns(), only_full=ahead)
            expired = [ticket.job for ticket in selection.expired]
            abandoned = [ticket.job for ticket in selection.batch if ticket.job.abandoned]
            jobs = [ticket.job for ticket in selection.batch if not ticket.job.abandoned]
            self._handover.take(expired + jobs)
            for job in expired + abandoned:
                job.release()
            for job in expired:
                self._handover.settle(job, Outcome.EXPIRED, "its deadline passed in the queue")
            if jobs:
                return self._dispatch(selection, jobs), 0
            if not selection.batch:
                return None, selection.wait_until_ns

    async def _more(self, until_ns: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0, until_ns - time.monotonic_ns()) / 1e9 if until_ns else None):
                await self._wake.wait()

    def _dispatch(self, selection: Selection[Job], jobs: list[Job]) -> _Flight:
        assert self._device is not None
        expires_ns = min((ticket.expires_ns for ticket in selection.batch if ticket.expires_ns), default=0)
        return _Flight(selection, jobs, self._device.send(jobs, expires_ns))

    def _put_back(self, flight: _Flight) -> None:
        self._handover.put_back(flight.jobs)
        self._scheduler.put_back(flight.selection)
        self.on_returned()

    def _look_ahead_soon(self) -> None:
        """Once those devices had their turn that were woken for what waits."""
        if self._looking is not None:
            self._looking.cancel()
        self._looking = asyncio.get_running_loop().call_soon(self._look_ahead)

    def _look_ahead(self) -> None:
        """Line up what goes next."""
        self._looking = None
        if not self._busy:
            return
        try:
            self._line_up()
        except Exception as error:  # here nobody would hear of it
            self._handover.crash = error
            self._wake.set()

    def _line_up(self) -> None:
        urgent, elsewhere = self._scheduler.most_urgent, self.ahead_elsewhere()
        if self._ahead is not None or urgent is None:
            return
        if elsewhere is not None and elsewhere < urgent:
            return  # once this device is free it goes there
        self._held_up = self._handover.encoding > self._room
        if not self._held_up:
            self._ahead, _ = self._next(ahead=True)

    def _encoded(self) -> None:
        if self._held_up and self._busy:
            self._look_ahead_soon()

    def _hand_on(self, done: Done, device: Device) -> None:
        for job in done.jobs:
            waited_ns, priority = done.ran.began_ns - job.arrived_ns, job.frame.priority.name.lower()
            job.timeline.add("scheduler", job.arrived_unix_ns, waited_ns, (), priority=priority)
        self._handover.done(done, device)
        if sizes := [output.pixels for _, output in done.enhanced]:
            measured = sum(sizes), done.ran.device_ns, len(sizes)
            self._on_batch(*measured)
            self.on_measured(*measured)

    # --- after a loss ---

    async def _restart(self, reason: str, jobs: list[Job]) -> None:
        """Give `jobs` back and build another engine. Raises DeviceLost when that was tried too often."""
        while True:
            if self._ahead is not None and not self.step_back():
                jobs, self._ahead = jobs + self._ahead.jobs, None
            self.counts["lost"] += 1
            log.error("%s is lost: %s", self.name, reason)
            if self._device is not None:
                self._device.leave()
            self._device = None
            self._set_health(False)
            self._part_with(jobs, reason)
            delay_s = self._restarts.delay_s(self._restarts_s, time.monotonic())
            if delay_s is None:
                self._given_up = f"{self.name} is given up after {self._restarts}: {reason}"
                self._changed.set()
                raise DeviceLost(self._given_up)
            self._restarts_s = [*self._restarts_s, time.monotonic()][-self._restarts.most :]
            await asyncio.sleep(delay_s)
            try:
                seconds = await self.start()
            except Exception as error:
                reason = str(error) or repr(error)
            else:
                log.warning("%s works again, warm after %.1f s", self.name, seconds)
                return

    def _part_with(self, jobs: list[Job], reason: str) -> None:
        """Give frames back; one that was there at an earlier loss, too, may be its cause, and fails."""
        again = self._suspects.add({job.frame.id: job for job in jobs})
        for job in again:
            self._handover.settle(job, Outcome.FAILED, f"the device was lost twice with this frame on it: {reason}")
        self._handover.give_back(jobs, reason)

    async def _until_other_than(self, device: Device) -> None:
        while self._device is device and not self._given_up:
            self._changed.clear()
            await self._changed.wait()

    def _note_models(self, device: Device) -> None:
        self.models = dict(device.models)
        self.model = next(iter(self.models.values()))

    def _set_health(self, healthy: bool) -> None:
        self._changed.set()
        if healthy is not self.healthy:
            self.healthy = healthy
            self.on_health()


def _failing(settle: Callable[[Job, Result], None]) -> Callable[[Job, str], None]:
    return lambda job, reason: settle(job, job.result(Outcome.FAILED, reason))
