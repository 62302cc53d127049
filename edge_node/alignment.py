"""How far a dark, noisy frame has moved against another: one shift for all, small, with parts that move on their own.

Lucas and Kanade's gradient steps (IJCAI 1981) on binned luma, coarse to fine; pixels that do not fit are left out, so
that on bursts of known shift this was nearer than phase correlation and ECC: docs/fusion.md.
"""

from typing import Any, Final

import cv2
import numpy as np

from common.pixels import Levels

Plane = np.ndarray[Any, Any]  # (H, W), uint8 or float32
Shift = tuple[float, float]  # right and down, in pixels

FINE: Final = 4  # pixels of luma in one, per side
COARSE: Final = 4  # of those in one
STEPS: Final = 4  # gradient steps at each, at most
LEAST_STEP: Final = 0.005  # binned pixels; a smaller step is the last
BLUR: Final = 1.0  # sigma in binned pixels
BORDER: Final = 3  # binned pixels at the borders that are not looked at
OUTLIER: Final = 3.0  # times the noise: what does not fit moves on its own
LEAST_SIDE: Final = 12  # binned pixels; a smaller level says nothing
CHANCE: Final = 6.0  # standard deviations of the correlation that edges of mere noise have
BLURRED: Final = 4 * np.pi * BLUR**2  # values of blurred noise that weigh as one
CUBIC: Final = -0.5  # Catmull-Rom


def find_shift(before: Plane, after: Plane) -> Shift:
    """The shift d for which `after(x + d)` shows what `before(x)` shows.

    before, after: luma of equal shape (H, W), float32 or uint8, better the less noisy one first.
    (0, 0) where no shift fits clearly better than none: on noise alone, or without any contrast.
    """
    one, other = _binned(before, FINE), _binned(after, FINE)
    if min(one.shape) < LEAST_SIDE:
        return (0.0, 0.0)
    starts = [np.zeros(2)]
    if min(one.shape) >= LEAST_SIDE * COARSE:
        far = _Fit(_binned(one, COARSE), _binned(other, COARSE)).follow(starts[0]) * COARSE
        if np.abs(far).max() > 1:  # farther than the fine steps may reach by themselves
            starts.append(far)
    fine = _Fit(one, other)
    found = min((fine.follow(start) for start in starts), key=fine.misfit)
    return (float(found[0] * FINE), float(found[1] * FINE)) if fine.believes(found) else (0.0, 0.0)


def _binned(luma: Plane, bins: int) -> Levels:
    rows, columns = (max(1, side // bins) for side in luma.shape)
    small = cv2.resize(luma[: rows * bins, : columns * bins], (columns, rows), interpolation=cv2.INTER_AREA)
    levels: Levels = small.astype(np.float32)
    return levels


class _Fit:
    def __init__(self, before: Levels, after: Levels) -> None:
        self._before, self._after = (cv2.GaussianBlur(level, (0, 0), BLUR) for level in (before, after))
        self._slopes = [cv2.Sobel(self._before, cv2.CV_32F, right, 1 - right, scale=1 / 8) for right in (1, 0)]

    def follow(self, shift: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        """Better and better shifts from this one on, in binned pixels; 0 where the steps lead out of the frame."""
        for _ in range(STEPS):
            margin = _margin(shift)
            misfit = self._misfit(shift, margin)
            x, y = (_inside(slope, margin) for slope in self._slopes)
            fits = np.abs(misfit) <= OUTLIER * _noise(misfit)
            fx, fy = x * fits, y * fits
            normal = np.array([[fx @ x, fx @ y], [fx @ y, fy @ y]], float)
            if np.linalg.det(normal) <= 1e-6 * max(np.trace(normal), 1e-6) ** 2:
                return shift  # contrast in one direction at most: nothing to hold on to
            step = np.linalg.solve(normal, [fx @ misfit, fy @ misfit])
            shift = shift - step
            if not np.all(np.abs(shift) < min(self._before.shape) / 4):
                return np.zeros(2)
            if np.all(np.abs(step) < LEAST_STEP):
                break
        return shift

    def misfit(self, shift: "np.ndarray[Any, Any]") -> float:
        """The middle difference: what moves on its own does not count."""
        return float(np.median(np.abs(self._misfit(shift, _margin(shift)))))

    def believes(self, shift: "np.ndarray[Any, Any]") -> bool:
        """Whether edges fall on edges with the shift: more than noise on noise does, and than they do without it."""
        margin = _margin(shift)
        one = _edges(self._before, margin)
        moved, still = (float(one @ _edges(self._moved(by), margin)) for by in (shift, np.zeros(2)))
        return bool(moved > max(still, CHANCE * (BLURRED / one.size) ** 0.5))

    def _misfit(self, shift: "np.ndarray[Any, Any]", margin: int) -> Levels:
        return _inside(self._moved(shift), margin) - _inside(self._before, margin)

    def _moved(self, shift: "np.ndarray[Any, Any]") -> Levels:
        matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
        height, width = self._before.shape
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved: Levels = cv2.warpAffine(
            self._after, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        return moved


def _edges(level: Levels, margin: int) -> Levels:
    """Slopes in both directions as one vector of length 1."""
    slopes = [_inside(cv2.Sobel(level, cv2.CV_32F, right, 1 - right), margin) for right in (1, 0)]
    vector = np.concatenate(slopes)
    return vector / max(float(np.linalg.norm(vector)), 1e-6)


def _margin(shift: "np.ndarray[Any, Any]") -> int:
    """Binned pixels at each border that only one of the frames shows, and some."""
    return BORDER + int(np.abs(shift).max())


def _inside(level: Levels, margin: int) -> Levels:
    return level[margin:-margin, margin:-margin].reshape(-1)


def _noise(misfit: Levels) -> float:
    """Standard deviation by the median, of every fifth value."""
    return 1.4826 * float(np.median(np.abs(misfit[::5]))) + 1e-3


def resampled(plane: Plane, shift: Shift) -> Levels:
    """`plane(x + shift)` for a shift below one pixel, by Catmull-Rom splines: (H, W) uint8 -> (H, W) float32."""
    right, down = (_taps(part) for part in shift)
    read: Levels = cv2.sepFilter2D(plane, cv2.CV_32F, right, down, borderType=cv2.BORDER_REPLICATE)
    return read


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
