"""A batch on its way to the process of a device."""

import asyncio
import time
from collections.abc import Callable, Generator
from typing import Any

from cloud_node.batches import BatchResult, Done, Ran
from cloud_node.device_memory import Claim, Stretch
from cloud_node.device_wire import FrameSpec, with_content
from cloud_node.jobs import Job
from common.errors import DeviceError


class ProcessFlight:
    """A batch that the process has."""

    def __init__(
        self, number: int, slot: int, jobs: list[Job], claim: Claim, on_revoked: Callable[[int], None]
    ) -> None:
        self.number, self.slot, self.jobs, self._claim, self._on_revoked = number, slot, jobs, claim, on_revoked
        self.answer: asyncio.Future[Done | None] = asyncio.get_running_loop().create_future()
        self.revoked = False

    def __await__(self) -> Generator[Any, None, Done | None]:
        return self.answer.__await__()

    def revoke(self) -> bool:
        if not self.revoked and not self.answer.done() and self._claim.take(self.number):
            self.revoked = True
            self._on_revoked(self.number)
        return self.revoked


def specs_of(jobs: list[Job], contents: list[bytes]) -> list[FrameSpec]:
    """Frames whose bytes lie one behind the other, as `write_all` puts them there."""
    specs, start = [], 0
    for job, content in zip(jobs, contents, strict=True):
        bare = with_content(job.encoded or job.frame.image, b"")
        specs.append(FrameSpec(bare, start, len(content), job.encoding))
        start += len(content)
    return specs


def write_all(stretch: Stretch, contents: list[bytes]) -> None:
    start = 0
    for content in contents:
        stretch.write(start, content)
        start += len(content)


def refused(jobs: list[Job], error: Exception) -> Done:
    """None of them came to the device."""
    fault = DeviceError(f"the frame cannot be handed to the device: {error or repr(error)}")
    now = time.monotonic_ns(), time.time_ns(), time.perf_counter_ns(), time.time_ns(), 0, 0
    return Done(jobs, Ran(BatchResult([fault] * len(jobs)), *now))
