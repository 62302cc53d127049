"""What a worker has of a device; and one whose engine runs on a thread of this process."""

import asyncio
import gc
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cloud_node import batches
from cloud_node.batches import Done
from cloud_node.device_thread import DeviceThread
from cloud_node.jobs import Encoding, Job
from cloud_node.outputs import Away, Enhanced
from cloud_node.staging import Staging
from common import packing
from common.packing import EncodedImage, PackedImage

if TYPE_CHECKING:
    from cloud_node.engine import Engine


class Flight(Awaitable[Done | None], Protocol):
    """A batch on its way: await what becomes of it. None: a deadline passed before it began, it must be chosen anew.

    Raises DeviceLost when nothing will come of it.
    """

    def revoke(self) -> bool:
        """True if it did not begin; it never will."""


class Device(Protocol):
    """A device from its start to its loss; after that another takes its place. For one event loop."""

    models: dict[str, str]  # preset -> version, the default first
    lost: str  # why it can be used no longer; "" while it can
    on_lost: Callable[[], None]  # called when `lost` was set

    async def start(self) -> None:
        """Build the engine and warm it up. Raises LamplightError as the engine does."""

    def send(self, jobs: list[Job], expires_ns: int, later: bool) -> Flight:
        """Hand it a batch after those that it has, two at most, to begin before `expires_ns` (monotonic; 0 = whenever).

        `later`: another batch is on it.
        """

    def ahead(self, jobs: Iterable[Job]) -> None:
        """These will most likely follow: what can be done for them before is done."""

    def drop(self, job: Job) -> None:
        """It is not wanted any more."""

    def clear(self) -> None:
        """Nothing is."""

    async def encode(self, output: Enhanced | Away, encoding: Encoding) -> PackedImage | EncodedImage:
        """An output as it is to be sent. Raises DeviceLost when it is gone."""

    async def reload(self, preset: str, weights: Path | None) -> str:
        """Other weights for a preset, beside the batches; returns the model's version. Raises WeightsError."""

    def leave(self) -> None:
        """No more batches, and nothing is waited for; a device that hangs is left behind."""

    async def ended(self, timeout_s: float) -> bool:
        """Whether it has ended within `timeout_s`; call `leave` before."""


class LocalDevice:
    """An engine on a thread of this process.

    Args:
        make_engine: builds it; called on its thread.
        encoders: where results are encoded.
        staging: unpacks frames ahead; one for all devices.
        name: of the device, for logs.
        cpus: processors of its thread; None = all.
    """

    def __init__(
        self,
        make_engine: "Callable[[], Engine]",
        encoders: ThreadPoolExecutor,
        staging: Staging,
        name: str = "device",
        cpus: frozenset[int] | None = None,
    ) -> None:
        self.models: dict[str, str] = {}
        self.lost = ""
        self.on_lost: Callable[[], None] = lambda: None
        self._make_engine, self._encoders, self._staging = make_engine, encoders, staging
        self._name, self._thread = name, DeviceThread(name, cpus)

    async def start(self) -> None:
        self._engine = await self._thread.call(self._build)
        self.models = dict(self._engine.models)

    def send(self, jobs: list[Job], expires_ns: int, later: bool) -> Flight:
        thread, engine, unpack = self._thread, self._engine, self._staging.take(jobs, later=later)

        def work() -> Done | None:
            if expires_ns and time.monotonic_ns() >= expires_ns:
                return None
            ran = batches.run(engine, jobs[0].preset, unpack)
            if ran.result.lost:
                thread.halt()
            return Done(jobs, ran)

        return thread.call(work)

    def ahead(self, jobs: Iterable[Job]) -> None:
        self._staging.ahead(jobs)

    def drop(self, job: Job) -> None:
        self._staging.drop(job)

    def clear(self) -> None:
        self._staging.clear()

    async def encode(self, output: Enhanced | Away, encoding: Encoding) -> PackedImage | EncodedImage:
        assert isinstance(output, Enhanced)
        work = partial(packing.encode, output.rgb, encoding.image_format, encoding.quality)
        return await asyncio.get_running_loop().run_in_executor(self._encoders, work)

    async def reload(self, preset: str, weights: Path | None) -> str:
        apart = DeviceThread(f"{self._name} reload")  # a driver that hangs keeps no pool from ending
        try:
            version = await apart.call(partial(self._engine.reload, preset, weights))
        finally:
            apart.leave()
        gc.unfreeze()  # what the process kept for good at its start may be the model that was replaced
        self.models = dict(self._engine.models)
        return version

    def leave(self) -> None:
        self._thread.leave()

    async def ended(self, timeout_s: float) -> bool:
        return await self._thread.ended(timeout_s)

    def _build(self) -> "Engine":
        gc.unfreeze()
        gc.collect()  # the memory of an engine that was lost
        engine = self._make_engine()
        engine.warm_up()
        return engine


def helpers_of(cpus: Sequence[int], device: str, devices: int) -> int:
    """Threads that unpack and encode beside a device: none on a CPU whose processors the network has all anyway."""
    return 0 if device == "cpu" and not cpus else max(2, (os.cpu_count() or 2) // devices)
