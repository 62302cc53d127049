"""Which pieces of text may be of one line."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from edge_node.tracking.boxes import Box, Floats
from edge_node.tracking.track import Track

SPACE: Final = 1.0  # heights between two words of a line, at most
ON_LINE: Final = 0.5  # heights that their middles may be apart, across it
ALIKE: Final = np.log(1.7)  # of the ratio of their heights

Flags = np.ndarray[Any, np.dtype[np.bool_]]


def find_lines(
    new: Sequence[tuple[Track, Box]], seen: Sequence[tuple[Track, Box]], unseen: Sequence[tuple[Track, Box]]
) -> None:
    """Note of each new one whether it lies right beside another on its line, and which one it may be a splinter of.

    seen: those of the frame, the new ones too, and where each was found.
    unseen: the others, and where each is expected.
    """
    others = [*seen, *unseen]
    places = np.array([(box.x, box.y, box.length, box.height) for _, box in others], np.float64)
    fresh = {id(track) for track, _ in new}
    old = np.array([id(track) not in fresh for track, _ in others], bool)
    for track, box in new:
        gap, on_line = _apart(box, places)
        itself = np.array([other is track for other, _ in others], bool)
        touching, joined = on_line & (gap < 0) & ~itself, on_line & (np.abs(gap) < SPACE * box.height) & ~itself
        joined[len(seen) :] = False
        track.in_line = bool(joined.any())
        for found in (touching & old, joined & old, joined):
            if found.any():
                track.beside = others[int(np.flatnonzero(found)[0])][0]
                break


def _apart(box: Box, places: Floats) -> tuple[Floats, Flags]:
    """Pixels between the ends of a box and of each place, below 0 where they overlap, and which lie on its line."""
    u, v = box.along
    dx, dy = places[:, 0] - box.x, places[:, 1] - box.y
    gap = np.abs(dx * u + dy * v) - (places[:, 2] + box.length) / 2
    height = np.maximum(places[:, 3], box.height)
    alike = np.abs(np.log(places[:, 3] / box.height)) < ALIKE
    return gap, (np.abs(dy * u - dx * v) < ON_LINE * height) & alike
