"""A batch from when it is chosen until it comes back, or does not."""

from collections.abc import Collection
from dataclasses import dataclass

from cloud_node.device import Flight
from cloud_node.jobs import Job
from cloud_node.scheduler import Scheduler, Selection


@dataclass(slots=True, eq=False)
class Chosen:
    """A batch for the device."""

    selection: Selection[Job]
    jobs: list[Job]

    @property
    def alone(self) -> bool:
        return self.jobs[0].alone

    @property
    def priority(self) -> int:
        return self.selection.batch[0].priority

    def makes_way(self, scheduler: Scheduler[Job]) -> bool:
        """Whether what waits by now should go before it, or in the place of its less urgent frames."""
        urgent, batch = scheduler.most_urgent, self.selection.batch
        if urgent is None or self.selection.overdue:
            return False
        return urgent < self.priority or (urgent < batch[-1].priority and scheduler.waits(urgent, batch[0].bucket))


@dataclass(slots=True, eq=False)
class Flying(Chosen):
    """A batch that was handed to the device."""

    call: Flight


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a device can be used no longer, what was on it, and which frames may be the cause."""

    reason: str
    jobs: list[Job]
    blamed: Collection[Job]
