"""Follows text over the frames of one camera, in whatever order they are read."""

import itertools
import os
from dataclasses import replace
from typing import Final

from common.frame import Reading
from common.pixels import Bytes
from edge_node.sights import Sight
from edge_node.tracking.strand import Strand

LATE_S: Final = 3.0  # frames late by less are fitted in among the others
STRANDS: Final = 4  # of frames of other runs and hours, side by side with those of now
IDLE_S: Final = 60.0  # without a frame, a strand of those ends
MOST: Final = 500  # live sights of a strand
STEP_S: Final = 0.1  # that two frames of a file are apart: nobody knows when they were taken


class TextTracker:
    """A `Tracker`: see `edge_node.sights`.

    Args:
        session: makes ids unique: "<session>-<number>"; without it a random one.
        timeout_s: a sight that is unseen for so long has ended.
        ordered: whether frames follow each other, as a camera's do, and not as pictures in a folder.
        live: whether they come as fast as they are taken.
        most: live sights in one scene, at most.
    """

    def __init__(
        self,
        session: str = "",
        *,
        timeout_s: float = 10.0,
        ordered: bool = True,
        live: bool = True,
        most: int = MOST,
    ) -> None:
        self.session = session or os.urandom(6).hex()
        self._timeout_s, self._ordered, self._live, self._most = timeout_s, ordered, live, most
        self._numbers = itertools.count(1)
        self._strands: dict[Strand, float] = {}  # and when each had its last frame

    @property
    def live_sights(self) -> int:
        """That are followed now."""
        return sum(len(strand.tracks) for strand in self._strands)

    def observe(self, reading: Reading, rgb: Bytes, captured_ns: int) -> tuple[Reading, tuple[Sight, ...]]:
        """The reading with the sight of each region, and the sights that are new, changed or ended by it.

        captured_ns: as `Tracker.observe` says; not `captured_unix_ns`, as the wall's clock may jump.
        """
        at = captured_ns / 1e9
        now = at + reading.latency_ns / 1e9
        move_at = at if self._live else reading.id.sequence * STEP_S
        strand, older = self._choose(reading.id.session, at)
        ids, told = [""] * len(reading.regions), list[Sight]()
        for other in older:
            found, changed = other.recall(_rest(reading, ids), rgb, at)
            ids = _merged(ids, found)
            told += changed
        if strand is None and (not older or not all(ids)):
            told += self._make_room(now)
            strand = Strand(
                reading.id.session, self._name, timeout_s=self._timeout_s, ordered=self._ordered, most=self._most
            )
        if strand is not None:
            found, changed = strand.observe(_rest(reading, ids), rgb, at, move_at)
            ids = _merged(ids, found)
            told += changed
            self._strands[strand] = now
        told += self._close_idle(now)
        regions = zip(reading.regions, ids, strict=True)
        return replace(reading, regions=tuple(replace(region, sight=id) for region, id in regions)), tuple(told)

    def close(self) -> tuple[Sight, ...]:
        """The sights that end with the node."""
        told = [sight for strand in self._strands for sight in strand.close()]
        self._strands.clear()
        return tuple(told)

    def _choose(self, session: str, at: float) -> tuple[Strand | None, list[Strand]]:
        """The strand that a frame of that time continues, if there is one, and those that were on their way then."""
        strands = [strand for strand in self._strands if strand.session == session]
        going = [strand for strand in strands if at >= strand.newest - LATE_S]
        chosen = min(going, key=lambda strand: abs(at - strand.newest), default=None)
        return chosen, [strand for strand in strands if strand is not chosen and strand.oldest <= at < strand.newest]

    def _name(self) -> str:
        return f"{self.session}-{next(self._numbers)}"

    def _make_room(self, now: float) -> list[Sight]:
        if len(self._strands) < STRANDS:
            return []
        return self._close(min(self._strands, key=lambda strand: self._strands[strand]))

    def _close_idle(self, now: float) -> list[Sight]:
        newest = max(self._strands.values(), default=now)
        idle = [strand for strand, last in self._strands.items() if now - last > IDLE_S and last < newest]
        return [sight for strand in idle for sight in self._close(strand)]

    def _close(self, strand: Strand) -> list[Sight]:
        del self._strands[strand]
        return strand.close()


def _rest(reading: Reading, ids: list[str]) -> Reading:
    """With the regions alone that have no sight yet."""
    if not any(ids):
        return reading
    return replace(reading, regions=tuple(r for r, id in zip(reading.regions, ids, strict=True) if not id))


def _merged(ids: list[str], found: list[str]) -> list[str]:
    rest = iter(found)
    return [id or next(rest) for id in ids]
