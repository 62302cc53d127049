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
    places = np.array([(box.x, box.y, *box.along, box.length, box.height) for _, box in others], np.float64)
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


def let_go(gone: Sequence[Track], live: Sequence[Track]) -> None:
    """Nobody remembers those that have ended and been told of: each would hold the one before it, for ever."""
    for track in live:
        other = track.beside
        if other is not None and other.ended and other.last <= track.last:  # so it is a splinter of its other at most
            track.beside = other.beside if other.beside is not track else None
    for track in gone:
        track.beside = None


def _apart(box: Box, places: Floats) -> tuple[Floats, Flags]:
    """Pixels between the ends of a box and of each place, below 0 where they overlap, and which lie on its line."""
    x, y, u, v, length, height = places.T
    short = length < box.length  # the longer one tells which way the line runs: a piece of it may be higher than long
    u, v = np.where(short, box.along[0], u), np.where(short, box.along[1], v)
    dx, dy = x - box.x, y - box.y
    turned = np.abs(box.along[0] * u + box.along[1] * v) < np.abs(box.along[0] * v - box.along[1] * u)
    own_length, own_height = np.where(turned, box.height, box.length), np.where(turned, box.length, box.height)
    turned = np.abs(places[:, 2] * u + places[:, 3] * v) < np.abs(places[:, 2] * v - places[:, 3] * u)
    length, height = np.where(turned, height, length), np.where(turned, length, height)
    gap = np.abs(dx * u + dy * v) - (length + own_length) / 2
    alike = np.abs(np.log(height / own_height)) < ALIKE
    return gap, (np.abs(dy * u - dx * v) < ON_LINE * np.maximum(height, own_height)) & alike
