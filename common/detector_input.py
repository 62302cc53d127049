"""What every text detector does with an image before its network sees it."""

from typing import Final

import numpy as np

from common.errors import ImageError
from common.pixels import Bytes

STRIDE: Final = 32  # the networks' inputs are multiples of this many pixels


def check_image(rgb: Bytes) -> None:
    """Refuse what no detector takes.

    Raises:
        ImageError: unless `rgb` is an (H, W, 3) uint8 array with pixels in it.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
        raise ImageError(f"expected an (H, W, 3) uint8 array, got {rgb.dtype} {rgb.shape}")


def network_size(height: int, width: int, limit_side: int, max_side: int) -> tuple[int, int]:
    """Height and width to scale an image to: multiples of 32; `max_side` wins over `limit_side`.

    >>> network_size(400, 600, 736, 2048), network_size(4320, 7680, 736, 2048)
    ((736, 1088), (1152, 2048))
    """
    scale = min(max(1.0, limit_side / min(height, width)), max_side / max(height, width))

    def rounded(side: int) -> int:
        return max(STRIDE, round(side * scale / STRIDE) * STRIDE)

    return rounded(height), rounded(width)


def resized(rgb: Bytes, height: int, width: int) -> Bytes:
    """An (H, W, 3) image scaled to (height, width, 3): area averages for fewer pixels, else bilinear."""
    import cv2

    shrinks = height * width < rgb.shape[0] * rgb.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    scaled: Bytes = cv2.resize(rgb, (width, height), interpolation=interpolation)
    return scaled
