"""What becomes of the frames that a device took: each is settled or given back, exactly once."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from cloud_node.batches import Done
from cloud_node.engine import Enhanced
from cloud_node.jobs import Job
from common import packing
from common.errors import LamplightError
from common.frame import Outcome, Result
from common.frame_spans import Batch
from common.telemetry import batch_link

log = logging.getLogger(__name__)


class Handover:
    """Encodes results and hands them on.

    Args:
        encoders: where results are encoded.
        settle: gets a job with its result.
        give_back: gets a job that another node should do, and why.
        on_crash: called when `settle` failed; `crash` is the error then.
        counts: gets "not numbers", the frames for which the network gave NaN or infinity.
    """

    def __init__(
        self,
        encoders: ThreadPoolExecutor,
        settle: Callable[[Job, Result], None],
        give_back: Callable[[Job, str], None],
        on_crash: Callable[[], None],
        counts: Counter[str],
    ) -> None:
        self.crash: BaseException | None = None
        self.on_encoded: Callable[[], None] = lambda: None  # called when a frame waits for its encoding no longer
        self._counts = counts
        self._encoders, self._settle, self._give_back, self._on_crash = encoders, settle, give_back, on_crash
        self._held: set[Job] = set()  # neither settled nor given back
        self._encoding: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()

    def __len__(self) -> int:
        """Frames that are neither settled nor given back."""
        return len(self._held)

    @property
    def encoding(self) -> int:
        """Frames that are being encoded, or wait for it."""
        return len(self._encoding)

    def take(self, jobs: Iterable[Job]) -> None:
        """Answer for these from now on."""
        self._held.update(jobs)

    def put_back(self, jobs: Iterable[Job]) -> None:
        """They wait again, and are somebody else's to answer for."""
        self._held.difference_update(jobs)

    async def room(self, most: int) -> None:
        """Until no more than `most` frames are being encoded."""
        while len(self._encoding) > most:
            self._room.clear()
            await self._room.wait()

    def done(self, batch: Done) -> None:
        """Hand on what came of a batch; frames without an outcome are for `give_back`."""
        outputs = batch.enhanced
        links: list[Batch] = []
        if outputs:
            timelines = (job.timeline for job, _ in outputs)
            about: dict[str, str | int] = {"batch_size": len(outputs), "model": outputs[0][1].model}
            links = batch_link(timelines, batch.network_unix_ns, batch.network_ns, **about)
        for job, output in outputs:
            if output.finite:
                task = asyncio.create_task(self._encode(job, output, batch, len(outputs), links))
                self._encoding.add(task)
                task.add_done_callback(self._encoded)
            else:
                self._counts["not numbers"] += 1
                log.error("frame %s: %s gave values that are not numbers", job.frame.id, output.model)
                self._fail(job, LamplightError(f"{output.model} gave values that are not numbers"))
        for job, error in batch.failed:
            self._fail(job, error)

    def settle(self, job: Job, outcome: Outcome, reason: str) -> None:
        """Settle a frame without an image."""
        self._finish(job, job.result(outcome, reason))

    def give_back(self, jobs: Iterable[Job], reason: str) -> None:
        """Those of them that have no fate yet."""
        for job in jobs:
            if job in self._held:
                self._held.remove(job)
                self._give_back(job, reason)

    def cancel(self, reason: str) -> None:
        """Give everything back."""
        for task in self._encoding:
            task.cancel()
        self.give_back(list(self._held), reason)

    async def _encode(self, job: Job, output: Enhanced, batch: Done, size: int, links: list[Batch]) -> None:
        loop, encoding = asyncio.get_running_loop(), job.encoding
        try:
            image = await loop.run_in_executor(
                self._encoders, packing.encode, output.rgb, encoding.image_format, encoding.quality
            )
        except Exception as error:
            self._fail(job, error)
            return
        job.timeline.stages_ns["engine/enhance"] = batch.network_ns
        job.timeline.add(
            "engine",
            batch.start_unix_ns,
            time.perf_counter_ns() - batch.start_ns,
            links,
            model=output.model,
            batch_size=size,
            bucket=job.bucket,
            enhance_ms=batch.network_ns / 1e6,
        )
        sharpness = (output.sharpness_before, output.sharpness_after)
        self._finish(job, job.result(Outcome.ENHANCED, "", image, output.model, sharpness, size))

    def _encoded(self, task: asyncio.Task[None]) -> None:
        self._encoding.discard(task)
        self._room.set()
        self.on_encoded()
        if not task.cancelled() and task.exception() is not None:
            self.crash = task.exception()
            self._on_crash()

    def _fail(self, job: Job, error: Exception) -> None:
        if not isinstance(error, LamplightError):
            log.error("a frame failed", exc_info=error)
        log.warning("frame %s failed: %s", job.frame.id, error)
        self.settle(job, Outcome.FAILED, str(error))

    def _finish(self, job: Job, result: Result) -> None:
        if job in self._held:
            self._held.remove(job)
            self._settle(job, result)
