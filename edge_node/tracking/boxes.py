"""Outlines of regions as numbers, and small upright pictures of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np

from common.frame import Region
from common.pixels import Bytes

Floats = np.ndarray[Any, np.dtype[np.float64]]
Vectors = np.ndarray[Any, np.dtype[np.float32]]
Outline = tuple[tuple[float, float], ...]

PATCH: Final = (24, 8)  # width and height of what a region looks like: coarse, so that a box may be off a little
CROP_HEIGHT, CROP_WIDTH = 64, 512  # at most, of the best view that is kept


@dataclass(frozen=True, slots=True)
class Box:
    """A line of text: its centre, the direction it runs in, how long and how high it is; in pixels."""

    x: float
    y: float
    along: tuple[float, float]  # unit vector
    length: float
    height: float

    def local(self, x: float, y: float) -> tuple[float, float]:
        """A vector in the directions along and across the line."""
        u, v = self.along
        return x * u + y * v, y * u - x * v


def box_of(outline: Outline, scale: float = 1.0) -> Box:
    """The box of an outline of three corners or more, in `scale` times its pixels; sides are 1 pixel at least.

    Outlines without an area, or with numbers that are not finite, have a box too.
    """
    points = [(x * scale, y * scale) for x, y in outline if math.isfinite(x) and math.isfinite(y)]
    if len(points) == 4:
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = points
    else:
        rectangle = cv2.boxPoints(cv2.minAreaRect(np.array(points or [(0.0, 0.0)], np.float32)))
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = ((float(x), float(y)) for x, y in rectangle)
    side = ((bx + cx - ax - dx) / 2, (by + cy - ay - dy) / 2)
    down = ((dx + cx - ax - bx) / 2, (dy + cy - ay - by) / 2)
    length, height = math.hypot(*side), math.hypot(*down)
    if length < height:
        side, length, height = down, height, length
    if length <= 0:
        side = (1.0, 0.0)
    if side[0] < 0 or (side[0] == 0 and side[1] < 0):  # one direction for both ways round
        side = (-side[0], -side[1])
    norm = math.hypot(*side)
    center = ((ax + bx + cx + dx) / 4, (ay + by + cy + dy) / 4)
    return Box(*center, (side[0] / norm, side[1] / norm), max(length, 1.0), max(height, 1.0))


def bounds(outline: Outline, width: int, height: int) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of the pixels around it inside of a picture; None where there are none."""
    xs = [x for x, _ in outline if math.isfinite(x)]
    ys = [y for _, y in outline if math.isfinite(y)]
    if not xs or not ys:
        return None
    left, right = max(0, int(max(min(xs), 0))), min(width, math.ceil(min(max(xs), width)))
    top, bottom = max(0, int(max(min(ys), 0))), min(height, math.ceil(min(max(ys), height)))
    return (left, top, right, bottom) if right - left >= 2 and bottom - top >= 2 else None


def patches(gray: Bytes, regions: Sequence[Region]) -> Vectors:
    """What each region looks like, (N, 192) float32: each of mean 0 and length 1, or all 0 without contrast."""
    looks = np.zeros((len(regions), PATCH[0] * PATCH[1]), np.float32)
    for index, region in enumerate(regions):
        place = bounds(region.polygon, gray.shape[1], gray.shape[0])
        if place is not None:
            left, top, right, bottom = place
            looks[index] = cv2.resize(gray[top:bottom, left:right], PATCH, interpolation=cv2.INTER_AREA).reshape(-1)
    return _normal(looks)


def patches_at(gray: Bytes, boxes: Sequence[Box], scale: float) -> Vectors:
    """As `patches`, exactly at these places, whose lengths are `scale` times those of the picture."""
    looks = np.zeros((len(boxes), PATCH[0] * PATCH[1]), np.float32)
    for index, box in enumerate(boxes):
        u, v = box.along
        wide = (box.length * abs(u) + box.height * abs(v)) / scale
        high = (box.length * abs(v) + box.height * abs(u)) / scale
        x, y = box.x / scale - 0.5, box.y / scale - 0.5
        if -wide < x < gray.shape[1] + wide and -high < y < gray.shape[0] + high:
            size = min(max(2, round(wide)), gray.shape[1]), min(max(2, round(high)), gray.shape[0])
            part = cv2.getRectSubPix(gray, size, (x, y))
            looks[index] = cv2.resize(part, PATCH, interpolation=cv2.INTER_AREA).reshape(-1)
    return _normal(looks)


def _normal(looks: Vectors) -> Vectors:
    looks -= looks.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(looks, axis=1, keepdims=True)
    return np.asarray(np.where(norms > 10.0, looks / np.maximum(norms, 1e-6), 0), np.float32)


def crop(rgb: Bytes, outline: Outline) -> Bytes | None:
    """The region upright, (H, W, 3) uint8, at most 512x64 pixels; None where it has no pixels."""
    place = bounds(outline, rgb.shape[1], rgb.shape[0])
    if place is None:
        return None
    corners = np.array(outline, np.float32)
    if len(outline) != 4 or not np.isfinite(corners).all():
        left, top, right, bottom = place
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32)
    width = max(math.dist(corners[0], corners[1]), math.dist(corners[3], corners[2]), 1.0)
    height = max(math.dist(corners[0], corners[3]), math.dist(corners[1], corners[2]), 1.0)
    longest = (CROP_HEIGHT, CROP_WIDTH) if height > 1.5 * width else (CROP_WIDTH, CROP_HEIGHT)  # text that runs down
    shrink = min(1.0, longest[0] / width, longest[1] / height)
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    target = np.array([(0, 0), (size[0], 0), (size[0], size[1]), (0, size[1])], np.float32)
    matrix = cv2.getPerspectiveTransform(corners, target)
    if not np.isfinite(matrix).all():
        return None
    upright: Bytes = cv2.warpPerspective(rgb, matrix, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    return upright
