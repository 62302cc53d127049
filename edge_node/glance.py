"""A cheap look at a frame: brightness on a coarse grid, and how noisy it is. A millisecond for 1280x720."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from common.color import LUMA_WEIGHTS
from common.pixels import Bytes, ColorRange, Levels, PixelFormat, RawImage

TILE: Final = 16  # pixels of a tile's side
ROWS_APART: Final = 16  # noise is taken from every so many-th row
MAD: Final = 0.6745  # of a normal distribution with sigma 1
SECOND_DIFFERENCE: Final = 6**0.5  # sigma of x[i-1] - 2 x[i] + x[i+1]


@dataclass(frozen=True, slots=True, eq=False)
class Glance:
    """What one look at a frame tells.

    tiles: mean luma of 16x16 pixel tiles, (rows, columns), 0..255 as full range; the frame's odd rest is left out.
    noise: standard deviation of a pixel's luma, as full range; edges do not count.
    width, height: of the frame, in pixels.
    """

    tiles: Levels
    noise: float
    width: int
    height: int


def glance(image: RawImage) -> Glance:
    """Look at a frame of any pixel format; smaller ones than a tile are one tile."""
    import cv2

    luma = luma_plane(image)
    rows, columns = max(1, image.height // TILE), max(1, image.width // TILE)
    whole = luma[: rows * TILE, : columns * TILE]
    tiles = cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
    noise = _noise(luma[::ROWS_APART])
    if image.color_range is ColorRange.LIMITED and image.pixel_format is not PixelFormat.RGB24:
        tiles, noise = (tiles - 16) * np.float32(255 / 219), noise * 255 / 219
    return Glance(tiles, noise, image.width, image.height)


def thumbnail(image: RawImage, side: int) -> Bytes:
    """The frame as RGB with a shorter side of `side` pixels or a little more; pixels are picked, not averaged."""
    stride = max(1, min(image.height, image.width) // side)
    if image.pixel_format is PixelFormat.RGB24:
        return image.data.reshape(image.height, image.width, 3)[::stride, ::stride]
    planes = image.planes
    rows, columns = np.arange(0, image.height, stride), np.arange(0, image.width, stride)
    half_rows, half_columns = rows[:, None] // 2, columns // 2
    luma = luma_plane(image)[rows[:, None], columns]
    match image.pixel_format:
        case PixelFormat.GRAY8:
            chroma = np.full((*luma.shape, 2), 128, np.uint8)
        case PixelFormat.I420:
            chroma = np.stack([plane[half_rows, half_columns, 0] for plane in planes[1:]], axis=-1)
        case PixelFormat.I422:
            chroma = np.stack([plane[rows[:, None], half_columns, 0] for plane in planes[1:]], axis=-1)
        case PixelFormat.NV12:
            chroma = planes[1][half_rows, half_columns]
        case _:
            chroma = planes[0][rows[:, None], half_columns][:, :, 1::2]  # Y U Y V
    return _rgb(luma, chroma, image)


def _rgb(luma: Bytes, chroma: Bytes, image: RawImage) -> Bytes:
    """As `common.color.to_rgb`, for chroma at every pixel."""
    red, blue = LUMA_WEIGHTS[image.color_matrix]
    limited = image.color_range is ColorRange.LIMITED
    y = (luma.astype(np.float32) - 16) * (255 / 219) if limited else luma.astype(np.float32)
    u, v = np.moveaxis((chroma.astype(np.float32) - 128) * (255 / 224 if limited else 1), -1, 0)
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    g = (y - red * r - blue * b) / (1 - red - blue)
    rgb: Bytes = np.clip(np.rint(np.stack([r, g, b], axis=-1)), 0, 255).astype(np.uint8)
    return rgb


def luma_plane(image: RawImage) -> Bytes:
    """Luma as it is stored, (H, W) uint8; of RGB24 by BT.601."""
    if image.pixel_format is PixelFormat.RGB24:
        import cv2

        rgb = image.data.reshape(image.height, image.width, 3)
        gray: Bytes = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        return gray
    if image.pixel_format is PixelFormat.YUYV:
        return image.data.reshape(image.height, image.width, 2)[:, :, 0]
    return image.planes[0][:, :, 0]


def _noise(rows: Bytes) -> float:
    """Sigma of pixels that differ from the mean of both neighbours; the median passes edges and text over."""
    if rows.shape[1] < 3:
        return 0.0
    wide = rows.astype(np.int16)
    curvature = np.abs(2 * wide[:, 1:-1] - wide[:, :-2] - wide[:, 2:])
    return float(np.median(curvature)) / MAD / SECOND_DIFFERENCE
