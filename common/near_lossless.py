"""Samples with a bounded error: fewer levels to tell apart, each sample off by `max_error` at most.

A sample becomes the number of its level; levels are 2 * max_error + 1 apart, and 128 is one of them, so that grey stays
grey in chroma planes. The filters then work on the numbers. As in JPEG-LS (ITU-T T.87), but before prediction: the
other side multiplies, and needs nothing else.
"""

from functools import cache
from typing import Final

import numpy as np

from common.pixels import Bytes

GREY: Final = 128
MAX_STEP: Final = 63  # an error of 31: nothing is left of a dark frame


def step_of(max_error: int) -> int:
    """Distance of levels for an error bound of 0..31; 1 = lossless."""
    step = 2 * max_error + 1
    if not 1 <= step <= MAX_STEP:
        raise ValueError(f"max_error is {max_error}, it must be 0..{MAX_STEP // 2}")
    return step


def to_levels(samples: Bytes, step: int) -> Bytes:
    """Samples 0..255 to numbers of levels."""
    return samples if step == 1 else _tables(step)[0][samples]


def from_levels(levels: Bytes, step: int) -> Bytes:
    """Undo `to_levels`, up to the error; numbers beyond the last level are the last."""
    return levels if step == 1 else _tables(step)[1][levels]


@cache
def _tables(step: int) -> tuple[Bytes, Bytes]:
    error, values = step // 2, np.arange(256)
    first = GREY % step
    if first > error:
        first -= step
    levels = (values - first + error) // step
    return levels.astype(np.uint8), np.clip(first + step * values, 0, 255).astype(np.uint8)
