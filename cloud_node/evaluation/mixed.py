"""Mixed light: what happens to lamps and lit signs in a dark picture, and around them.

What is bright already (luma of 0.75 or more in the dark picture) should stay as it is and gain no halo; what is half
bright (0.4 and more), as a lit window or a sign, should not be lifted to white either.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from cloud_node.evaluation.metrics import luma
from common.errors import ImageError
from common.pixels import Bytes

BRIGHT, HALF = 0.75, 0.4  # of the luma's 0..1
CLIPPED = 254  # of 255: burnt out
RING = (3, 12)  # pixels from a bright region: where a halo would stand
SURROUNDINGS = 40  # pixels from a bright region: where the mapping that a halo departs from is taken

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MixedLight:
    """All in levels of 255 but `clipped` and `spread`; 0 is best. NaN where the picture has no bright region."""

    change: float  # mean absolute change of R, G, B in bright regions
    clipped: float  # share 0..1 of their pixels with a channel that was below 254 and no longer is
    spread: float  # share 0..1 of the pixels within 40 around them that are burnt white, all channels, and were not
    overshoot: float  # how far the ring is brighter than a monotone mapping makes it
    undershoot: float  # how far it is darker
    half: float  # mean absolute change of R, G, B in half bright regions; 0 where there is none


def mixed_light(dark: Bytes, lit: Bytes) -> MixedLight:
    """Compare a lit picture with the dark one, both (H, W, 3) uint8.

    Bright regions are those of the dark picture, without specks of less than 3x3 pixels. Halo: the monotone mapping
    from dark luma to lit luma that fits best within 40 pixels around them (least squares, one for the picture) is
    what a tone curve would do; over the ring of 3 to 12 pixels, the lit luma minus that mapping is averaged at each
    whole distance, and the highest and lowest of those means are over- and undershoot. A curve for all pixels thus
    has none, whatever it does; a dark or bright band around a lamp has. Raises ImageError for unlike shapes.
    """
    if dark.shape != lit.shape:
        raise ImageError(f"the lit picture is {lit.shape}, the dark one {dark.shape}")
    before, after = luma(dark).astype(np.float64), luma(lit).astype(np.float64)
    bright = _regions(before >= BRIGHT * 255)
    if not bright.any():
        return MixedLight(*[float("nan")] * 6)
    half = _regions((before >= HALF * 255) & (before < BRIGHT * 255))
    change, lift = _change(dark, lit, bright), _change(dark, lit, half) if half.any() else 0.0
    burnt = (lit.max(axis=2) >= CLIPPED) & (dark.max(axis=2) < CLIPPED)
    distance = cv2.distanceTransform((~bright).astype(np.uint8), cv2.DIST_L2, 5)
    around = (distance > 0) & (distance <= SURROUNDINGS)
    white = (lit.min(axis=2) >= CLIPPED) & (dark.min(axis=2) < CLIPPED)
    spread = float(white[around].mean()) if around.any() else 0.0
    return MixedLight(change, float(burnt[bright].mean()), spread, *halo(before, after, distance), lift)


def _regions(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0


def _change(dark: Bytes, lit: Bytes, where: npt.NDArray[np.bool_]) -> float:
    return float(np.abs(lit[where].astype(np.float64) - dark[where]).mean())


def halo(before: Floats, after: Floats, distance: npt.NDArray[np.float32]) -> tuple[float, float]:
    """(overshoot, undershoot) in levels: lumas before and after, and distances from the bright regions, all (H, W)."""
    near = (distance >= RING[0]) & (distance <= SURROUNDINGS)
    if not near.any():
        return 0.0, 0.0
    excess = after - monotone(before[near], after[near])[np.round(before).astype(int)]
    steps = [excess[(distance >= d) & (distance < d + 1)] for d in range(RING[0], RING[1])]
    profile = [float(step.mean()) for step in steps if step.size]
    return max(0.0, *profile), max(0.0, *(-value for value in profile))


def monotone(before: Floats, after: Floats) -> Floats:
    """The non-decreasing mapping, a value for each level 0..255, that fits `after` best in least squares."""
    levels = np.round(before).astype(int)
    pixels = np.bincount(levels, minlength=256)
    there = np.flatnonzero(pixels)
    means = np.bincount(levels, after, minlength=256)[there] / pixels[there]
    fitted = isotonic_regression(means, weights=pixels[there]).x
    return np.interp(np.arange(256), there, fitted)
