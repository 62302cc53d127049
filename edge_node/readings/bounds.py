"""How much is kept, and for how long: the oldest goes, a little at a time."""

import math
import time
from pathlib import Path
from typing import Final

from edge_node.machine import MIB
from edge_node.readings.clock import Clock
from edge_node.readings.pictures import old_files, remove_crop
from edge_node.readings.writer import Writer

STEP: Final = 100  # rows at a time: some milliseconds
LOOK_EVERY_S: Final = 10.0
STRAYS_EVERY_S: Final = 6 * 3600.0
DAY_NS: Final = 86_400 * 10**9
TIDY: Final = 0.9  # of the bound, down to which rows go once it is reached


class Bounds:
    """Of one database and the pictures of its sights.

    Args:
        folder: of the output, where the pictures are.
        days: what was last seen before goes, while the clock may be believed; 0 = never.
        mib: of the database and the pictures.
    """

    def __init__(self, folder: Path, days: float, mib: float) -> None:
        self._folder, self._days, self._bytes = folder, days, mib * MIB
        self._clock = Clock()
        self._not_before_s = self._strays_not_before_s = 0.0
        self._to_go = 0  # rows
        self._merged, self._merging = True, False  # the indexes, since rows went

    def opened(self, writer: Writer) -> None:
        """A database was opened: where its newest reading is of another time, either the node was off or the clock
        is wrong, and nobody can tell which."""
        newest_ns = writer.newest_ns()
        if newest_ns is not None and abs(time.time_ns() - newest_ns) > DAY_NS:
            self._clock.doubt()

    def step(self, writer: Writer) -> bool:
        """Remove a few rows with their pictures, or give back some room to the disk; whether there is more to do.

        Raises:
            sqlite3.Error: as the writer's.
        """
        if time.monotonic() < self._not_before_s:
            return False
        if keys := self._too_old(writer) or self._too_much(writer):
            for name in writer.remove(keys):
                remove_crop(self._folder, name)
            self._merged, self._merging = False, False
            return True
        if self._merging:
            self._merging = writer.merge(begin=False)
            return True
        if writer.give_back():
            return True
        writer.tidy()
        self._not_before_s = time.monotonic() + LOOK_EVERY_S
        self._remove_strays(writer)
        return False

    def _too_old(self, writer: Writer) -> list[int]:
        return writer.before(self._oldest_ns(), STEP) if self._days and self._clock.believed else []

    def _remove_strays(self, writer: Writer) -> None:
        """Old pictures that no row names: of a node that was killed before it had written their rows."""
        if not self._days or not self._clock.believed or time.monotonic() < self._strays_not_before_s:
            return
        self._strays_not_before_s = time.monotonic() + STRAYS_EVERY_S
        names = old_files(self._folder, self._oldest_ns() / 1e9)
        for name in set(names) - writer.named(names) if names else ():
            remove_crop(self._folder, name)

    def _oldest_ns(self) -> int:
        return time.time_ns() - int(self._days * DAY_NS)

    def _too_much(self, writer: Writer) -> list[int]:
        """The oldest rows, as many as are expected to be enough; before more go, the indexes must have been merged,
        since only then it shows what they have given free."""
        if not self._to_go and not self._merging and (used := writer.used_bytes) > self._bytes:
            if self._merged:
                self._to_go = math.ceil(writer.rows * (1 - TIDY * self._bytes / used))
            else:
                self._merging = self._merged = True
                writer.merge(begin=True)
        keys = writer.oldest(min(STEP, self._to_go)) if self._to_go else []
        self._to_go = max(0, self._to_go - len(keys)) if keys else 0
        return keys
