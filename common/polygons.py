"""Outlines of text: their order, and how what was found compares with what is there.

References:
    Karatzas et al., ICDAR 2015 Competition on Robust Reading (matching at IoU 0.5).
"""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from common.frame import Region

Polygon = Sequence[tuple[float, float]]

WHOLE_FRAME_SHARE: Final = 0.8
BORDER_SHARE: Final = 0.05


def iou(a: Polygon | Region, b: Polygon | Region) -> float:
    """Intersection over union, 0..1, of two convex outlines; 0 where one has no area.

    >>> iou([(0, 0), (2, 0), (2, 2), (0, 2)], [(1, 0), (3, 0), (3, 2), (1, 2)])
    0.3333333333333333
    """
    from shapely import MultiPoint  # comes with rapidocr

    one, other = (MultiPoint(_outline(shape)).convex_hull for shape in (a, b))
    intersection = one.intersection(other).area
    union = one.area + other.area - intersection
    return float(intersection / union) if union > 0 else 0.0


def match(
    found: Sequence[Polygon | Region], truth: Sequence[Polygon | Region], threshold: float = 0.5
) -> list[tuple[int, int]]:
    """Pairs (index in `found`, index in `truth`), each used once, whose IoU is above `threshold`.

    Greedy as in ICDAR 2015: each truth takes the first found region that fits and is still free.
    """
    pairs: list[tuple[int, int]] = []
    free = list(range(len(found)))
    for j, target in enumerate(truth):
        for i in free:
            if _overlap(found[i], target) and iou(found[i], target) > threshold:
                pairs.append((i, j))
                free.remove(i)
                break
    return pairs


def is_whole_frame(polygon: Polygon, width: int, height: int) -> bool:
    """Whether a region is just the frame: more than 80 % of it, and near all four borders.

    With rapidocr's dilation on, DBNet draws such boxes (99.5 % of the frame, score 0.53..0.63) around dark
    noise of mean level 8; with it off, as `DBNet` has it, none was seen on noise, dark receipts or night photographs.
    """
    xs, ys = [x for x, _ in polygon], [y for _, y in polygon]
    area = abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in _edges(polygon))) / 2
    margin_x, margin_y = BORDER_SHARE * width, BORDER_SHARE * height
    touches = (
        min(xs) <= margin_x
        and min(ys) <= margin_y
        and max(xs) >= width - 1 - margin_x
        and max(ys) >= height - 1 - margin_y
    )
    return touches and area > WHOLE_FRAME_SHARE * width * height


def in_reading_order(regions: Iterable[Region]) -> tuple[Region, ...]:
    """Regions from top to bottom, then from left to right, by their first corners."""
    return tuple(sorted(regions, key=lambda region: (region.polygon[0][1], region.polygon[0][0])))


def _outline(shape: Polygon | Region) -> Polygon:
    return shape.polygon if isinstance(shape, Region) else shape


def _overlap(a: Polygon | Region, b: Polygon | Region) -> bool:
    """Whether the bounding boxes meet: cheap, and false for nearly all pairs."""
    p, q = np.asarray(_outline(a), float), np.asarray(_outline(b), float)
    return bool((p.min(axis=0) <= q.max(axis=0)).all() and (q.min(axis=0) <= p.max(axis=0)).all())


def _edges(polygon: Polygon) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    return [(polygon[i - 1], polygon[i]) for i in range(len(polygon))]
