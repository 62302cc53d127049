"""Devices that fail on purpose, and a worker with everything around it, for tests."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from local_device import LocalDevice

from cloud_node.device import Device
from cloud_node.device_process import ProcessDevice
from cloud_node.engine import Engine
from cloud_node.jobs import Encoding, Job
from cloud_node.outputs import Enhanced
from cloud_node.scheduler import Scheduler
from cloud_node.supervisor import Supervisor
from cloud_node.suspects import Suspects
from cloud_node.worker import Worker
from common import packing
from common.frame import Frame, FrameId, Outcome, Priority, Result
from common.packing import ImageFormat
from common.pixels import RawImage
from common.telemetry import Timeline

WIDTH, HEIGHT = 48, 32
Before = Callable[[Sequence[RawImage]], bool | None]  # may raise or block; False: the output is not finite


class PlainEngine(Engine):
    """A device without a network: gives each image back as it is, once `before` let it."""

    device = torch.device("cpu")
    model = "plain@1"
    models = {"plain": "plain@1"}  # noqa: RUF012

    def __init__(self, before: Before = lambda images: None) -> None:
        self.before = before
        self.batches: list[list[int]] = []  # what was lit, by the first byte of each image
        self.presets: list[str] = []

    def enhance(self, images: Sequence[RawImage], preset: str = "") -> list[Enhanced]:
        finite = self.before(images) is not False
        self.batches.append([int(image.data[0]) for image in images])
        self.presets.append(preset)
        return [
            Enhanced(
                rgb=packing.to_rgb(image), sharpness_before=0.0, sharpness_after=0.0, finite=finite, model=self.model
            )
            for image in images
        ]

    def warm_up(self, *sizes: object) -> float:
        return 0.0

    def reload(self, preset: str, weights: Path | None) -> str:
        self.model = f"{preset}@{weights}"
        self.models = {"plain": self.model}
        return self.model


def make_job(
    sequence: int = 0,
    *,
    edge: str = "e",
    priority: Priority = Priority.STANDARD,
    preset: str = "",
    payload: bytes | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> Job:
    """A frame of one grey, its sequence."""
    packed = packing.pack(RawImage.from_rgb(np.full((size[1], size[0], 3), sequence, np.uint8)))
    if payload is not None:
        packed = packing.PackedImage(
            packed.width,
            packed.height,
            packed.pixel_format,
            packed.color_range,
            packed.color_matrix,
            packed.filter,
            payload,
        )
    frame = Frame(FrameId(edge, "s", sequence), packed, 1, priority=priority)
    return Job(frame, Encoding(ImageFormat.LOSSLESS), Timeline({}), preset)


@asynccontextmanager
async def started(device: ProcessDevice) -> AsyncIterator[ProcessDevice]:
    """A process of its own until the test is over, however that ends."""
    try:
        await device.start()
        yield device
    finally:
        device.leave()
        assert await device.ended(60)


class House:
    """Workers under a supervisor, with a scheduler before them; keeps account of every frame."""

    def __init__(
        self,
        *engines: Callable[[], Engine],
        devices: Sequence[Callable[[], Device]] = (),
        max_pixels: int = 10**9,
        max_frames: int = 8,
        encoders: ThreadPoolExecutor | None = None,
        cpus: frozenset[int] | None = None,
        **options: object,
    ) -> None:
        self.scheduler: Scheduler[Job] = Scheduler(max_pixels, max_frames, 10**12)
        self.results: dict[int, Result] = {}
        self.returned: dict[int, str] = {}
        self.health: list[bool] = []
        self.fates: Counter[int] = Counter()  # how often a frame was settled or given back
        self.credits: set[int] = set()
        self.jobs: dict[int, Job] = {}
        self.suspects = Suspects()
        self._encoders = encoders or ThreadPoolExecutor(2)
        devices = devices or [
            partial(LocalDevice, make, self._encoders, f"device {index}", cpus) for index, make in enumerate(engines)
        ]
        self.workers = [
            Worker(
                make,
                self.scheduler,
                self._settle,
                give_back=self._give_back,
                name=f"device {index}",
                suspects=self.suspects,
                **options,
            )
            for index, make in enumerate(devices)
        ]
        self.supervisor = Supervisor(self.workers, self.scheduler, self._give_back, on_health=self.health.append)

    def submit(self, *jobs: Job, expires_ns: int = 0) -> None:
        for job in jobs:
            sequence, image = job.frame.id.sequence, job.frame.image
            self.jobs[sequence] = job
            job.release = lambda sequence=sequence: self.credits.add(sequence)  # harmless when called again
            self.scheduler.submit(self.suspects.ticket(job, image.width, image.height, expires_ns))
        self.supervisor.wake()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(180):  # several times a process of a device, on a busy machine
            while not condition():
                await asyncio.sleep(0.005)

    async def settled(self) -> None:
        """Until every frame has its fate."""
        await self.until(lambda: len(self.fates) >= len(self.jobs))

    @asynccontextmanager
    async def running(self) -> AsyncIterator["asyncio.Task[None]"]:
        """At the end each frame that was taken has one fate, and its credit is back."""
        task = asyncio.create_task(self.supervisor.run())
        await asyncio.sleep(0)  # it begins
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.supervisor.close()
        assert not self.supervisor.pending
        waiting = {item.job.frame.id.sequence for item in self.scheduler.withdraw(lambda item: True)}
        taken = self.jobs.keys() - waiting
        assert self.fates == Counter(sequence for sequence in taken if not self.jobs[sequence].abandoned)
        assert self.credits == taken

    def outcomes(self) -> dict[int, Outcome]:
        return {sequence: result.outcome for sequence, result in sorted(self.results.items())}

    def _settle(self, job: Job, result: Result) -> None:
        assert job.frame.id == result.id
        self.fates.update([result.id.sequence])
        self.results[result.id.sequence] = result

    def _give_back(self, job: Job, reason: str) -> None:
        job.release()  # as admission does
        self.fates.update([job.frame.id.sequence])
        self.returned[job.frame.id.sequence] = reason
