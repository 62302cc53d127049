"""Where the camera really looks, going by text that stands still: finer than the thumbnails of `scene.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

import numpy as np

from edge_node.tracking.boxes import Box, patches_at
from edge_node.tracking.frame import Frame
from edge_node.tracking.pairing import LOOK_FALL, Table
from edge_node.tracking.track import Track

Shift = tuple[float, float]

LEAST_STILL: Final = 4  # sights that tell of the camera's motion by their places
STEADY: Final = 8  # of them that are looked at when most look unusual
SEARCH: Final = ((0.8, 2), (0.4, 1))  # steps in search of a place: pixels of the thumbnail, and how many each way


def by_looks(known: Sequence[Track], places: Sequence[Box], frame: Frame) -> Shift | None:
    """How far off the camera is, where still text is not seen pixel by pixel as usual, but is a little beside; else
    None. `places` are where the known ones should be in the frame."""
    visible = (row for row, track in enumerate(known) if track.steady and frame.there[row].any())
    steady = list(islice(visible, STEADY))
    if not steady:
        return None
    before = np.array([known[row].there for row in steady], np.float32)
    usual, unit = np.array([known[row].usual for row in steady]), frame.thumb.pixels

    def rise(shift: Shift) -> float:
        moved = [replace(places[row], x=places[row].x + shift[0], y=places[row].y + shift[1]) for row in steady]
        return float(np.median((before * patches_at(frame.gray, moved, frame.scale)).sum(axis=1) - usual))

    best = (0.0, 0.0)
    most = float(np.median((before * frame.there[steady]).sum(axis=1) - usual))
    if most > -LOOK_FALL:
        return None
    for step, reach in SEARCH:
        steps = [step * unit * k for k in range(-reach, reach + 1)]
        tries = [(best[0] + x, best[1] + y) for x in steps for y in steps if x or y]
        rises = [rise(shift) for shift in tries]
        if max(rises) > most:
            most = max(rises)
            best = tries[rises.index(most)]
    return best if most > -LOOK_FALL else None


def by_places(known: Sequence[Track], table: Table, pairs: Mapping[int, int]) -> tuple[float, float] | None:
    """How far still text stands from where it should, if all of it does."""
    still = [(row, column) for row, column in pairs.items() if known[row].frames >= 3 and not known[row].motion.moves]
    if len(still) < LEAST_STILL:
        return None
    misses = np.array([table.misses[row, column] for row, column in still])
    middle = np.median(misses, axis=0)
    height = float(np.median([known[row].box.height for row, _ in still]))
    agree = np.abs(misses - middle).max(axis=1) < 0.25 * height
    if np.abs(middle).max() < 0.15 * height or agree.mean() < 0.6:
        return None
    return float(middle[0]), float(middle[1])
