"""Small pictures of frames: how far the camera moved between two of them, and whether they show one scene."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from common.pixels import Bytes, Levels

Shift = tuple[float, float]

SIDE: Final = 256  # pixels of its longer side
DETAIL: Final = 3.0  # sigma in its pixels: what is coarser is light, not things
LEAST_SHARE: Final = 0.25  # of the picture that two must share to say anything


@dataclass(frozen=True, slots=True, eq=False)
class Thumb:
    """Edges and blobs of one frame, (h, w) float32 of mean 0; `pixels` of the frame in one of its own."""

    levels: Levels
    window: Levels  # the same, fading to the borders
    pixels: float


def thumb_of(gray: Bytes, pixel: float = 1.0) -> Thumb:
    """gray: (H, W) uint8. pixel: how much one of its pixels counts for in the lengths of shifts."""
    height, width = gray.shape
    shrink = min(1.0, SIDE / max(height, width))
    size = max(8, round(width * shrink)), max(8, round(height * shrink))
    small = cv2.resize(gray, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    levels: Levels = small - cv2.GaussianBlur(small, (0, 0), DETAIL)
    strong = 3.0 * float(np.abs(levels).mean()) + 1e-3  # a lamp or two are not the scene
    np.clip(levels, -strong, strong, out=levels)
    window = levels * cv2.createHanningWindow(size, cv2.CV_32F)
    return Thumb(levels, window, width * pixel / size[0])


def compare(before: Thumb, after: Thumb, guesses: Iterable[Shift]) -> tuple[Shift, float]:
    """The shift (right, down) of what `before` shows to where `after` shows it, and how alike they are then, -1..1.

    The best of phase correlation, of the `guesses` and of none; for frames of one size. Unlike pictures have 0.
    """
    if before.levels.shape != after.levels.shape:
        return (0.0, 0.0), 0.0
    found, _ = cv2.phaseCorrelate(before.window, after.window)
    unit = after.pixels
    tries = [(0.0, 0.0), (found[0], found[1]), *((x / unit, y / unit) for x, y in guesses)]
    likeness = [_likeness(before.levels, after.levels, shift) for shift in tries]
    best = int(np.argmax(likeness))
    return (tries[best][0] * unit, tries[best][1] * unit), likeness[best]


def _likeness(before: Levels, after: Levels, shift: Shift) -> float:
    """Correlation of what both show."""
    height, width = before.shape
    right, down = shift
    if not (abs(right) < width and abs(down) < height):
        return 0.0
    left, top = max(0, int(np.ceil(-right))), max(0, int(np.ceil(-down)))
    end, bottom = min(width, int(width - right)), min(height, int(height - down))
    if (end - left) * (bottom - top) < LEAST_SHARE * width * height:
        return 0.0
    matrix = np.array([[1, 0, right + left], [0, 1, down + top]], np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(after, matrix, (end - left, bottom - top), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    one, other = before[top:bottom, left:end].reshape(-1), moved.reshape(-1)
    norm = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(one @ other) / norm if norm > 1e-6 else 0.0
