"""Cut pieces of text out of an image, upright and of one height."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from common.pixels import Bytes

Corners = np.ndarray[Any, np.dtype[np.float32]]  # (4, 2), clockwise

HEIGHT: Final = 48  # pixels of a crop, what recognisers are trained on
LEAST_WIDTH, MOST_WIDTH = 16, 1280  # pixels of a crop; a longer line is squeezed
STEP: Final = 8  # widths are multiples of this
MARGIN: Final = 0.12  # of the text's height, added on each side
LEAST_SIDE: Final = 3.0  # pixels; a smaller outline holds no text
MOST_FINER: Final = 6  # samples for a pixel of the crop, each way: bounds the memory
GRAIN: Final = 0.8  # standard deviation of the smoothing, in pixels of the frame
STRETCHED: Final = (30.0, 230.0)  # levels of the darkest and the brightest fiftieth, once stretched
VERTICAL: Final = 1.5  # times as high as it is wide: its text runs up or down


def crops(rgb: Bytes, polygon: Sequence[tuple[float, float]]) -> list[Bytes]:
    """What an outline holds, straightened: (48, W, 3) uint8, the same channels as `rgb`.

    A quadrilateral, clockwise from the top left, is straightened by its perspective; of any other outline the
    smallest rectangle is taken. One crop for lines, two for what is much higher than wide (turned left and turned
    right: which one stands upright only reading tells), none for what is too small to hold text.
    """
    corners = _corners(polygon)
    wide, high = _sides(corners)
    if min(wide, high) < LEAST_SIDE:
        return []
    if high < VERTICAL * wide:
        return [_straightened(rgb, corners, wide, high)]
    turned = (np.roll(corners, -1, axis=0), np.roll(corners, 1, axis=0))
    return [_straightened(rgb, each, high, wide) for each in turned]


def smoothed(crop: Bytes, polygon: Sequence[tuple[float, float]]) -> Bytes:
    """A line's crop without the grain of single pixels of the frame, which large text does not show anyway."""
    import cv2

    _, high = text_size(polygon)
    sigma = GRAIN * HEIGHT / (high * (1 + 2 * MARGIN))
    made: Bytes = cv2.GaussianBlur(crop, (0, 0), sigma) if sigma > 0.3 else crop
    return made


def stretched(crop: Bytes) -> Bytes:
    """A crop of a frame in the dark with the contrast of paper and ink, in grey: (48, W, 3) uint8, as `crop`."""
    import cv2

    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)
    dark, bright = np.percentile(grey, (2, 98))
    least, most = STRETCHED
    levels = (grey - dark) / max(float(bright - dark), 1.0) * (most - least) + least
    return np.repeat(levels.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def text_size(polygon: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Length and height of a line of text in an outline, in pixels; of one that runs up or down, as it reads."""
    wide, high = _sides(_corners(polygon))
    return (wide, high) if high < VERTICAL * wide else (high, wide)


def _corners(polygon: Sequence[tuple[float, float]]) -> Corners:
    import cv2

    points = np.asarray(polygon, np.float32)
    if len(points) == 4:
        return points
    box = cv2.boxPoints(cv2.minAreaRect(points))
    start = int(box.sum(axis=1).argmin())  # the top left; OpenCV's order is clockwise
    return np.roll(box, -start, axis=0)


def _sides(corners: Corners) -> tuple[float, float]:
    """Width and height, each of the longer of two sides."""
    lengths = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    return float(max(lengths[0], lengths[2])), float(max(lengths[1], lengths[3]))


def _straightened(rgb: Bytes, corners: Corners, wide: float, high: float) -> Bytes:
    import cv2

    margin = MARGIN * high
    scale = HEIGHT / (high + 2 * margin)
    width = round((wide + 2 * margin) * scale / STEP) * STEP
    width = min(max(width, LEAST_WIDTH), MOST_WIDTH)
    finer = min(max(1, round(1 / scale)), MOST_FINER)  # of large text no pixels are jumped over
    x, y = finer * width * margin / (wide + 2 * margin), finer * HEIGHT * margin / (high + 2 * margin)
    right, bottom = finer * width - x, finer * HEIGHT - y
    target = np.array([[x, y], [right, y], [right, bottom], [x, bottom]], np.float32)
    matrix = cv2.getPerspectiveTransform(corners, target)
    size = (finer * width, finer * HEIGHT)
    crop: Bytes = cv2.warpPerspective(rgb, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    if finer > 1:
        crop = cv2.resize(crop, (width, HEIGHT), interpolation=cv2.INTER_AREA)
    return crop
