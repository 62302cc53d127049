"""Gate: does this frame need to be lit up, and is it essential? Decided before anything is packed, in a millisecond.

The enhancer solves one curve for a frame's exposure and mends the picture the more, the steeper that curve is; a frame
that is bright enough it gives back as it is. The gate solves the same curve on a thumbnail: where it is all but flat,
lighting up would bring nothing. `docs/gate.md` shows how the limit was measured, and that no text is lost by it.
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np

from common.frame import Region
from common.pixels import RawImage
from edge_node.areas import Area
from edge_node.change import has_changed
from edge_node.glance import Glance, glance, thumbnail
from edge_node.solved_curve import SOLVER_SIDE, solve_curve

EXPOSURE: Final = 0.45  # the mean luma that the enhancers' presets aim at; a test holds it to the weights
FLAT: Final = 0.05  # alpha of the steepest curve that is not worth a journey; of 0..1


class GateMode(Enum):
    """Which frames are lit up."""

    AUTO = "auto"  # the dark ones
    OFF = "off"  # all


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What the gate says of a frame."""

    light: bool  # it is to be lit up; else it is read as it is
    essential: bool
    reason: str
    look: Glance | None = None
    spent_ns: int = 0


def is_dark(image: RawImage) -> bool:
    """Whether lighting the frame up would change what can be read in it."""
    return solve_curve(thumbnail(image, SOLVER_SIDE), EXPOSURE) > FLAT


class Gate:
    """One edge's gate; `counts` has the verdicts on frames that were taken, by reason.

    Args:
        areas: essential parts of the picture. A frame is essential when something in one of them differs from the
            last frame taken, and while the last reading found text there.
    """

    def __init__(self, mode: GateMode = GateMode.AUTO, areas: tuple[Area, ...] = ()) -> None:
        self.counts: Counter[str] = Counter()
        self._mode, self._areas = mode, areas
        self._taken: Glance | None = None
        self._text_in_sight = False
        self._watched: dict[str, Area] = {}

    @property
    def watched(self) -> tuple[Area, ...]:
        """Parts that are essential for a while: where something was read that someone waits for."""
        return tuple(self._watched.values())

    def watch(self, name: str, area: Area) -> None:
        """Frames are essential until `unwatch` of the same name; from any thread."""
        self._watched = {**self._watched, name: area}

    def unwatch(self, name: str) -> None:
        if name in self._watched:
            self._watched = {other: area for other, area in self._watched.items() if other != name}

    def judge(self, image: RawImage) -> Verdict:
        """Judge a frame against the last one taken; changes nothing."""
        watched = bool(self._watched)
        if self._mode is GateMode.OFF and not self._areas:
            return Verdict(True, watched, "gate off")
        start_ns = time.perf_counter_ns()
        look, essential = None, watched
        if self._areas:
            look, before = glance(image), self._taken
            essential = watched or self._text_in_sight or before is None or has_changed(before, look, self._areas)
        light = self._mode is GateMode.OFF or is_dark(image)
        reason = "gate off" if self._mode is GateMode.OFF else "dark" if light else "bright"
        return Verdict(light, essential, reason, look, time.perf_counter_ns() - start_ns)

    def take(self, verdict: Verdict) -> None:
        """The frame that was judged so is taken."""
        self.counts[verdict.reason] += 1
        self._taken = verdict.look or self._taken

    def read(self, regions: Iterable[Region], width: int, height: int) -> None:
        """What was read last: text in an essential part keeps the next frames essential."""
        centres = [np.mean(region.polygon, axis=0) for region in regions] if self._areas else []
        self._text_in_sight = any(
            area.covers(float(x), float(y), width, height) for x, y in centres for area in self._areas
        )
