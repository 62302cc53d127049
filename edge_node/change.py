"""Does a frame show anything new? On coarse tiles, so that noise averages out and a number plate still counts."""

from typing import Final

import numpy as np

from edge_node.areas import Area
from edge_node.glance import TILE, Glance

LEAST: Final = 2.5  # levels; compression moves a still scene by less
SIGMAS: Final = 5.0
ROUNDING: Final = 0.6  # sigma of the difference of two tiles without noise: their means are whole levels
CORRELATED: Final = 3.2  # neighbouring pixels' noise is alike after demosaicing and compression: measured on tiles
DRIFT: Final = 0.08  # of the brightness, and LEAST: so much of a change everywhere is the camera's own
PLACES: Final = 2  # that must differ


def has_changed(before: Glance, now: Glance, areas: tuple[Area, ...] = ()) -> bool:
    """Whether something in the frame, or in one of these areas of it, differs by more than noise and drift."""
    if before.tiles.shape != now.tiles.shape:
        return True
    import cv2

    difference = now.tiles - before.tiles
    drift = float(np.median(difference))
    if abs(drift) > LEAST + DRIFT * float(np.mean(before.tiles)):
        return True
    smooth = cv2.blur(difference - np.float32(drift), (2, 2))  # four tiles each: half the noise
    noise = float(np.hypot(ROUNDING, CORRELATED * np.hypot(before.noise, now.noise) / TILE)) / 2
    differs = np.abs(smooth) > max(LEAST, SIGMAS * noise)
    parts = [differs[area.tiles(now)] for area in areas] or [differs]
    return any(bool(part.sum() >= min(PLACES, part.size)) for part in parts)
