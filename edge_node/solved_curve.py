"""The curve that lights a frame up, without torch: `cloud_node/laegan/curve.py` on NumPy and OpenCV.

A test holds the two equal (tests/cloud_node/training/test_export.py).
"""

from typing import Final

import numpy as np

from common.pixels import Bytes, Levels

CURVE_ITERATIONS: Final = 8
PAGE, LAMPS, DAY = 0.70, 0.22, 0.25  # mean luma of a page, of a scene with lamps in it, and of one that is lit already
SLIGHT: Final = 0.03  # a curve that is no steeper is left out
KNEE, KNEE_LAMPS, SLOPE = 0.75, 0.5, 0.3  # where the shoulder for light parts begins, and how steep it is
CELLS: Final = 96  # of the shorter side, in which the light of a part is measured
SMOOTHEST: Final = 3e-3  # variance of the luma above which the curve follows the pixels
SOLVER_SIDE: Final = 48  # pixels of the shorter side that the exposure solver looks at
SOLVER_STEPS: Final = 25  # curves it tries
SOLVER_REACH: Final = 3.2  # atanh of the steepest
LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
BYTE_LEVELS: Final[Levels] = np.linspace(0, 1, 256, dtype=np.float32)
SHIFTS: Final[Levels] = np.linspace(0, SOLVER_REACH, SOLVER_STEPS, dtype=np.float32)


def curve(levels: Levels, alpha: float | Levels) -> Levels:
    """Zero-DCE's curve: levels in [0, 1] -> lifted levels; alpha in [0, 1], one or an array that broadcasts.

    >>> curve(np.array([0.0, 0.5, 1.0], np.float32), 0.0)
    array([0. , 0.5, 1. ], dtype=float32)
    """
    for _ in range(CURVE_ITERATIONS):
        levels = (levels + alpha * (levels - levels * levels)).astype(np.float32, copy=False)
    return levels


CURVES: Final[Levels] = curve(BYTE_LEVELS, np.tanh(SHIFTS)[:, None])  # (K, 256), rising along K


def exposure_level(rgb: Bytes, level: float) -> tuple[float, float]:
    """(mean luma, knee) that an (H, W, 3) uint8 view shall get, both 0..1."""
    y = (rgb / np.float32(255)) @ LUMA
    bright = (rgb.max(axis=-1) >= 0.9 * 255).mean()  # share of the frame
    lamps = np.clip((bright - 0.004) / 0.011, 0, 1)
    rows, columns = (side // 4 for side in y.shape)
    areas = y[: rows * 4, : columns * 4].reshape(rows, 4, columns, 4).mean(axis=(1, 3))
    mean = float(y.mean())
    page = np.clip(2 - areas.std(ddof=1) / max(float(areas.mean()), 1e-3) / 0.16, 0, 1) * np.clip(mean * 255 / 4, 0, 1)
    scene = level - max(0.0, level - LAMPS) * lamps
    scene -= max(0.0, scene - DAY) * np.clip((mean - 0.18) / 0.07, 0, 1)
    knee = KNEE + (KNEE_LAMPS - KNEE) * np.clip((bright - 0.0005) / 0.0035, 0, 1)
    return float(scene + (PAGE - scene) * page), float(knee + (1 - knee) * page)


def solve_curve(rgb: Bytes, level: float) -> float:
    """The alpha in [0, 1) whose curve brings an (H, W, 3) uint8 frame to its mean luma; 0 where it is there already."""
    return _solve(rgb, level)[0]


def local_curve(rgb: Bytes, level: float) -> Levels:
    """The curve of each pixel, flatter where it is light already: (H, W, 3) uint8 -> alpha (H, W) in [0, 1).

    (1, 1) where one curve is right for the whole frame; 0 for a frame without a single photon.
    """
    import cv2

    if not rgb.any():
        return np.zeros((1, 1), np.float32)
    alpha, knee = _solve(rgb, level)
    table = flatter_curves(alpha, knee)
    height, width = rgb.shape[:2]
    stride = max(1, min(height, width) // CELLS)
    luma = cv2.transform(rgb.astype(np.float32), LUMA[None] / 255)
    whole = cv2.copyMakeBorder(luma, 0, -height % stride, 0, -width % stride, cv2.BORDER_REPLICATE)
    rows, columns = (side // stride for side in whole.shape)
    cells = cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)
    if table[: int(cells.max() * 255) + 2].min() == table[0]:
        return np.full((1, 1), alpha, np.float32)
    maps = guided(cells, np.interp(cells, BYTE_LEVELS, table).astype(np.float32))
    slope, offset = (
        cv2.resize(each, whole.shape[::-1], interpolation=cv2.INTER_LINEAR)[:height, :width] for each in maps
    )
    return np.asarray(np.clip(slope * luma + offset, 0, np.float32(alpha)), np.float32)


def flatter_curves(alpha: float, knee: float) -> Levels:
    """The curve of a part for each of 256 levels that it may have, given the frame's: (256,)."""
    lit = curve(BYTE_LEVELS, alpha)
    wanted = np.minimum(lit, np.maximum(BYTE_LEVELS, knee + SLOPE * (lit - knee)))
    upper = (wanted > CURVES).sum(axis=0).clip(1, SOLVER_STEPS - 1)
    place = np.arange(256)
    below, above = CURVES[upper - 1, place], CURVES[upper, place]
    part = ((wanted - below) / (above - below).clip(min=1e-6)).clip(0, 1)
    flatter = np.tanh((upper - 1 + part) * (SOLVER_REACH / (SOLVER_STEPS - 1)))
    table = np.where(wanted < lit, np.minimum(flatter, alpha), alpha).astype(np.float32)
    table[-1] = table[-2]  # white stays white by any curve: its neighbour's leaves the rim of a lamp alone
    return table


def guided(guide: Levels, values: Levels) -> tuple[Levels, Levels]:
    """Slope and offset, smoothed, with which `values` are linear in the guide in each 3x3: all (h, w)."""
    import cv2

    def mean(x: Levels) -> Levels:
        return np.asarray(cv2.blur(x, (3, 3), borderType=cv2.BORDER_REPLICATE), np.float32)

    guides, others = mean(guide), mean(values)
    variance = mean(guide * guide) - guides * guides
    slope = np.asarray((mean(guide * values) - guides * others) / (variance + SMOOTHEST), np.float32)
    return mean(slope), mean(others - slope * guides)


def lifted(low: Bytes, alpha: Levels) -> Levels:
    """(3, H, W) uint8, each pixel by its curve, alpha (H, W) or (1, 1) -> (3, H, W) float32 in [0, 1]."""
    import cv2

    if alpha.size == 1:
        return np.asarray(cv2.LUT(low.reshape(-1, low.shape[-1]), curve(BYTE_LEVELS, alpha[0])).reshape(low.shape))
    steepest = max(float(alpha.max()), 1e-6)
    table = curve(BYTE_LEVELS, BYTE_LEVELS[:, None] * np.float32(steepest))  # by curve and level
    rows = np.rint(alpha * np.float32(255 / steepest)).astype(np.int32) * 256
    lit = np.empty(low.shape, np.float32)
    for channel, levels in zip(lit, low, strict=True):  # one by one: the indices of a large frame are larger than it
        np.take(table, rows + levels, out=channel)
    return lit


def _solve(rgb: Bytes, level: float) -> tuple[float, float]:
    """(alpha, knee) of an (H, W, 3) uint8 frame."""
    stride = max(1, min(rgb.shape[:2]) // SOLVER_SIDE)
    view = rgb[::stride, ::stride]
    target, knee = exposure_level(view, level)
    counts = np.stack([np.bincount(view[..., c].ravel(), minlength=256) for c in range(3)])
    means = CURVES @ (LUMA @ counts) / counts[0].sum()  # (K,), rising
    alpha = float(np.tanh(np.interp(target, means, SHIFTS)))
    return alpha * min(1.0, max(0.0, alpha / SLIGHT - 1)), knee
