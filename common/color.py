"""Raw images to RGB, for eyes and for libraries that want RGB. The cloud converts on its device instead."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from common.filters import components
from common.pixels import Bytes, ColorMatrix, ColorRange, PixelFormat, RawImage

LUMA_WEIGHTS: Final = {ColorMatrix.BT601: (0.299, 0.114), ColorMatrix.BT709: (0.2126, 0.0722)}  # red, blue
FIXED: Final = 32  # 5 bits of fraction: the largest sum, 2.2 * 255, still fits into 16 bits


def to_rgb(image: RawImage) -> Bytes:
    """Convert a raw image to (H, W, 3) uint8 RGB by its range and matrix, within 1 of the exact values.

    Chroma is repeated, not interpolated. What is RGB24 already comes back as a view.
    """
    height, width = image.height, image.width
    if image.pixel_format is PixelFormat.RGB24:
        return image.data.reshape(height, width, 3)
    luma, chroma = components(image.data, image.pixel_format, width, height)
    limited = image.color_range is ColorRange.LIMITED
    levels = np.arange(256)
    gray = _table((levels - 16) * 255 / 219 + 0.5 if limited else levels + 0.5)[luma[0]]
    rgb = np.empty((height, width, 3), np.uint8)
    if image.pixel_format is PixelFormat.GRAY8:
        rgb[...] = _to_bytes(gray)[:, :, None]
        return rgb

    red, blue = LUMA_WEIGHTS[image.color_matrix]
    green = 1 - red - blue
    colors = (levels - 128) * (255 / 224 if limited else 1)
    u, v = chroma
    offsets = (
        _table(2 * (1 - red) * colors)[v],
        _table(-2 * red * (1 - red) / green * colors)[v] + _table(-2 * blue * (1 - blue) / green * colors)[u],
        _table(2 * (1 - blue) * colors)[u],
    )
    rows = 1 if len(u) == height else 2
    for channel, offset in enumerate(offsets):
        offset = np.repeat(offset, 2, axis=1)[:, :width]
        for row in range(rows):
            lines = gray[row::rows]
            rgb[row::rows, :, channel] = _to_bytes(lines + offset[: len(lines)])
    return rgb


def _table(values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int16]:
    fixed: npt.NDArray[np.int16] = np.rint(values * FIXED).astype(np.int16)
    return fixed


def _to_bytes(fixed: npt.NDArray[np.int16]) -> Bytes:
    fixed >>= np.int16(5)
    np.maximum(fixed, np.int16(0), out=fixed)
    np.minimum(fixed, np.int16(255), out=fixed)
    return fixed.astype(np.uint8)
