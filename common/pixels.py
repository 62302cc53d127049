"""Pixel formats, plane shapes and the raw image that flows through the nodes."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from common.errors import CorruptImage, ImageError

Bytes = npt.NDArray[np.uint8]
Levels = npt.NDArray[np.float32]

MAX_SIDE = 65_535


class PixelFormat(IntEnum):
    """Layout of a raw image; the numbers are those of the wire."""

    I420 = 1
    I422 = 2
    NV12 = 3
    YUYV = 4
    RGB24 = 5
    GRAY8 = 6


class ColorRange(IntEnum):
    """LIMITED: Y 16..235, chroma 16..240. FULL: 0..255."""

    LIMITED = 1
    FULL = 2


class ColorMatrix(IntEnum):
    """Which YUV matrix the camera used."""

    BT601 = 1
    BT709 = 2


def plane_shapes(pixel_format: PixelFormat, width: int, height: int) -> list[tuple[int, int, int]]:
    """Shapes (rows, columns, samples per column) of the planes, in the order they are stored.

    Raises:
        ImageError: for sizes outside 1..65535, or an odd width in YUYV.
    """
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise ImageError(f"image is {width}x{height}, each side must be 1..{MAX_SIDE} pixels")
    half_w, half_h = (width + 1) // 2, (height + 1) // 2
    match pixel_format:
        case PixelFormat.I420:
            return [(height, width, 1), (half_h, half_w, 1), (half_h, half_w, 1)]
        case PixelFormat.I422:
            return [(height, width, 1), (height, half_w, 1), (height, half_w, 1)]
        case PixelFormat.NV12:
            return [(height, width, 1), (half_h, half_w, 2)]
        case PixelFormat.YUYV:
            if width % 2:
                raise ImageError(f"YUYV images need an even width, not {width}")
            return [(height, width // 2, 4)]
        case PixelFormat.RGB24:
            return [(height, width, 3)]
        case PixelFormat.GRAY8:
            return [(height, width, 1)]


def content_size(pixel_format: PixelFormat, width: int, height: int) -> int:
    """Bytes of a raw image. Raises ImageError as `plane_shapes` does."""
    return sum(rows * columns * samples for rows, columns, samples in plane_shapes(pixel_format, width, height))


@dataclass(frozen=True, slots=True, eq=False)
class RawImage:
    """Unpacked pixels as a camera or a decoder gives them: planes one after another, no row padding.

    `data` is a flat contiguous uint8 array of `content_size(pixel_format, width, height)` bytes.
    """

    data: Bytes
    width: int
    height: int
    pixel_format: PixelFormat
    color_range: ColorRange = ColorRange.FULL
    color_matrix: ColorMatrix = ColorMatrix.BT601

    def __post_init__(self) -> None:
        expected = content_size(self.pixel_format, self.width, self.height)
        if self.data.dtype != np.uint8 or self.data.ndim != 1 or not self.data.flags.c_contiguous:
            raise ImageError("image data must be a flat contiguous uint8 array")
        if self.data.size != expected:
            raise CorruptImage(
                f"{self.pixel_format.name} {self.width}x{self.height} takes {expected} bytes, got {self.data.size}"
            )

    @classmethod
    def from_rgb(cls, rgb: Bytes) -> "RawImage":
        """Wrap an (H, W, 3) uint8 RGB array."""
        if rgb.ndim != 3 or rgb.shape[2] != 3:
            raise ImageError(f"expected an (H, W, 3) array, got shape {rgb.shape}")
        height, width, _ = rgb.shape
        return cls(np.ascontiguousarray(rgb).reshape(-1), width, height, PixelFormat.RGB24)

    @property
    def planes(self) -> list[Bytes]:
        """Views of the planes, each (rows, columns, samples)."""
        views, start = [], 0
        for shape in plane_shapes(self.pixel_format, self.width, self.height):
            size = shape[0] * shape[1] * shape[2]
            views.append(self.data[start : start + size].reshape(shape))
            start += size
        return views
