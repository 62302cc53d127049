"""Whether the wall clock may be believed: where it is wrong, what was read a minute ago is a month old."""

import sys
import time
from typing import Final

MOVED_S: Final = 3600.0
HELD_S: Final = 86_400.0


class Clock:
    """The wall clock beside one that does not jump; after a jump it is believed when it has held for a day."""

    def __init__(self) -> None:
        self._offset_s = _offset_s()
        self._from_s = 0.0

    def doubt(self) -> None:
        """It may have jumped while nobody looked: believe it when it has held for a day."""
        self._offset_s, self._from_s = _offset_s(), steady_s() + HELD_S

    @property
    def believed(self) -> bool:
        if abs(_offset_s() - self._offset_s) > MOVED_S:
            self.doubt()
        return steady_s() >= self._from_s


def steady_s() -> float:
    """Seconds of a clock that does not jump; it goes on while the machine sleeps, where there is such a one."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def _offset_s() -> float:
    return time.time_ns() / 1e9 - steady_s()
