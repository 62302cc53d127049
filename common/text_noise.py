"""Whether a line of text is noisy: by its colours, which noise has at random, and print and paper have not."""

from typing import Any, Final

import numpy as np

from common.pixels import Bytes

Pixels = np.ndarray[Any, np.dtype[np.float32]]  # (48, W)

NOISY: Final = 0.4  # levels; chosen on ten training receipts and on written lines: docs/reading.md
WINDOW: Final = 5  # pixels of a crop
LEAST: Final = 0.1  # variance of the brightness
SMOOTH: Final = 25  # the percentile of the windows: those without edges


def coloured_noise(crop: Bytes) -> float:
    """How much red less green varies where a crop is smooth, beside what follows the brightness, as ink on tinted paper
    does: a standard deviation, in levels; (48, W, 3) uint8."""
    import cv2

    def mean(values: Pixels) -> Pixels:
        return np.asarray(cv2.blur(values, (WINDOW, WINDOW)), np.float32)

    red, green = cv2.extractChannel(crop, 0), cv2.extractChannel(crop, 1)
    colour, bright = cv2.subtract(red, green, dtype=cv2.CV_32F), cv2.add(red, green, dtype=cv2.CV_32F)
    colour -= colour.mean()  # for float32's sake
    bright -= bright.mean()
    mean_colour, mean_bright = mean(colour), mean(bright)
    together = mean(colour * bright) - mean_colour * mean_bright
    of_bright = mean(bright * bright) - mean_bright**2
    rest = mean(colour * colour) - mean_colour**2 - together**2 / np.maximum(of_bright, LEAST)
    place = rest.size * SMOOTH // 100
    return float(np.sqrt(max(0.0, float(np.partition(rest, place, axis=None)[place]))))
