"""Which blocks of a frame differ from what was there before by more than the frame's own noise explains.

Two tests, each against the noise that the same comparison shows in the flattest blocks of the same brightness: the
mean of a block (a light, a shade, a colour) and the energy of what is left (text and edges that moved).
"""

from typing import Any, Final

import cv2
import numpy as np

from common.pixels import Levels

Mask = np.ndarray[Any, np.dtype[np.bool_]]

BLOCK: Final = 8  # pixels of luma, per side
BINS: Final = 8  # of brightness, each with as many blocks as the others and a noise of its own
FLAT_QUANTILE: Final = 0.3  # the noise is that of the flattest blocks; the others have texture, or move
FLAT_SHARE: Final = 0.9  # of the mean variance, where nothing but noise is
PAIR_FACTOR: Final = 3.0  # a difference of frames cannot be noisier than so many times what one frame shows by itself
ENERGY_LIMIT: Final = 2.2  # times the noise, over 3x3 blocks
MEAN_LIMIT: Final = 4.5  # standard deviations, of one block and of 3x3
# Noise that neighbours share makes means vary more than white noise would, at most so much: JPEG and video leave
# little else of the noise in chroma than the means of its blocks.
LUMA_SPREAD: Final = 9.0
CHROMA_SPREAD: Final = 40.0
CHI_MEDIAN: Final = 0.4549  # of chi-square with one degree of freedom
LEAST_VARIANCE: Final = 0.02  # levels squared; what rounding leaves of still, noiseless blocks is less


def grid_of(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of blocks."""
    return max(1, round(height / BLOCK)), max(1, round(width / BLOCK))


def changed_blocks(newest: "np.ndarray[Any, Any]", differences: list[Levels], grid: tuple[int, int]) -> Mask:
    """(rows, columns) of `grid`: true where something moved, or a light changed.

    newest: luma (H, W), uint8 or float32. differences: newest minus before, a plane each, luma first, (h, w) float32.
    """
    frame = _halved(newest).astype(np.float32)
    levels = _shrunk(frame, grid)
    bins = _bins(levels)
    found: Mask = np.zeros(grid, bool)
    for number, difference in enumerate(differences):
        # Pairs of pixels in each direction: half of the noise goes, the strokes of letters stay.
        difference = _halved(difference) if number == 0 else difference
        mean, energy = _shrunk(difference, grid), _shrunk(cv2.multiply(difference, difference), grid)
        inside = energy - mean * mean
        noise = _flattest(inside, bins)
        if number == 0:
            own = _shrunk(cv2.multiply(frame, frame), grid) - levels * levels
            noise = np.minimum(noise, PAIR_FACTOR * _flattest(own, bins))
            found |= cv2.blur(inside, (3, 3)) > ENERGY_LIMIT * cv2.blur(noise, (3, 3))
        variance = noise * (mean.size / difference.size)
        spread = CHROMA_SPREAD if number else LUMA_SPREAD
        found |= _off(mean, variance, spread)
        found |= _off(cv2.blur(mean, (3, 3)), cv2.blur(variance, (3, 3)) / 9, spread)
    grown: Mask = cv2.dilate(found.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    return grown


def _halved(plane: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    height, width = plane.shape
    size = (max(1, width // 2), max(1, height // 2))
    halved: np.ndarray[Any, Any] = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    return halved


def _shrunk(plane: Levels, grid: tuple[int, int]) -> Levels:
    shrunk: Levels = cv2.resize(plane, (grid[1], grid[0]), interpolation=cv2.INTER_AREA)
    return shrunk


def _bins(levels: Levels) -> "np.ndarray[Any, Any]":
    """(bins, blocks): places of the blocks, from dark to bright; a few of the brightest may be left out."""
    order = np.argsort((levels.reshape(-1) * 64).astype(np.uint16), kind="stable")
    count = BINS if levels.size >= 16 * BINS else 1
    return order[: order.size // count * count].reshape(count, -1)


def _flattest(inside: Levels, bins: "np.ndarray[Any, Any]") -> Levels:
    """The noise's variance for each block, of the flattest blocks that are as bright."""
    values = inside.reshape(-1)[bins]
    place = int(FLAT_QUANTILE * (values.shape[1] - 1))
    noise = np.partition(values, place, axis=1)[:, place] / FLAT_SHARE
    spread = np.full(inside.size, noise[-1], np.float32)
    spread[bins] = noise[:, None]
    return np.maximum(spread, np.float32(LEAST_VARIANCE)).reshape(inside.shape)


def _off(means: Levels, variance: Levels, most: float) -> Mask:
    """Where means are farther from 0 than chance takes them."""
    squares = means * means / variance
    spread = np.clip(np.median(squares) / CHI_MEDIAN, 1.0, most)
    far: Mask = squares > MEAN_LIMIT**2 * spread
    return far
