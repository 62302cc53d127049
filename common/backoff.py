"""How long to wait before the next attempt: longer each time, and never all at the same moment.

References:
    Brooker, Exponential Backoff And Jitter, AWS Architecture Blog 2015 (here "equal jitter").
"""

import math
import random
from collections.abc import Callable


class Backoff:
    """Delays that double from `first_s` to `most_s`, each shortened by up to half at random.

    The jitter keeps those that a power cut or a restart took away together from coming back all at once.

    Attributes:
        tries: delays that were given since the last `reset`.
    """

    def __init__(
        self, first_s: float, most_s: float, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self.first_s, self.most_s, self.tries = first_s, most_s, 0
        self._uniform = uniform

    def next_s(self, *, least_s: float = 0.0, most_s: float = math.inf) -> float:
        """Seconds to wait now: no less than `least_s`, as whoever was asked may want it, and no more than `most_s`."""
        delay_s = min(self.first_s * 2.0 ** min(self.tries, 100), self.most_s, most_s)
        self.tries += 1
        return max(delay_s * self._uniform(0.5, 1.0), least_s)

    def reset(self) -> None:
        """It went well: begin with the shortest delay again."""
        self.tries = 0
