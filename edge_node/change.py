"""Does a frame show anything new? Tile by tile, so that noise averages out and a small thing still counts."""

from typing import Final

import numpy as np

from edge_node.areas import Area
from edge_node.glance import TILE, Glance

LEAST: Final = 2.5  # levels of a tile's mean; compression and rounding move it by less
SIGMAS: Final = 5.0
CORRELATED: Final = 2.0  # demosaicing and compression make neighbours alike: a tile's noise averages out less
DRIFT: Final = 0.08  # of the brightness, and LEAST: so much of a change everywhere is the camera's own
TILES: Final = 2  # that must have changed


def has_changed(before: Glance, now: Glance, areas: tuple[Area, ...] = ()) -> bool:
    """Whether something in the frame, or in one of these areas of it, differs by more than noise and drift."""
    if before.tiles.shape != now.tiles.shape:
        return True
    difference = now.tiles - before.tiles
    drift = float(np.median(difference))
    if abs(drift) > LEAST + DRIFT * float(np.mean(before.tiles)):
        return True
    noise = CORRELATED * float(np.hypot(before.noise, now.noise)) / TILE
    differs = np.abs(difference - drift) > max(LEAST, SIGMAS * noise)
    if not areas:
        return bool(differs.sum() >= min(TILES, differs.size))
    parts = [differs[area.tiles(now)] for area in areas]
    return any(bool(part.sum() >= min(TILES, part.size)) for part in parts)
