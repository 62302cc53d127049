"""How often a device that was lost is tried again."""

from collections.abc import Sequence
from dataclasses import dataclass


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
