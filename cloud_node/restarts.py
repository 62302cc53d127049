"""How often a device that was lost is tried again, and which frames may be why it was."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from common.frame import FrameId

REMEMBERED = 1_024  # frames

J = TypeVar("J")


@dataclass(frozen=True, slots=True)
class RestartLimit:
    """At most `most` restarts within any `within_s`, the wait before each twice as long as before the last."""

    most: int = 3
    within_s: float = 600.0
    first_delay_s: float = 1.0

    def delay_s(self, restarts_s: Sequence[float], now_s: float) -> float | None:
        """Seconds to wait before another restart, after those begun at `restarts_s`; None = the device is given up."""
        recent = sum(now_s - restart_s < self.within_s for restart_s in restarts_s)
        return self.first_delay_s * 2.0**recent if recent < self.most else None

    def __str__(self) -> str:
        return f"{self.most} restarts within {self.within_s:g} s"


class Suspects:
    """Frames that were on a device when it was lost, the last `REMEMBERED`."""

    def __init__(self) -> None:
        self._frames: OrderedDict[FrameId, None] = OrderedDict()

    def add(self, jobs: Mapping[FrameId, J]) -> list[J]:
        """Note another loss; returns what was there at an earlier one, too: it may be the cause."""
        again = [job for frame, job in jobs.items() if frame in self._frames]
        self._frames.update(dict.fromkeys(jobs))
        while len(self._frames) > REMEMBERED:
            self._frames.popitem(last=False)
        return again
