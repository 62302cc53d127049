"""Keeps one device busy: takes batches from the scheduler, has them enhanced and hands the results on."""

import asyncio
import contextlib
import gc
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from cloud_node import batches
from cloud_node.batch_bound import BatchBound
from cloud_node.batches import Done
from cloud_node.device_thread import DeviceThread
from cloud_node.engine import Engine
from cloud_node.handover import Handover
from cloud_node.jobs import Job
from cloud_node.restarts import RestartLimit
from cloud_node.scheduler import Scheduler, Ticket
from cloud_node.staging import Staging
from common.errors import DeviceLost
from common.frame import FrameId, Outcome, Result

log = logging.getLogger(__name__)

UNENCODED = 4  # enhanced frames that wait for their encoding, or as many as two batches hold; then the device waits
STAGE_EVERY_S = 0.002  # frames that arrive within it while the device is busy are looked at together
READY_S = 600.0  # for an engine to be built and warm, compilers included
REMEMBERED = 1_024  # frames that were on the device at a loss
CLOSE_S = 10.0  # for the batch on the device, when the node stops


class Worker:
    """One per device.

    A job that is taken from the scheduler is either settled or given back, exactly once; its credit returns when it
    is taken. What runs out of memory is halved and tried again, and the scheduler's bound lowered (`BatchBound`).

    When the device is lost (it says so, a small image fails too, or a batch never returns), what was on it is given
    back; a frame that is there at a second loss fails, since it may be the cause. The engine is built anew on a new
    thread, as often as `restarts` allows. A sticky CUDA error cannot be cured inside its process: then every attempt
    fails, and `run` raises.

    Args:
        make_engine: builds the engine; called on the device's thread, also after a loss.
        encoders: where results are encoded.
        settle: gets a job with its result.
        give_back: gets a job that another node should do, and why; by default such a job fails.
        staging: unpacks frames ahead; one for all devices.
        bound: lowers the scheduler's when memory runs out; one for all devices.
        name: of the device, for logs.
        cpus: processors of the device's thread; None = all.
        stuck_after_s: a batch that takes longer means that the device is lost; 0 = never.
        restarts: of the engine.
        on_batch: called after each batch with its pixels, the time on the device's thread in ns, and its frames.
    """

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        scheduler: Scheduler[Job],
        encoders: ThreadPoolExecutor,
        settle: Callable[[Job, Result], None],
        *,
        give_back: Callable[[Job, str], None] | None = None,
        staging: Staging | None = None,
        bound: BatchBound | None = None,
        name: str = "device",
        cpus: frozenset[int] | None = None,
        stuck_after_s: float = 120.0,
        restarts: RestartLimit = RestartLimit(),  # noqa: B008  # frozen
        on_batch: Callable[[int, int, int], None] = lambda pixels, device_ns, frames: None,
    ) -> None:
        self.name, self.healthy = name, False
        self.on_health: Callable[[], None] = lambda: None  # called when `healthy` changed
        self.model, self.models = "", dict[str, str]()  # of the engine, or of the last one
        self.counts: Counter[str] = Counter()  # faults: "lost", "out of memory", "not numbers"
        self._make_engine, self._cpus, self._stuck_after_s = make_engine, cpus, stuck_after_s
        self._scheduler, self._bound = scheduler, bound or BatchBound(scheduler)
        self._staging, self._on_batch = staging or Staging(), on_batch
        self._handover = Handover(encoders, settle, give_back or _failing(settle), self.wake, self.counts)
        self._restarts = restarts
        self._restarts_s: list[float] = []  # when, monotonic
        self._engine: Engine | None = None
        self._thread: DeviceThread | None = None
        self._losses: OrderedDict[FrameId, None] = OrderedDict()  # frames that were on the device when it was lost
        self._wake, self._changed = asyncio.Event(), asyncio.Event()
        self._busy, self._given_up = False, ""
        self._staging_due: asyncio.TimerHandle | None = None

    # --- its life ---

    async def start(self) -> float:
        """Build the engine and warm it up; returns the seconds that took.

        Raises:
            LamplightError: as the engine does.
            DeviceLost: if the device is not ready within `READY_S`.
        """
        start_s = time.monotonic()
        self._thread = DeviceThread(self.name, self._cpus)
        try:
            async with asyncio.timeout(READY_S):
                self._engine = await self._thread.call(self._build)
        except TimeoutError:
            raise DeviceLost(f"{self.name} was not ready within {READY_S:.0f} s") from None
        self._note_models(self._engine)
        self._set_health(True)
        return time.monotonic() - start_s

    async def run(self) -> None:
        """Work until cancelled; starts, unless that was done.

        Raises:
            DeviceLost: once the device is given up.
        """
        try:
            if self._engine is None:
                await self.start()
            while True:
                await self._restart(*await self._serve())
        finally:
            self.healthy = False
            self._handover.cancel("this node is stopping")

    async def close(self) -> None:
        """Once `run` is over: wait for the batch on the device, `CLOSE_S` at most."""
        if self._thread is not None:
            self._thread.leave()
            if not await self._thread.ended(CLOSE_S):
                log.warning("%s is still busy: it is left behind", self.name)

    @property
    def pending(self) -> int:
        """Frames on the device or being encoded."""
        return len(self._handover)

    def wake(self) -> None:
        """Something was submitted. Call it from the event loop."""
        self._wake.set()
        if self._busy and self._staging_due is None:
            self._staging_due = asyncio.get_running_loop().call_later(STAGE_EVERY_S, self._stage_ahead)

    async def reload(self, preset: str, weights: Path | None) -> str:
        """Put other weights into a preset while batches go on; returns the model's new version.

        Waits while the device is being restarted; an engine that was lost meanwhile does not count.

        Raises:
            WeightsError: if they do not fit; the old ones stay.
            DeviceLost: if the device is given up.
        """
        while True:
            while (engine := self._engine) is None:
                if self._given_up:
                    raise DeviceLost(self._given_up)
                self._changed.clear()
                await self._changed.wait()
            apart = DeviceThread(f"{self.name} reload")  # a driver that hangs keeps no pool from ending
            try:
                version = await apart.call(partial(engine.reload, preset, weights))
            except Exception:
                if engine is self._engine:
                    raise
                continue
            finally:
                apart.leave()
            if engine is self._engine:
                gc.unfreeze()  # what the node kept for good at its start may be the model that was replaced
                self._note_models(engine)
                return version

    # --- one batch after another ---

    async def _serve(self) -> tuple[str, list[Job]]:
        """Until the device is lost: returns why, and what was on it.

        The next batch is on its way to the device before the results of the last are handed on.
        """
        assert self._thread is not None and self._engine is not None
        done: Done | None = None
        room = UNENCODED
        while True:
            if done is not None and self._handover.encoding + len(done.jobs) > room:
                self._hand_on(done)
                done = None
            await self._handover.room(room)
            if self._handover.crash is not None:
                raise self._handover.crash
            jobs, until_ns = self._take()
            answer = self._dispatch(jobs, self._thread, self._engine) if jobs else None
            if done is not None:
                self._hand_on(done)
                done = None
            if answer is None:
                await self._more(until_ns)
                continue
            self._stage_ahead()
            room = max(UNENCODED, 2 * len(jobs))
            try:
                async with asyncio.timeout(self._stuck_after_s or None):
                    done = await answer
            except TimeoutError:
                return f"{self.name} did not finish a batch within {self._stuck_after_s:g} s", jobs
            finally:
                self._busy = False
            if done.result.fits_pixels:
                self.counts["out of memory"] += 1
                self._bound.lower(done.result.fits_pixels, time.monotonic())
            if done.result.lost:
                self._hand_on(done)
                return done.result.lost, done.left

    def _take(self) -> tuple[list[Job], int]:
        """The next batch, and when to ask again if there is none (monotonic ns; 0 = when something comes)."""
        self._bound.relax(time.monotonic())
        while True:
            self._wake.clear()
            selection = self._scheduler.select(time.monotonic_ns())
            expired = [ticket.job for ticket in selection.expired]
            abandoned = [ticket.job for ticket in selection.batch if ticket.job.abandoned]
            jobs = [ticket.job for ticket in selection.batch if not ticket.job.abandoned]
            self._handover.take(expired + jobs)
            for job in expired + abandoned + jobs:
                job.release()
            for job in expired + abandoned:
                self._staging.drop(job)
            for job in expired:
                self._handover.settle(job, Outcome.EXPIRED, "its deadline passed in the queue")
            if jobs or not selection.batch:
                return jobs, selection.wait_until_ns

    async def _more(self, until_ns: int) -> None:
        if not len(self._scheduler):
            self._staging.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0, until_ns - time.monotonic_ns()) / 1e9 if until_ns else None):
                await self._wake.wait()

    def _dispatch(self, jobs: list[Job], thread: DeviceThread, engine: Engine) -> "asyncio.Future[Done]":
        unpack = self._staging.take(jobs)
        now_ns, start = time.monotonic_ns(), (time.time_ns(), time.perf_counter_ns())
        self._busy = True
        answer = thread.call(lambda: batches.work(engine, jobs, unpack, start))
        for job in jobs:
            waited_ns, priority = now_ns - job.arrived_ns, job.frame.priority.name.lower()
            job.timeline.add("scheduler", job.arrived_unix_ns, waited_ns, (), priority=priority)
        return answer

    def _stage_ahead(self) -> None:
        """Unpack what most likely goes next; it stays in the queue, and `select` decides."""
        if self._staging_due is not None:
            self._staging_due.cancel()
            self._staging_due = None
        if self._busy:
            self._staging.ahead(ticket.job for ticket in self._scheduler.preview(time.monotonic_ns()))

    def _hand_on(self, done: Done) -> None:
        self._handover.done(done)
        if sizes := [output.rgb.shape for _, output in done.enhanced]:
            self._on_batch(sum(height * width for height, width, _ in sizes), done.device_ns, len(sizes))

    # --- after a loss ---

    async def _restart(self, reason: str, jobs: list[Job]) -> None:
        """Give `jobs` back and build another engine. Raises DeviceLost when that was tried too often."""
        while True:
            self.counts["lost"] += 1
            log.error("%s is lost: %s", self.name, reason)
            if self._thread is not None:
                self._thread.leave()
            self._engine = self._thread = None
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
        again = [job for job in jobs if job.frame.id in self._losses]
        for job in again:
            self._handover.settle(job, Outcome.FAILED, f"the device was lost twice with this frame on it: {reason}")
        self._handover.give_back(jobs, reason)
        self._losses.update(dict.fromkeys(job.frame.id for job in jobs))
        while len(self._losses) > REMEMBERED:
            self._losses.popitem(last=False)

    def _build(self) -> Engine:
        if self._restarts_s:
            gc.unfreeze()
            gc.collect()  # the lost engine's memory
        engine = self._make_engine()
        engine.warm_up()
        return engine

    def _note_models(self, engine: Engine) -> None:
        self.model, self.models = engine.model, dict(engine.models)

    def _set_health(self, healthy: bool) -> None:
        self._changed.set()
        if healthy is not self.healthy:
            self.healthy = healthy
            self.on_health()


def _failing(settle: Callable[[Job, Result], None]) -> Callable[[Job, str], None]:
    return lambda job, reason: settle(job, job.result(Outcome.FAILED, reason))


def ticket(job: Job, width: int, height: int, expires_ns: int) -> Ticket[Job]:
    """What the scheduler must know of a job."""
    return Ticket(
        edge=job.frame.id.edge,
        priority=job.frame.priority,
        # A file may be turned when it is decoded: it goes alone.
        bucket=(job.preset, width, height) if job.encoded is None else id(job),
        pixels=width * height,
        arrived_ns=job.arrived_ns,
        job=job,
        expires_ns=expires_ns,
        share=job.share,
    )
