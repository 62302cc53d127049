"""Frames unpacked ahead: the device finds the pixels of its next batch ready."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from cloud_node.batches import Pixels
from cloud_node.jobs import Job
from common import packing
from common.errors import ImageError
from common.pixels import content_size

STAGED_BYTES = 128 * 2**20


class Staging:
    """Pixels of frames that still wait in the queue. For one event loop; all devices share one.

    Which frames go next is not decided here: `ahead` is a guess, and a frame that is taken unguessed is unpacked
    then. What was guessed wrong stays while there is room, since it will most likely go soon.

    Args:
        max_pixels: larger images fail.
        limit_bytes: bound on the pixels that are held.
        threads: that unpack; 0 = half as many as there are processors, two at least.
    """

    def __init__(
        self, max_pixels: int = packing.MAX_PIXELS, *, limit_bytes: int = STAGED_BYTES, threads: int = 0
    ) -> None:
        self.max_pixels, self.limit_bytes = max_pixels, limit_bytes
        self.held_bytes = 0
        self._staged: dict[Job, Future[Pixels]] = {}  # oldest first
        self._pool = ThreadPoolExecutor(threads or max(2, (os.cpu_count() or 2) // 2), thread_name_prefix="unpack")

    def __contains__(self, job: Job) -> bool:
        return job in self._staged

    def ahead(self, jobs: Iterable[Job]) -> None:
        """Unpack these, the first first, as far as there is room."""
        wanted = dict.fromkeys(jobs)
        others = [job for job in self._staged if job not in wanted]
        for job in wanted:
            if job in self._staged:
                continue
            while others and self.held_bytes + _size(job) > self.limit_bytes:
                self.drop(others.pop(0))
            if self.held_bytes + _size(job) > self.limit_bytes:
                return
            self.held_bytes += _size(job)
            self._staged[job] = self._pool.submit(_unpack, job, self.max_pixels)

    def take(self, jobs: Sequence[Job], later: bool = False) -> Callable[[], list[Pixels]]:
        """Hand over the pixels of these: what this returns gives them, on the thread that calls it.

        That thread unpacks what nobody began with; a lone frame needs no other thread, unless it is wanted `later`.
        """
        futures = [self._pop(job) for job in jobs]
        if later or len(jobs) > 1:
            futures = [future or self._submit(job) for job, future in zip(jobs, futures, strict=True)]
        pairs = list(zip(jobs, futures, strict=True))
        return lambda: [
            _unpack(job, self.max_pixels) if future is None or future.cancel() else future.result()
            for job, future in pairs
        ]

    def drop(self, job: Job) -> None:
        """It is not wanted any more."""
        future = self._pop(job)
        if future is not None:
            future.cancel()

    def clear(self) -> None:
        """Nothing is."""
        for job in list(self._staged):
            self.drop(job)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, job: Job) -> "Future[Pixels]":
        return self._pool.submit(_unpack, job, self.max_pixels)

    def _pop(self, job: Job) -> "Future[Pixels] | None":
        future = self._staged.pop(job, None)
        if future is not None:
            self.held_bytes -= _size(job)
        return future


def _size(job: Job) -> int:
    image = job.frame.image
    return content_size(image.pixel_format, image.width, image.height)


def _unpack(job: Job, max_pixels: int) -> Pixels:
    try:
        return job.unpack(max_pixels)
    except Exception as error:
        job.image_broken = isinstance(error, ImageError)
        return error
