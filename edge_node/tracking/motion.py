"""Where a piece of text is expected: it keeps its speed, beside the camera's own motion.

A Kalman filter of constant velocity, with one variance for both directions. Lengths are in pixels of the scene, times
in seconds; what is not known about a speed or a size is in terms of the text's height.
"""

import math
from dataclasses import dataclass
from typing import Final

JITTER: Final = 0.15  # heights: how far a still text's centre is off
SPEED: Final = 8.0  # heights a second that a new text may have
PUSH: Final = 4.0  # heights a second squared that it may gain
FARTHEST: Final = 2.5  # heights that it may be off, at most
DRIFT: Final = 0.2  # heights a second that the camera's place may be off
RESTED: Final = 6  # frames after which it is not expected to begin to move
LONGEST_S: Final = 2.0  # that a speed is believed without being seen
WHERE_IT_WAS: Final = 0.5  # heights from it
LEAST_SHARE: Final = 0.1  # of the newest place, in the mean of all
SURE: Final = 2.5  # standard deviations that a speed must have to be one


@dataclass(slots=True)
class Motion:
    """A place and a speed; `at` is when."""

    x: float
    y: float
    at: float
    height: float
    speed_x: float = 0.0
    speed_y: float = 0.0
    rest_x: float = 0.0  # where it is if it stands still: the mean of where it was found
    rest_y: float = 0.0
    _rested: int = 0  # frames in a row
    _place: float = 0.0  # variances, and what they share
    _both: float = 0.0
    _speed: float = 0.0

    def __post_init__(self) -> None:
        self._place, self._speed = (JITTER * self.height) ** 2, (SPEED * self.height) ** 2
        self.rest_x, self.rest_y, self._rested = self.x, self.y, 1

    def expect(self, at: float) -> tuple[float, float, float, float]:
        """x, y, how far off they may be (standard deviation), and how far if it began to move, 0 where it will not;
        before or after it was seen last."""
        passed = abs(at - self.at)
        if self.moves:
            believed = max(-LONGEST_S, min(at - self.at, LONGEST_S))
            spread = self._place + 2 * self._both * passed + self._speed * passed**2 + self._gained(passed)
            off = min(math.sqrt(max(spread, 0.0)), FARTHEST * self.height)
            return self.x + self.speed_x * believed, self.y + self.speed_y * believed, off, 0.0
        off = min(DRIFT * passed, 1.0) * self.height
        far = 0.0 if self._rested >= RESTED else min(SPEED * passed, FARTHEST) * self.height
        return self.rest_x, self.rest_y, off, far

    @property
    def moves(self) -> bool:
        """Whether it has a speed that noise does not explain."""
        return self.speed_x**2 + self.speed_y**2 > SURE**2 * self._speed

    def see(self, x: float, y: float, at: float) -> None:
        """It was found there, later than before."""
        passed = max(at - self.at, 1e-3)
        if passed > LONGEST_S:  # what it did meanwhile nobody knows, unless it is where it was
            rest = self.rest_x, self.rest_y, self._rested
            self.x, self.y, self.at, self.speed_x, self.speed_y, self._both = x, y, at, 0.0, 0.0, 0.0
            self.__post_init__()
            if math.hypot(x - rest[0], y - rest[1]) < WHERE_IT_WAS * self.height:
                self.rest_x, self.rest_y, self._rested = rest
            return
        gained, noise = self._gained(passed), (JITTER * self.height) ** 2
        place = self._place + 2 * self._both * passed + self._speed * passed**2 + gained
        both = self._both + self._speed * passed + gained * 2 / passed
        speed = self._speed + gained * 4 / passed**2
        gain, push = place / (place + noise), both / (place + noise)
        ahead_x, ahead_y = self.x + self.speed_x * passed, self.y + self.speed_y * passed
        self.x, self.y, self.at = ahead_x + gain * (x - ahead_x), ahead_y + gain * (y - ahead_y), at
        self.speed_x += push * (x - ahead_x)
        self.speed_y += push * (y - ahead_y)
        self._place, self._both = place - gain * place, both - gain * both
        self._speed = max(speed - push * both, 1e-6)
        self._rested = 0 if self.moves else self._rested + 1
        share = max(1 / max(self._rested, 1), LEAST_SHARE)
        self.rest_x += share * (x - self.rest_x)
        self.rest_y += share * (y - self.rest_y)

    def _gained(self, passed: float) -> float:
        return (PUSH * self.height) ** 2 * passed**4 / 4
