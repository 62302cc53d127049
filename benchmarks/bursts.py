"""Bursts of dark frames with known truth, for benchmarks/fusion.py: one scene, one sensor, fresh noise in each frame.

The sensor and the rendering are those of `cloud_node.evaluation.darkness`. The camera sways by known shifts, and a
sheet of text may move through the scene; both happen in linear light, before the sensor.
"""

import io
from dataclasses import dataclass

import av
import cv2
import numpy as np
from PIL import Image

from cloud_node.evaluation import darkness
from cloud_node.training.darkness import to_linear
from common.pixels import PixelFormat, RawImage
from edge_node.sources.planes import to_raw

SHEET = (160, 224)  # rows, columns of what moves
SPEED = (5, 11)  # pixels a frame, down and right


@dataclass(frozen=True)
class Burst:
    """Oldest first."""

    frames: list[RawImage]  # as the camera delivers them: planes of a JPEG, or uncompressed I420
    clean: np.ndarray  # the newest without noise, through the same rendering: (H, W, 3) uint8
    moved: np.ndarray  # (H, W) bool: where the sheet was in any frame; all false without one
    path: np.ndarray  # (count, 2): how far the scene had moved, right and down in pixels; the newest at 0


def sway(count: int, pixels: float, rng: np.random.Generator) -> np.ndarray:
    """(count, 2) shifts x, y in pixels of a mast in the wind: two slow sines and a tremble; the newest is at 0."""
    t = np.arange(count)[:, None]
    phase, period = rng.uniform(0, 2 * np.pi, (2, 2)), rng.uniform(5, 14, (2, 2))
    path = sum(np.sin(2 * np.pi * t / period[i] + phase[i]) / (i + 1) for i in range(2))
    path = pixels * (path / 1.5 + 0.1 * rng.standard_normal((count, 2)))
    return path - path[-1]


def sheet_of(image: np.ndarray) -> np.ndarray:
    """A piece of another photograph, to move through."""
    top = image.shape[0] // 3
    return image[top : top + SHEET[0], 60 : 60 + SHEET[1]]


def burst(
    bright: np.ndarray,
    seed: int,
    ratio: tuple[float, float],
    count: int,
    *,
    sway_pixels: float = 0.0,
    sheet: np.ndarray | None = None,
    jpeg: bool = True,
) -> Burst:
    """`count` frames of a (H, W, 3) uint8 photograph in `ratio` times less light; the same seed gives the same burst.

    sheet: (160, 224, 3) uint8 that moves through the middle, SPEED pixels a frame.
    """
    rng = np.random.default_rng(seed)
    light = np.float32(np.exp(rng.uniform(*np.log(ratio))))
    gains = np.array([rng.uniform(*darkness.RED_GAIN), 1.0, rng.uniform(*darkness.BLUE_GAIN)], np.float32)
    log_gain = float(rng.uniform(*darkness.CAMERA.log_gain))
    height, width = (side - side % 2 for side in bright.shape[:2])
    linear = to_linear(bright[:height, :width] / np.float32(255))
    path = sway(count, sway_pixels, rng)
    frames, moved = [], np.zeros((height, width), bool)
    for number in range(count):
        scene = linear.copy()
        if sheet is not None:
            top = height // 2 + SPEED[0] * (number + 1 - count)
            left = width // 2 + SPEED[1] * (number + 1 - count)
            scene[top : top + SHEET[0], left : left + SHEET[1]] = to_linear(sheet / np.float32(255))
            moved[top : top + SHEET[0], left : left + SHEET[1]] = True
        if path[number].any():
            matrix = np.float32([[1, 0, path[number, 0]], [0, 1, path[number, 1]]])
            scene = cv2.warpAffine(
                scene, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
            ).clip(0, 1)
        raw = darkness.mosaic(scene / light / gains)
        numbers = darkness.expose(raw, log_gain, rng)
        frames.append(delivered(darkness.render(darkness.demosaic(numbers, gains)), jpeg))
    exact = raw * (darkness.WHITE - darkness.BLACK) + darkness.BLACK  # as `expose`, without noise or rounding
    return Burst(frames, darkness.render(darkness.demosaic(exact, gains)), moved, path)


def delivered(rgb: np.ndarray, jpeg: bool) -> RawImage:
    """What a camera sends of (H, W, 3) uint8, sides even: the planes of a JPEG of the evaluation's quality, or I420."""
    if jpeg:
        buffer = io.BytesIO()
        Image.fromarray(rgb).save(buffer, "JPEG", quality=darkness.JPEG_QUALITY, subsampling="4:2:0")
        decoder = av.CodecContext.create("mjpeg", "r")
        [frame] = decoder.decode(av.Packet(buffer.getvalue())) + decoder.decode(None)
        image = to_raw(frame)
    else:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        image = to_raw(frame.reformat(format="yuvj420p", dst_colorspace="ITU601", dst_color_range="JPEG"))
    assert image.pixel_format is PixelFormat.I420
    return image
