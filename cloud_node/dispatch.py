"""One batch after another to one device: what goes next, what lines up behind it, and what comes back."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from cloud_node.batch_bound import BatchBound
from cloud_node.batches import Done
from cloud_node.device import Device
from cloud_node.flights import Chosen, Flying, Loss
from cloud_node.handover import Handover
from cloud_node.jobs import Job
from cloud_node.scheduler import Scheduler, Selection
from cloud_node.suspects import Suspects
from common.errors import DeviceLost
from common.frame import Outcome

UNENCODED: Final = (
    4  # enhanced frames that wait for their encoding, or as many as two batches hold; then the device waits
)
LOOK_EVERY_S: Final = 0.002  # frames that arrive within it while the device is busy are looked at together


class Dispatcher:
    """Serves one device after another, each until it is lost.

    While a batch is on the device the next one lines up behind it, so that the device never waits for the event loop:
    only if it is full, since more frames may join another; and it steps back for a frame that is more urgent, and for
    a device that is free sooner. A suspect shares the device with nothing: not with a batch, nor with what is encoded.
    """

    def __init__(
        self,
        name: str,
        scheduler: Scheduler[Job],
        bound: BatchBound,
        handover: Handover,
        suspects: Suspects,
        counts: Counter[str],
        stuck_after_s: float,
    ) -> None:
        self.on_returned: Callable[[], None] = self.wake  # called when frames went back to the scheduler
        self.on_measured: Callable[[int, int, int], None] = lambda pixels, device_ns, frames: None
        self.on_free: Callable[[], None] = lambda: None  # called before a batch is chosen
        self.ahead_elsewhere: Callable[[], int | None] = lambda: None  # the most urgent in line behind another device
        self.hung: Device | None = None  # it did not take other weights
        self.stuck_after_s = stuck_after_s
        self._name, self._scheduler, self._bound, self._handover = name, scheduler, bound, handover
        self._suspects, self._counts = suspects, counts
        self._wake, self._busy = asyncio.Event(), False
        self._solitary = False  # what is on the device is a suspect
        self._clearing = False  # a suspect waits until nothing else is
        self._device: Device | None = None  # that is served
        self._ahead: Flying | None = None  # behind the batch on the device
        self._looking: asyncio.Handle | None = None
        self._room = UNENCODED  # frames that may wait for their encoding
        self._held_up = False  # nothing lined up for want of it
        handover.on_encoded = self._encoded

    def wake(self) -> None:
        """Something was submitted, or the device has something to say. Call it from the event loop."""
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
        self._put_back(ahead.selection, ahead.jobs)
        return True

    def withdraw(self) -> None:
        """Nothing is begun any more."""
        if self._ahead is not None:
            self._ahead.call.revoke()

    async def serve(self, device: Device) -> Loss:
        """Until the device is lost. The next batch is on its way to it before the results of the last are handed on."""
        self._device = device
        try:
            loss = await self._serve(device)
            return self._with_ahead(loss, device)
        finally:
            self._device = None

    async def _serve(self, device: Device) -> Loss:
        done: Done | None = None
        flight: Flying | None
        while True:
            if done is not None and self._handover.encoding + len(done.jobs) > self._room:
                self._hand_on(done, device)
                done = None
            await self._handover.room(self._room)
            if reason := self._unfit(device):
                if done is not None:
                    self._hand_on(done, device)
                return Loss(reason, [], device.held())
            until_ns = 0
            flight, self._ahead = self._ahead, None
            if flight is None:
                self.on_free()
                chosen, until_ns = self._choose()
                if chosen is not None and chosen.alone:
                    if done is not None:
                        self._hand_on(done, device)
                        done = None
                    if not await self._quiet(chosen, device):
                        if device.lost:
                            return Loss(device.lost, [], device.held())
                        continue
                flight = None if chosen is None else self._send(chosen, device)
            if done is not None:
                self._hand_on(done, device)
                done = None
            if flight is None:
                if device.lost:
                    return Loss(device.lost, [], device.held())
                await self._more(until_ns)
                continue
            ended = await self._fly(flight, device)
            if isinstance(ended, Loss):
                return ended
            done = ended
            if done is not None and flight.jobs[0].alone:
                self._hand_on(done, device)
                done = None
                await self._handover.room(0)

    async def _fly(self, flight: Flying, device: Device) -> Done | Loss | None:
        """The batch is the device's turn now; None: it was put back."""
        self._busy, self._solitary = True, flight.jobs[0].alone
        for job in flight.jobs:
            job.release()
        self._look_ahead_soon()
        self._room = max(UNENCODED, 2 * len(flight.jobs))
        try:
            async with asyncio.timeout(self.stuck_after_s or None):
                done = await flight.call
        except TimeoutError:
            reason = f"{self._name} did not finish a batch within {self.stuck_after_s:g} s"
            return Loss(reason, flight.jobs, device.held())
        except DeviceLost as error:
            return self._lost_with(flight, str(error), device)
        finally:
            self._busy = False
        if done is None:
            self._put_back(flight.selection, flight.jobs)
            return None
        if done.ran.result.fits_pixels:
            self._counts["out of memory"] += 1
            self._bound.lower(done.ran.result.fits_pixels, time.monotonic())
        if done.ran.result.lost:
            self._hand_on(done, device)
            return Loss(done.ran.result.lost, done.left, done.left)
        return done

    def _unfit(self, device: Device) -> str:
        """Why this device does not go on; "" if it does."""
        if self._handover.crash is not None:
            raise self._handover.crash
        if device is self._handover.stuck:
            return f"{self._name} did not encode a frame in time"
        return f"{self._name} did not take other weights in time" if device is self.hung else ""

    async def _quiet(self, chosen: Chosen, device: Device) -> bool:
        """Wait until nothing else is in the device's hands. False if `chosen` was put back: the device is unfit, or
        something more urgent came.
        """

        def over() -> bool:
            unfit = self._handover.crash is not None or device.lost or self._unfit(device)
            return bool(unfit) or chosen.makes_way(self._scheduler)

        self._clearing = True
        while self._handover.encoding and not over():
            self._wake.clear()
            await self._wake.wait()
        self._clearing = False
        if not over():
            return True
        self._put_back(chosen.selection, chosen.jobs)
        return False

    # --- what goes next ---

    def _choose(self, ahead: bool = False) -> tuple[Chosen | None, int]:
        """The next batch; when to ask again if there is none (monotonic ns; 0 = when more comes)."""
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
            gone = {job for job in jobs if not self._may_go(job)}
            if gone:
                batch = [ticket for ticket in selection.batch if ticket.job not in gone]
                selection, jobs = replace(selection, batch=batch), [job for job in jobs if job not in gone]
            if jobs:
                return Chosen(selection, jobs), 0
            if gone:
                continue
            if not selection.batch:
                return None, selection.wait_until_ns

    def _may_go(self, job: Job) -> bool:
        """Known to be deadly: never. A suspect since it was queued: not among others."""
        if job not in self._suspects:
            return True
        if self._suspects.guilty(job):
            job.release()
            self._handover.settle(job, Outcome.FAILED, "devices were lost twice with such a frame on them")
            return False
        if not job.alone:
            self._handover.give_back([job], "a device was lost with such a frame on it: it must go alone")
        return job.alone

    async def _more(self, until_ns: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0, until_ns - time.monotonic_ns()) / 1e9 if until_ns else None):
                await self._wake.wait()

    def _send(self, chosen: Chosen, device: Device) -> Flying:
        expires_ns = min((ticket.expires_ns for ticket in chosen.selection.batch if ticket.expires_ns), default=0)
        return Flying(chosen.selection, chosen.jobs, device.send(chosen.jobs, expires_ns))

    def _put_back(self, selection: Selection[Job], jobs: list[Job]) -> None:
        self._handover.put_back(jobs)
        self._scheduler.put_back(selection)
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
        if self._ahead is not None or urgent is None or self._device is None or self._solitary:
            return
        if elsewhere is not None and elsewhere < urgent:
            return  # once this device is free it goes there
        self._held_up = self._handover.encoding > self._room
        if not self._held_up:
            chosen, _ = self._choose(ahead=True)
            if chosen is not None and chosen.alone:
                self._handover.put_back(chosen.jobs)
                self._scheduler.put_back(chosen.selection)
            elif chosen is not None:
                self._ahead = self._send(chosen, self._device)

    # --- what comes back ---

    def _encoded(self) -> None:
        if self._clearing:
            self._wake.set()
        if self._held_up and self._busy:
            self._look_ahead_soon()

    def _hand_on(self, done: Done, device: Device) -> None:
        for job in done.jobs:
            waited_ns, priority = done.ran.began_ns - job.arrived_ns, job.frame.priority.name.lower()
            job.timeline.add("scheduler", job.arrived_unix_ns, waited_ns, (), priority=priority)
        self._handover.done(done, device)
        if sizes := [output.pixels for _, output in done.enhanced]:
            self.on_measured(sum(sizes), done.ran.device_ns, len(sizes))

    def _lost_with(self, flight: Flying, reason: str, device: Device) -> Loss:
        """What never began waits again, unless a part of it was in the device's hands already."""
        held = device.held()
        if flight.call.revoke() and not any(job in held for job in flight.jobs):
            self._put_back(flight.selection, flight.jobs)
            return Loss(reason, [], held)
        return Loss(reason, flight.jobs, held)

    def _with_ahead(self, loss: Loss, device: Device) -> Loss:
        """What had lined up, too."""
        if self._ahead is None:
            return loss
        ahead, self._ahead = self._ahead, None
        more = self._lost_with(ahead, loss.reason, device)
        return Loss(loss.reason, loss.jobs + more.jobs, loss.blamed)
