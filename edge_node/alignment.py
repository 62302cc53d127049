"""How far a dark, noisy frame has moved against another: one shift for all, small, with parts that move on their own.

Lucas and Kanade's gradient steps (IJCAI 1981) on binned luma, coarse to fine; pixels that do not fit are left out.
On bursts of known shift this was nearer than phase correlation and ECC, and cheaper: docs/fusion.md.
"""

from typing import Any, Final

import cv2
import numpy as np

Levels = np.ndarray[Any, np.dtype[np.float32]]
Shift = tuple[float, float]  # right and down, in pixels

BINS: Final = (16, 4)  # pixels of luma in one, per side, coarse to fine
STEPS: Final = 3  # gradient steps at each
BLUR: Final = 1.0  # sigma in binned pixels
BORDER: Final = 3  # binned pixels that are not looked at: they come and go with the shift
OUTLIER: Final = 3.0  # times the noise: what does not fit moves on its own
LEAST_SIDE: Final = 12  # binned pixels; a smaller level says nothing
LEAST_GAIN: Final = 0.02  # share of the misfit that a shift must take away to be believed
CUBIC: Final = -0.5  # Catmull-Rom


def find_shift(before: Levels, after: Levels, guess: Shift = (0.0, 0.0)) -> Shift:
    """The shift d for which `after(x + d)` shows what `before(x)` shows.

    before, after: luma of equal shape (H, W), float32 or uint8, better the less noisy one first.
    (0, 0) where no shift fits clearly better than none: on noise alone, or without any contrast.
    """
    shift = np.array(guess)
    fits: Any = None
    for bins in BINS:
        one, other = _binned(before, bins), _binned(after, bins)
        if min(one.shape) < LEAST_SIDE:
            continue
        fits = _Fit(one, other)
        shift = fits.follow(shift / bins) * bins
    if fits is None or not fits.believes(shift / BINS[-1]):
        return (0.0, 0.0)
    return float(shift[0]), float(shift[1])


def _binned(luma: Levels, bins: int) -> Levels:
    rows, columns = (side // bins for side in luma.shape)
    if not rows or not columns:
        return np.zeros((0, 0), np.float32)
    small = cv2.resize(luma[: rows * bins, : columns * bins], (columns, rows), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small.astype(np.float32), (0, 0), BLUR)


class _Fit:
    def __init__(self, before: Levels, after: Levels) -> None:
        self._before, self._after = before, after
        inside = np.zeros(before.shape, bool)
        inside[BORDER:-BORDER, BORDER:-BORDER] = True
        self._inside = inside
        self._slopes = (
            cv2.Sobel(before, cv2.CV_32F, 1, 0, scale=1 / 8)[inside],
            cv2.Sobel(before, cv2.CV_32F, 0, 1, scale=1 / 8)[inside],
        )

    def follow(self, shift: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        x, y = self._slopes
        for _ in range(STEPS):
            misfit = self._misfit(shift)
            fits = np.abs(misfit) <= OUTLIER * _noise(misfit)
            fx, fy, misfit = x * fits, y * fits, misfit * fits
            normal = np.array([[fx @ fx, fx @ fy], [fx @ fy, fy @ fy]], float)
            if np.linalg.det(normal) <= 1e-6 * max(np.trace(normal), 1e-6) ** 2:
                return shift  # contrast in one direction at most: nothing to hold on to
            shift = shift - np.linalg.solve(normal, [fx @ misfit, fy @ misfit])
            if not np.all(np.abs(shift) < min(self._before.shape) / 4):
                return np.zeros(2)
        return shift

    def believes(self, shift: "np.ndarray[Any, Any]") -> bool:
        """Whether the frames fit clearly better with the shift than without."""
        still, moved = self._misfit(np.zeros(2)), self._misfit(shift)
        bound = OUTLIER * _noise(moved)
        without, remaining = (float(np.mean(np.minimum(np.abs(misfit), bound))) for misfit in (still, moved))
        return remaining < (1 - LEAST_GAIN) * without

    def _misfit(self, shift: "np.ndarray[Any, Any]") -> Levels:
        matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
        height, width = self._before.shape
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved = cv2.warpAffine(self._after, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        misfit: Levels = (moved - self._before)[self._inside]
        return misfit


def _noise(misfit: Levels) -> float:
    """Standard deviation by the median, of every fifth value."""
    return 1.4826 * float(np.median(np.abs(misfit[::5]))) + 1e-3


def resampled(plane: "np.ndarray[Any, Any]", shift: Shift) -> Levels:
    """`plane(x + shift)` for a shift below one pixel, by Catmull-Rom splines: (H, W) uint8 -> (H, W) float32."""
    right, down = (_taps(part) for part in shift)
    return cv2.sepFilter2D(plane, cv2.CV_32F, right, down, borderType=cv2.BORDER_REPLICATE)


def _taps(shift: float) -> Levels:
    """Five taps that read at `shift` from the middle one, in (-1, 1)."""
    distance = np.abs(np.arange(-2, 3) - shift)
    near = (CUBIC + 2) * distance**3 - (CUBIC + 3) * distance**2 + 1
    far = CUBIC * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0)).astype(np.float32)


def rolled(plane: Levels, shift: tuple[int, int], fill: Levels) -> Levels:
    """The plane with its content moved by whole pixels; what comes in at the borders is taken from `fill`."""
    height, width = plane.shape
    right, down = shift
    moved: Levels = fill.astype(np.float32)
    if abs(right) < width and abs(down) < height:
        to_rows, from_rows = slice(max(down, 0), height + min(down, 0)), slice(max(-down, 0), height + min(-down, 0))
        to_columns = slice(max(right, 0), width + min(right, 0))
        from_columns = slice(max(-right, 0), width + min(-right, 0))
        moved[to_rows, to_columns] = plane[from_rows, from_columns]
    return moved
