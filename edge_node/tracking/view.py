"""The best view of a sight so far."""

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from common.frame import FrameId, Reading, Region, Route
from common.pixels import Bytes
from edge_node.tracking.boxes import Box, Outline, bounds, crop

HIGH_ENOUGH: Final = 48.0  # pixels; higher letters are not read better
CUT: Final = 0.6  # what a view is worth that the frame's border cuts


@dataclass(frozen=True, slots=True)
class View:
    """One region of one frame; `worth` is for comparing: score, size, sharpness, and the text's confidence."""

    promised: float
    worth: float
    name: str
    frame: FrameId
    polygon: Outline
    size: tuple[int, int]
    score: float
    path: Route
    crop: Bytes | None


def promise(region: Region, box: Box, size: tuple[int, int]) -> float:
    """What a view may be worth at most, without looking at its pixels."""
    xs, ys = [x for x, _ in region.polygon], [y for _, y in region.polygon]
    whole = min(xs) > 1 and min(ys) > 1 and max(xs) < size[0] - 2 and max(ys) < size[1] - 2
    legible = 0.5 + 0.5 * region.confidence if region.text else 0.75
    return region.score * math.sqrt(min(box.height, HIGH_ENOUGH)) * legible * (1.0 if whole else CUT)


def worth(promised: float, gray: Bytes, outline: Outline) -> float:
    """What a view is worth; `promised` is what `promise` said."""
    return promised * (0.02 + sharpness(gray, outline))


def view_of(reading: Reading, region: Region, promised: float, rgb: Bytes, gray: Bytes) -> View:
    """The region as a view."""
    height, width = gray.shape
    value, upright = worth(promised, gray, region.polygon), crop(rgb, region.polygon)
    return View(
        promised, value, reading.name, reading.id, region.polygon, (width, height), region.score, reading.path, upright
    )


def sharpness(gray: Bytes, outline: Outline) -> float:
    """Mean step between neighbouring pixels, 0..1, at most 48 pixels high so that size does not count twice."""
    place = bounds(outline, gray.shape[1], gray.shape[0])
    if place is None:
        return 0.0
    left, top, right, bottom = place
    part = gray[top:bottom, left:right]
    if bottom - top > HIGH_ENOUGH:
        shrink = HIGH_ENOUGH / (bottom - top)
        size = max(2, round((right - left) * shrink)), round(HIGH_ENOUGH)
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    steps = cv2.absdiff(part[:, 1:], part[:, :-1])
    return float(np.mean(steps)) / 255
