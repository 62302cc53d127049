"""Keeps the workers of all devices, and knows whether any works."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from cloud_node.jobs import Job
from cloud_node.scheduler import Scheduler
from cloud_node.worker import Worker
from common.errors import DeviceError, DeviceLost
from common.tasks import end_tasks

log = logging.getLogger(__name__)


class Supervisor:
    """While no device works, what waits in the queue is given back: other nodes can do it.

    A device that is given up does not hold up the others. When the last one is, the node cannot help itself, since
    a process that saw a sticky CUDA error stays broken: `run` raises, the node exits with the error's code, and
    whoever watches the process starts another.

    Args:
        workers: one per device; `on_health` of each becomes the supervisor's.
        scheduler: that they share.
        give_back: gets a job that another node should do, its credit returned, and why.
        on_health: called with `healthy` when it changed.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        scheduler: Scheduler[Job],
        give_back: Callable[[Job, str], None],
        on_health: Callable[[bool], None] = lambda healthy: None,
    ) -> None:
        self.workers = list(workers)
        self._scheduler = scheduler
        self._give_back, self._on_health = give_back, on_health
        self._was_healthy = False
        for worker in self.workers:
            worker.on_health = self._changed
            dispatch = worker.dispatch
            dispatch.on_returned, dispatch.on_free = self.wake, partial(self._relieve, worker)
            dispatch.ahead_elsewhere = partial(self._ahead_of_others, worker)

    @property
    def devices(self) -> int:
        """How many work."""
        return sum(worker.healthy for worker in self.workers)

    @property
    def healthy(self) -> bool:
        """Whether any does."""
        return self.devices > 0

    @property
    def models(self) -> Mapping[str, str]:
        """Preset -> version, the default first, of a device that works."""
        return next((worker.models for worker in self.workers if worker.healthy), self.workers[0].models)

    @property
    def pending(self) -> int:
        """Frames on the devices or being encoded."""
        return sum(worker.pending for worker in self.workers)

    def wake(self) -> None:
        """Something was submitted."""
        for worker in self.workers:
            worker.wake()

    async def start(self) -> None:
        """Build and warm up every engine, one after the other.

        Raises:
            WeightsError, DeviceError: as the workers do.
        """
        for worker in self.workers:
            seconds = await worker.start()
            log.info("%s on %s: warm after %.1f s", worker.model, worker.name, seconds)

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            DeviceError: when the last device is given up.
        """
        running = {asyncio.create_task(worker.run(), name=worker.name) for worker in self.workers}
        error = DeviceError("there is no device")
        try:
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    try:
                        task.result()
                    except DeviceLost as lost:
                        error = lost
                        log.error("%s; %d devices are left", lost, len(running))
            self._return_queue(str(error))
            raise error
        finally:
            try:
                await end_tasks(running)
            finally:
                self._return_queue("this node is stopping")

    async def reload(self, preset: str, weights: Path | None, before: Path | None = None) -> str:
        """Put other weights into a preset on every device, one after the other; returns the model's new version.

        Raises:
            WeightsError: if they do not fit a device; those that took them get the weights `before` back.
            DeviceLost: if every device is given up.
        """
        version, took, error = "", list[Worker](), DeviceLost("there is no device")
        for worker in self.workers:
            try:
                version = await worker.reload(preset, weights)
                took.append(worker)
            except DeviceLost as lost:
                error = lost
            except Exception:
                for other in took:
                    try:
                        await other.reload(preset, before)
                    except Exception:  # they are what was served: the device has more wrong with it
                        log.exception("%s keeps weights that other devices refused", other.name)
                raise
        if not version:
            raise error
        return version

    async def close(self) -> None:
        """Once `run` is over."""
        await asyncio.gather(*(worker.close() for worker in self.workers))

    def _relieve(self, free: Worker) -> None:
        """A device is free: a batch in line behind another goes back to the queue for it, unless more urgent wait."""
        waits, ahead = self._scheduler.most_urgent, self._ahead_of_others(free)
        if ahead is not None and (waits is None or ahead <= waits):
            others = (worker.dispatch for worker in self.workers if worker is not free)
            any(other.step_back() for other in others if other.ahead_priority == ahead)

    def _ahead_of_others(self, worker: Worker) -> int | None:
        others = (other.dispatch.ahead_priority for other in self.workers if other is not worker)
        return min((priority for priority in others if priority is not None), default=None)

    def _changed(self) -> None:
        if self.healthy is not self._was_healthy:
            self._was_healthy = self.healthy
            self._on_health(self.healthy)
            if not self.healthy:
                self._return_queue("no device of this node works")

    def _return_queue(self, reason: str) -> None:
        """All that waits, and what had just expired."""
        tickets = self._scheduler.withdraw(lambda ticket: True)
        tickets += self._scheduler.select(time.monotonic_ns()).expired
        for ticket in tickets:
            ticket.job.release()
            self._give_back(ticket.job, reason)
