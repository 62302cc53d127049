"""Keeps one device: starts it, serves it, and puts another in its place when it is lost."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cloud_node.batch_bound import BatchBound
from cloud_node.device import Device
from cloud_node.dispatch import Dispatcher
from cloud_node.flights import Loss
from cloud_node.handover import Handover
from cloud_node.jobs import Job
from cloud_node.restarts import RestartLimit
from cloud_node.scheduler import Scheduler
from cloud_node.suspects import Suspects
from common.errors import DeviceLost
from common.frame import Outcome, Result

log = logging.getLogger(__name__)

READY_S: Final = 600.0  # for an engine to be built and warm, compilers included; or to take other weights
CLOSE_S: Final = 10.0  # for the batch on the device, when the node stops


class Worker:
    """One per device; `dispatch` has what goes to it and comes back.

    A job that is taken from the scheduler is either settled or given back, exactly once; its credit returns when it
    reaches the device. What runs out of memory is halved and tried again, and the scheduler's bound lowered
    (`BatchBound`).

    When the device is lost (it says so, a small image fails too, a batch never returns, or its process ends), what was
    on it is given back, and what it was at is a suspect: it goes alone from then on, and fails if a device is lost with
    it again. Another takes its place, as often as `restarts` allows: in a process of its own that cures a sticky CUDA
    error, too. Then `run` raises.

    Args:
        make_device: makes the device, which is started then; also after a loss.
        settle: gets a job with its result.
        give_back: gets a job that another node should do, and why; by default such a job fails.
        bound: lowers the scheduler's when memory runs out; one for all devices.
        suspects: one for all devices, too.
        name: of the device, for logs.
        stuck_after_s: a batch, or encoding a frame, that takes longer means that the device is lost; 0 = never.
        restarts: of the device.
        on_batch: called after each batch with its pixels, the time on the device in ns, and its frames.
    """

    def __init__(
        self,
        make_device: Callable[[], Device],
        scheduler: Scheduler[Job],
        settle: Callable[[Job, Result], None],
        *,
        give_back: Callable[[Job, str], None] | None = None,
        bound: BatchBound | None = None,
        suspects: Suspects | None = None,
        name: str = "device",
        stuck_after_s: float = 120.0,
        restarts: RestartLimit = RestartLimit(),  # noqa: B008  # frozen
        on_batch: Callable[[int, int, int], None] = lambda pixels, device_ns, frames: None,
    ) -> None:
        self.name, self.healthy = name, False
        self.on_health: Callable[[], None] = lambda: None  # called when `healthy` changed
        self.on_measured: Callable[[int, int, int], None] = lambda pixels, device_ns, frames: None  # as `on_batch`
        self.model, self.models = "", dict[str, str]()  # of the engine, or of the last one
        self.counts: Counter[str] = Counter()  # faults: "lost", "out of memory", "not numbers"
        self._make_device, self._on_batch, self._restarts = make_device, on_batch, restarts
        suspects = suspects or Suspects()
        self.handover = Handover(
            settle, give_back or _failing(settle), self.wake, self.counts, stuck_after_s, suspects=suspects
        )
        self.dispatch = Dispatcher(
            name, scheduler, bound or BatchBound(scheduler), self.handover, suspects, self.counts, stuck_after_s
        )
        self.dispatch.on_measured = self._measured
        self._restarts_s: list[float] = []  # when, monotonic
        self._device: Device | None = None  # started
        self._used: tuple[Device | None, float] = None, 0.0  # and processor seconds of those before it
        self._changed = asyncio.Event()
        self._given_up = ""

    async def start(self) -> float:
        """Start the device; returns the seconds that took.

        Raises:
            LamplightError: as the engine does.
            DeviceLost: if the device is not ready within `READY_S`.
        """
        start_s = time.monotonic()
        device = self._make_device()
        try:
            async with asyncio.timeout(READY_S):
                await device.start()
        except BaseException as error:
            device.leave()
            self._used = None, self._used[1] + device.cpu_s()
            if isinstance(error, TimeoutError):
                raise DeviceLost(f"{self.name} was not ready within {READY_S:.0f} s") from None
            raise
        self._device, device.on_lost = device, self.wake
        self._used = device, self._used[1]
        self._note_models(device)
        self._set_health(True)
        return time.monotonic() - start_s

    @property
    def pid(self) -> int:
        """Of the device's process; 0 = there is none now."""
        device = self._device
        return 0 if device is None else device.pid

    @property
    def cpu_s(self) -> float:
        """Processor seconds of the device's processes, those that ended included. Safe from another thread."""
        device, ended_s = self._used
        return ended_s if device is None else ended_s + device.cpu_s()

    async def run(self) -> None:
        """Work until cancelled; starts, unless that was done.

        Raises:
            DeviceLost: once the device is given up.
        """
        try:
            if self._device is None:
                await self.start()
            while self._device is not None:
                await self._restart(await self.dispatch.serve(self._device))
        finally:
            self.healthy = False
            self.dispatch.withdraw()
            self.handover.cancel("this node is stopping")

    async def close(self) -> None:
        """Once `run` is over: wait for the batch on the device, `CLOSE_S` at most."""
        if self._device is not None:
            self._device.leave()
            if not await self._device.ended(CLOSE_S):
                log.warning("%s is still busy: it is left behind", self.name)

    @property
    def pending(self) -> int:
        """Frames on the device or being encoded."""
        return len(self.handover)

    def wake(self) -> None:
        """Something was submitted. Call it from the event loop."""
        self.dispatch.wake()

    async def reload(self, preset: str, weights: Path | None) -> str:
        """Put other weights into a preset while batches go on; returns the model's new version.

        Waits while the device is being restarted; an engine that was lost meanwhile does not count.

        Raises:
            WeightsError: if they do not fit; the old ones stay.
            DeviceLost: if the device is given up.
        """
        while True:
            while (device := self._device) is None:
                if self._given_up:
                    raise DeviceLost(self._given_up)
                self._changed.clear()
                await self._changed.wait()
            try:
                async with asyncio.timeout(READY_S):
                    version = await device.reload(preset, weights)
            except TimeoutError:  # `run` makes another
                self.dispatch.hung = device
                self.wake()
                await self._until_other_than(device)
                continue
            except Exception as error:
                if isinstance(error, DeviceLost) and device.lost:
                    await self._until_other_than(device)
                elif device is self._device:
                    raise
                continue
            if device is self._device:
                self._note_models(device)
                return version

    # --- after a loss ---

    async def _restart(self, loss: Loss) -> None:
        """Part with what was on it and start another device. Raises DeviceLost when that was tried too often."""
        while True:
            self.counts["lost"] += 1
            log.error("%s is lost: %s", self.name, loss.reason)
            if self._device is not None:
                self._device.leave()
            self._device, self._used = None, (None, self.cpu_s)
            self._set_health(False)
            self.handover.part_with(loss.jobs, loss.blamed, loss.reason)
            delay_s = self._restarts.delay_s(self._restarts_s, time.monotonic())
            if delay_s is None:
                self._given_up = f"{self.name} is given up after {self._restarts}: {loss.reason}"
                self._changed.set()
                raise DeviceLost(self._given_up)
            self._restarts_s = [*self._restarts_s, time.monotonic()][-self._restarts.most :]
            await asyncio.sleep(delay_s)
            try:
                seconds = await self.start()
            except Exception as error:
                loss = Loss(str(error) or repr(error), [], ())
            else:
                log.warning("%s works again, warm after %.1f s", self.name, seconds)
                return

    async def _until_other_than(self, device: Device) -> None:
        while self._device is device and not self._given_up:
            self._changed.clear()
            await self._changed.wait()

    def _note_models(self, device: Device) -> None:
        self.models = dict(device.models)
        self.model = next(iter(self.models.values()))

    def _measured(self, pixels: int, device_ns: int, frames: int) -> None:
        self._on_batch(pixels, device_ns, frames)
        self.on_measured(pixels, device_ns, frames)

    def _set_health(self, healthy: bool) -> None:
        self._changed.set()
        if healthy is not self.healthy:
            self.healthy = healthy
            self.on_health()


def _failing(settle: Callable[[Job, Result], None]) -> Callable[[Job, str], None]:
    return lambda job, reason: settle(job, job.result(Outcome.FAILED, reason))
