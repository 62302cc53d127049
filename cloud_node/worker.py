"""Keeps one device busy: takes batches from the scheduler, stages, enhances and hands the results on."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from opentelemetry.trace import Link

from cloud_node.engine import Engine, Enhanced
from cloud_node.jobs import Job
from cloud_node.scheduler import Scheduler, Selection, Ticket
from common import packing
from common.errors import LamplightError
from common.frame import Outcome, Result
from common.pixels import RawImage
from common.telemetry import batch_link

log = logging.getLogger(__name__)


class Worker:
    """One per device. `settle` gets each job with its result, exactly once."""

    def __init__(
        self,
        engine: Engine,
        scheduler: Scheduler[Job],
        pool: ThreadPoolExecutor,
        settle: Callable[[Job, Result], None],
    ) -> None:
        self.engine, self.scheduler, self.settle = engine, scheduler, settle
        self.busy = False
        self._wake = asyncio.Event()
        self._pool = pool
        self._device = ThreadPoolExecutor(1, thread_name_prefix=f"engine-{engine.device}")
        self._finishing: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Something was submitted."""
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            self._wake.clear()
            selection = self.scheduler.select(time.monotonic_ns())
            for ticket in selection.expired:
                ticket.job.release()
                self.settle(ticket.job, ticket.job.result(Outcome.EXPIRED, "its deadline passed in the queue"))
            if not selection.batch:
                await self._wake.wait()
                continue
            self.busy = True
            try:
                await self._process(selection)
            finally:
                self.busy = False

    @property
    def pending(self) -> bool:
        """Whether frames are on the device or about to be handed on."""
        return self.busy or bool(self._finishing)

    def close(self) -> None:
        self._device.shutdown(wait=False, cancel_futures=True)

    async def _process(self, selection: Selection[Job]) -> None:
        loop = asyncio.get_running_loop()
        jobs = [ticket.job for ticket in selection.batch]
        start_unix_ns, start_ns = time.time_ns(), time.perf_counter_ns()
        for job in jobs:
            waited = time.monotonic_ns() - job.arrived_ns
            job.timeline.add("scheduler", job.arrived_unix_ns, waited, (), priority=job.frame.priority.name.lower())
            job.release()
        staged = await asyncio.gather(
            *(loop.run_in_executor(self._pool, _stage, job) for job in jobs), return_exceptions=True
        )
        ready: list[tuple[Job, RawImage]] = []
        for job, image in zip(jobs, staged, strict=True):
            if isinstance(image, RawImage):
                ready.append((job, image))
            else:
                self._fail([job], image)
        if not ready:
            return
        network_unix_ns, network_ns = time.time_ns(), time.perf_counter_ns()
        try:
            outputs = await loop.run_in_executor(self._device, self.engine.enhance, [image for _, image in ready])
        except Exception as error:
            self._fail([job for job, _ in ready], error)
            return
        spent_ns = time.perf_counter_ns() - network_ns
        links = batch_link(
            (job.timeline for job, _ in ready),
            network_unix_ns,
            spent_ns,
            frames=len(ready),
            model=self.engine.model,
        )
        for (job, _), output in zip(ready, outputs, strict=True):
            task = asyncio.create_task(
                self._finish(job, output, len(ready), (start_unix_ns, start_ns), spent_ns, links)
            )
            self._finishing.add(task)
            task.add_done_callback(self._finishing.discard)

    async def _finish(
        self, job: Job, output: Enhanced, batch: int, start: tuple[int, int], network_ns: int, links: list[Link]
    ) -> None:
        if not output.finite:
            self._fail([job], LamplightError(f"{self.engine.model} gave values that are not numbers"))
            return
        loop = asyncio.get_running_loop()
        try:
            image = await loop.run_in_executor(
                self._pool, packing.encode, output.rgb, job.encoding.image_format, job.encoding.quality
            )
        except Exception as error:
            self._fail([job], error)
            return
        job.timeline.stages_ns["engine/enhance"] = network_ns
        job.timeline.add(
            "engine",
            start[0],
            time.perf_counter_ns() - start[1],
            links,
            model=self.engine.model,
            batch_size=batch,
            enhance_ms=network_ns / 1e6,
        )
        sharpness = (output.sharpness_before, output.sharpness_after)
        self.settle(job, job.result(Outcome.ENHANCED, "", image, self.engine.model, sharpness, batch))

    def _fail(self, jobs: list[Job], error: BaseException) -> None:
        if not isinstance(error, LamplightError):
            log.error("frame failed", exc_info=error)
        for job in jobs:
            log.warning("frame %s failed: %s", job.frame.id, error)
            self.settle(job, job.result(Outcome.FAILED, str(error)))


def ticket(job: Job, width: int, height: int, expires_ns: int) -> Ticket[Job]:
    """What the scheduler must know of a job."""
    return Ticket(
        edge=job.frame.id.edge,
        priority=job.frame.priority,
        bucket=(width, height),
        pixels=width * height,
        arrived_ns=job.arrived_ns,
        job=job,
        expires_ns=expires_ns,
    )


def _stage(job: Job) -> RawImage:
    return job.raw if job.raw is not None else packing.unpack(job.frame.image)
