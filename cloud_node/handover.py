"""What becomes of the frames that a device took: each is settled or given back, exactly once."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable

from cloud_node.batches import Done, Ran
from cloud_node.device import Device
from cloud_node.jobs import Job
from cloud_node.outputs import Away, Enhanced
from cloud_node.suspects import Suspects
from common.errors import DeviceLost, LamplightError
from common.frame import Outcome, Result
from common.frame_spans import Batch
from common.packing import EncodedImage, PackedImage
from common.telemetry import batch_link

log = logging.getLogger(__name__)


class Handover:
    """Has results encoded and hands them on.

    Args:
        settle: gets a job with its result.
        give_back: gets a job that another node should do, and why.
        on_crash: called when `settle` failed; `crash` is the error then. Also when a device got `stuck`.
        counts: gets "not numbers", the frames for which the network gave NaN or infinity.
        encoded_within_s: a device that takes longer to encode a frame is `stuck`; 0 = never.
        suspects: get what a device was at when it was lost.
    """

    def __init__(
        self,
        settle: Callable[[Job, Result], None],
        give_back: Callable[[Job, str], None],
        on_crash: Callable[[], None],
        counts: Counter[str],
        encoded_within_s: float = 0.0,
        *,
        suspects: Suspects,
    ) -> None:
        self.crash: BaseException | None = None
        self.stuck: Device | None = None
        self.on_encoded: Callable[[], None] = lambda: None  # called when a frame waits for its encoding no longer
        self.encoded_within_s, self._counts, self._suspects = encoded_within_s, counts, suspects
        self._settle, self._give_back, self._on_crash = settle, give_back, on_crash
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

    def done(self, batch: Done, device: Device) -> None:
        """Hand on what came of a batch; frames without an outcome are for `give_back`."""
        outputs, ran = batch.enhanced, batch.ran
        links: list[Batch] = []
        if outputs:
            timelines = (job.timeline for job, _ in outputs)
            about: dict[str, str | int] = {"batch_size": len(outputs), "model": outputs[0][1].model}
            links = batch_link(timelines, ran.network_unix_ns, ran.network_ns, **about)
        for job, output in outputs:
            if isinstance(output, Away) and output.finite and output.image.done() and output.image.exception() is None:
                self._encoded_as(job, output.image.result(), output, ran, len(outputs), links)
            elif output.finite:
                task = asyncio.create_task(self._encode(job, output, device, ran, len(outputs), links))
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

    def part_with(self, jobs: Iterable[Job], blamed: Collection[Job], reason: str) -> None:
        """Give back what was on a device that is lost; what must be the cause fails."""
        for job in jobs:
            if job in self._held and job in blamed and self._suspects.blame(job):
                self.settle(job, Outcome.FAILED, f"the device was lost twice with this frame on it: {reason}")
            else:
                self.give_back([job], reason)

    def cancel(self, reason: str) -> None:
        """Give everything back."""
        for task in self._encoding:
            task.cancel()
        self.give_back(list(self._held), reason)

    async def _encode(
        self, job: Job, output: Enhanced | Away, device: Device, ran: Ran, size: int, links: list[Batch]
    ) -> None:
        try:
            async with asyncio.timeout(self.encoded_within_s or None):
                image = await device.encode(output, job.encoding)
        except TimeoutError:
            self.stuck = device
            self.part_with([job], device.held(), f"it was not encoded within {self.encoded_within_s:g} s")
            self._on_crash()
        except DeviceLost as error:
            self.part_with([job], device.held(), str(error))
        except Exception as error:
            self._fail(job, error)
        else:
            self._encoded_as(job, image, output, ran, size, links)

    def _encoded_as(
        self,
        job: Job,
        image: PackedImage | EncodedImage,
        output: Enhanced | Away,
        ran: Ran,
        size: int,
        links: list[Batch],
    ) -> None:
        job.timeline.stages_ns["engine/enhance"] = ran.network_ns
        job.timeline.add(
            "engine",
            ran.start_unix_ns,
            time.perf_counter_ns() - ran.start_ns,
            links,
            model=output.model,
            batch_size=size,
            bucket=job.bucket,
            enhance_ms=ran.network_ns / 1e6,
        )
        sharpness = (output.sharpness_before, output.sharpness_after)
        if job.alone and job in self._held:
            self._suspects.clear(job)  # not one that expired in the queue, which proves nothing
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
