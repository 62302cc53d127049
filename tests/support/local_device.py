"""A device in this process."""

import asyncio
import gc
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from device_thread import DeviceThread

from cloud_node import batches
from cloud_node.batches import Done, Pixels
from cloud_node.device import Flight
from cloud_node.engine import Engine
from cloud_node.jobs import Encoding, Job
from cloud_node.outputs import Away, Enhanced
from common import packing
from common.errors import ImageError
from common.packing import EncodedImage, PackedImage


class LocalDevice:
    """An engine on a thread of this process, which a test can hold up and make fail.

    Args:
        make_engine: builds it; called on its thread.
        encoders: where results are encoded.
        name: of the device, for logs.
        cpus: processors of its thread; None = all.
    """

    pid = 0

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        encoders: ThreadPoolExecutor,
        name: str = "device",
        cpus: frozenset[int] | None = None,
    ) -> None:
        self.models: dict[str, str] = {}
        self.lost = ""
        self.on_lost: Callable[[], None] = lambda: None
        self._make_engine, self._encoders = make_engine, encoders
        self._name, self._thread = name, DeviceThread(name, cpus)
        self._held: list[Job] = []

    def cpu_s(self) -> float:
        return 0.0

    async def start(self) -> None:
        self._engine = await self._thread.call(self._build)
        self.models = dict(self._engine.models)

    def send(self, jobs: list[Job], expires_ns: int) -> Flight:
        thread, engine = self._thread, self._engine

        def unpack() -> list[Pixels]:
            return [_unpack(job) for job in jobs]

        def work() -> Done | None:
            if expires_ns and time.monotonic_ns() >= expires_ns:
                return None
            self._held = jobs
            ran = batches.run(engine, jobs[0].preset, unpack)
            self._held = []
            if ran.result.lost:
                thread.halt()
            return Done(jobs, ran)

        return thread.call(work)

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

    def held(self) -> list[Job]:
        return self._held

    def leave(self) -> None:
        self._thread.leave()

    async def ended(self, timeout_s: float) -> bool:
        return await self._thread.ended(timeout_s)

    def _build(self) -> Engine:
        gc.unfreeze()
        gc.collect()  # the memory of an engine that was lost
        engine = self._make_engine()
        engine.warm_up()
        return engine


def _unpack(job: Job) -> Pixels:
    try:
        return packing.unpack(job.frame.image)
    except ImageError as error:
        job.image_broken = True
        return error
