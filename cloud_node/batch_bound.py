"""How large batches may be where memory ran out."""

import logging
from typing import Any

from cloud_node.scheduler import Scheduler

log = logging.getLogger(__name__)

QUIET_S = 600.0


class BatchBound:
    """Lowers a scheduler's `max_pixels`, for all devices, to what fitted.

    It doubles after each `quiet_s` in which memory sufficed, up to what it was. Pure: the clock reading goes in.
    """

    def __init__(self, scheduler: Scheduler[Any], quiet_s: float = QUIET_S) -> None:
        self._scheduler, self._quiet_s = scheduler, quiet_s
        self._most_pixels = scheduler.max_pixels
        self._changed_s: float | None = None  # None: it is what it was

    def lower(self, fits_pixels: int, now_s: float) -> None:
        """Memory ran out, and sufficed for so many pixels at once."""
        self._changed_s = now_s
        if fits_pixels < self._scheduler.max_pixels:
            self._scheduler.max_pixels = fits_pixels
            log.warning("memory ran out: batches of %d pixels from now on", fits_pixels)

    def relax(self, now_s: float) -> None:
        """Time passed."""
        if self._changed_s is not None and now_s - self._changed_s >= self._quiet_s:
            self._scheduler.max_pixels = min(self._most_pixels, 2 * self._scheduler.max_pixels)
            self._changed_s = now_s if self._scheduler.max_pixels < self._most_pixels else None
