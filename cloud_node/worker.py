"""Keeps one device busy: takes batches from the scheduler, stages, enhances and hands the results on."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from opentelemetry.trace import Link

from cloud_node.engine import Engine, Enhanced
from cloud_node.jobs import Job
from cloud_node.scheduler import Scheduler, Selection, Ticket
from common import packing
from common.errors import ImageError, LamplightError
from common.frame import Outcome, Result
from common.pixels import RawImage
from common.telemetry import batch_link

log = logging.getLogger(__name__)

UNENCODED = 4  # enhanced frames that wait for their encoding; then the device waits


class Worker:
    """One per device. `settle` gets each job with its result, exactly once."""

    def __init__(
        self,
        engine: Engine,
        scheduler: Scheduler[Job],
        encoders: ThreadPoolExecutor,
        settle: Callable[[Job, Result], None],
        max_pixels: int = packing.MAX_PIXELS,
    ) -> None:
        self.engine, self.scheduler, self.settle, self.max_pixels = engine, scheduler, settle, max_pixels
        self.working: list[Job] = []  # on the device
        self._wake = asyncio.Event()
        self._encoders = encoders
        self._unpackers = ThreadPoolExecutor(2, thread_name_prefix="unpack")
        self._to_encode = asyncio.Semaphore(UNENCODED)
        self._crash: BaseException | None = None
        self._device = ThreadPoolExecutor(1, thread_name_prefix=f"engine-{engine.device}")
        self._finishing: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Something was submitted."""
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            if self._crash is not None:
                raise self._crash
            self._wake.clear()
            selection = self.scheduler.select(time.monotonic_ns())
            for ticket in selection.expired:
                ticket.job.release()
                self.settle(ticket.job, ticket.job.result(Outcome.EXPIRED, "its deadline passed in the queue"))
            if not selection.batch:
                await self._wake.wait()
                continue
            await self._process(selection)

    @property
    def pending(self) -> int:
        """Frames on the device or about to be handed on."""
        return len(self.working) + len(self._finishing)

    def close(self) -> None:
        self._device.shutdown(wait=False, cancel_futures=True)
        self._unpackers.shutdown(wait=False, cancel_futures=True)

    async def _process(self, selection: Selection[Job]) -> None:
        jobs = [ticket.job for ticket in selection.batch if not ticket.job.abandoned]
        for ticket in selection.batch:
            ticket.job.release()
        if not jobs:
            return
        start_unix_ns, start_ns = time.time_ns(), time.perf_counter_ns()
        for job in jobs:
            waited = time.monotonic_ns() - job.arrived_ns
            job.timeline.add("scheduler", job.arrived_unix_ns, waited, (), priority=job.frame.priority.name.lower())
        self.working = list(jobs)
        done = await asyncio.get_running_loop().run_in_executor(self._device, self._work, jobs)
        for job, error in done.failed:
            self._fail(job, error)
        links = batch_link(
            (job.timeline for job, _ in done.outputs),
            done.network_unix_ns,
            done.network_ns,
            frames=len(done.outputs),
            model=self.engine.model,
        )
        for job, output in done.outputs:
            await self._to_encode.acquire()
            task = asyncio.create_task(self._finish(job, output, done, (start_unix_ns, start_ns), links))
            self._finishing.add(task)
            task.add_done_callback(self._finished)
            self.working.remove(job)
        self.working = []

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._finishing.discard(task)
        self._to_encode.release()
        if not task.cancelled() and task.exception() is not None:
            self._crash = task.exception()
            self.wake()

    def _work(self, jobs: list[Job]) -> "_Done":
        """On the device's own thread: unpack, enhance."""
        unpacked = map(self._stage, jobs) if len(jobs) == 1 else self._unpackers.map(self._stage, jobs)
        staged = list(zip(jobs, unpacked, strict=True))
        done = _Done([(job, image) for job, image in staged if isinstance(image, Exception)])
        ready = [(job, image) for job, image in staged if isinstance(image, RawImage)]
        done.network_unix_ns, start_ns = time.time_ns(), time.perf_counter_ns()
        if ready:
            try:
                outputs = self.engine.enhance([image for _, image in ready])
                done.outputs = [(job, output) for (job, _), output in zip(ready, outputs, strict=True)]
            except Exception as error:
                done.failed += [(job, error) for job, _ in ready]
        done.network_ns = time.perf_counter_ns() - start_ns
        return done

    def _stage(self, job: Job) -> RawImage | Exception:
        try:
            return job.unpack(self.max_pixels)
        except Exception as error:
            job.image_broken = isinstance(error, ImageError)
            return error

    async def _finish(
        self, job: Job, output: Enhanced, done: "_Done", start: tuple[int, int], links: list[Link]
    ) -> None:
        if not output.finite:
            self._fail(job, LamplightError(f"{self.engine.model} gave values that are not numbers"))
            return
        loop = asyncio.get_running_loop()
        try:
            image = await loop.run_in_executor(
                self._encoders, packing.encode, output.rgb, job.encoding.image_format, job.encoding.quality
            )
        except Exception as error:
            self._fail(job, error)
            return
        job.timeline.stages_ns["engine/enhance"] = done.network_ns
        job.timeline.add(
            "engine",
            start[0],
            time.perf_counter_ns() - start[1],
            links,
            model=self.engine.model,
            batch_size=len(done.outputs),
            enhance_ms=done.network_ns / 1e6,
        )
        sharpness = (output.sharpness_before, output.sharpness_after)
        self.settle(job, job.result(Outcome.ENHANCED, "", image, self.engine.model, sharpness, len(done.outputs)))

    def _fail(self, job: Job, error: Exception) -> None:
        if not isinstance(error, LamplightError):
            log.error("a frame failed", exc_info=error)
        log.warning("frame %s failed: %s", job.frame.id, error)
        self.settle(job, job.result(Outcome.FAILED, str(error)))


@dataclass(slots=True)
class _Done:
    """What became of a batch on the device."""

    failed: list[tuple[Job, Exception]]
    outputs: list[tuple[Job, Enhanced]] = field(default_factory=list)
    network_unix_ns: int = 0
    network_ns: int = 0


def ticket(job: Job, width: int, height: int, expires_ns: int) -> Ticket[Job]:
    """What the scheduler must know of a job."""
    return Ticket(
        edge=job.frame.id.edge,
        priority=job.frame.priority,
        # A file may be turned when it is decoded: it goes alone.
        bucket=(width, height) if job.encoded is None else id(job),
        pixels=width * height,
        arrived_ns=job.arrived_ns,
        job=job,
        expires_ns=expires_ns,
    )
