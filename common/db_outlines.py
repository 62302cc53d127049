"""From a map of text probabilities to outlines: what comes after a network with differentiable binarization.

References:
    Liao et al., Real-time Scene Text Detection with Differentiable Binarization, AAAI 2020, section 3.5.
"""

from typing import Any, Final

import numpy as np

Levels = np.ndarray[Any, np.dtype[np.float32]]

TEXT: Final = 0.3  # a pixel with more than this is of a text's kernel
MOST: Final = 1000  # kernels looked at
LEAST_SIDE: Final = 3.0  # pixels of the map; a smaller kernel is noise
LEAST_GROWN: Final = 5.0  # and so is one that stays smaller than this once it has grown back
LEAST_KEPT: Final = 4  # whole pixels of the image


def outlines(
    probabilities: Levels, width: int, height: int, *, score_threshold: float, unclip_ratio: float
) -> list[tuple[Levels, float]]:
    """(4, 2) quadrilaterals, clockwise from the top left, in whole pixels of a width x height image, and scores.

    A kernel's smallest rectangle grows on every side by its area / length x `unclip_ratio`: the smallest rectangle
    around the round offset that the paper takes is just that, so no library for polygons is needed.

    Args:
        probabilities: (H, W), 0..1, of the whole image, at any size.
        score_threshold: 0..1, of the mean probability inside the kernel's rectangle.
    """
    import cv2

    rows, columns = probabilities.shape
    mask = (probabilities > TEXT).astype(np.uint8)
    kernels = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)[0]
    found = []
    for kernel in kernels[:MOST]:
        center, (wide, high), angle = cv2.minAreaRect(kernel)
        if min(wide, high) < LEAST_SIDE:
            continue
        score = _mean_inside(probabilities, cv2.boxPoints((center, (wide, high), angle)))
        grown = wide * high * unclip_ratio / (wide + high)  # both sides of area / length x ratio
        if score < score_threshold or min(wide, high) + grown < LEAST_GROWN:
            continue
        box = cv2.boxPoints((center, (wide + grown, high + grown), angle)) * (width / columns, height / rows)
        box = _clockwise(np.clip(np.round(box), 0, (width - 1, height - 1)).astype(np.float32))
        if min(np.linalg.norm(box[0] - box[1]), np.linalg.norm(box[0] - box[3])) >= LEAST_KEPT:
            found.append((box, score))
    return found


def _mean_inside(probabilities: Levels, box: Levels) -> float:
    import cv2

    last = (probabilities.shape[1] - 1, probabilities.shape[0] - 1)
    left, top = np.clip(np.floor(box.min(axis=0)).astype(int), 0, last)
    right, bottom = np.clip(np.ceil(box.max(axis=0)).astype(int), 0, last)
    mask = np.zeros((bottom - top + 1, right - left + 1), np.uint8)
    cv2.fillPoly(mask, [(box - (left, top)).astype(np.int32)], 1)
    return float(cv2.mean(probabilities[top : bottom + 1, left : right + 1], mask)[0])


def _clockwise(box: Levels) -> Levels:
    """From the top left: of the two points further left the upper one."""
    by_x = box[np.argsort(box[:, 0], kind="stable")]
    (top_left, bottom_left), (top_right, bottom_right) = (
        side[np.argsort(side[:, 1], kind="stable")] for side in (by_x[:2], by_x[2:])
    )
    return np.stack([top_left, top_right, bottom_right, bottom_left])
