"""How long to wait before the next attempt."""

import random
from collections.abc import Callable
from typing import Final

FIRST_S: Final = 0.5
MOST_S: Final = 30.0
REFUSED_S: Final = 60.0  # cameras lock accounts after a few wrong passwords a minute


class Backoff:
    """Delays that double from `first_s` to `most_s`, each shortened by up to half at random.

    The jitter keeps cameras that a power cut took away together from being asked all at once.

    Args:
        refused_s: the delay after a refusal, which asking again soon does not change.
    """

    def __init__(
        self,
        first_s: float = FIRST_S,
        most_s: float = MOST_S,
        refused_s: float = REFUSED_S,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.first_s, self.most_s, self.refused_s = first_s, most_s, refused_s
        self._uniform, self._next_s = uniform, first_s

    def next_s(self, refused: bool = False) -> float:
        """Seconds to wait now."""
        delay_s, self._next_s = self._next_s, min(self._next_s * 2, self.most_s)
        if refused:
            delay_s = max(delay_s, self.refused_s)
        return delay_s * self._uniform(0.5, 1.0)

    def reset(self) -> None:
        """It went well: begin with the shortest delay again."""
        self._next_s = self.first_s
