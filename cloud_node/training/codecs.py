"""What is left of a recorded frame when the camera delivers it: its smoothing, 8 bit, JPEG or video."""

import io
from fractions import Fraction

import av
import numpy as np
from PIL import Image, ImageFilter

from common.color import to_rgb
from common.pixels import ColorMatrix, ColorRange, PixelFormat, RawImage

SMOOTHED_SHARE, SMOOTHED_SIGMA = 0.3, (0.3, 0.9)  # of frames; pixels
JPEG_SHARE, JPEG_QUALITY = 0.35, (45, 96)  # the last number excluded
VIDEO_SHARE, VIDEO_CRF = 0.2, (16, 31)  # x264's constant rate factor, 23 is its default


def delivered(srgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A frame as it reaches us: sRGB (H, W, 3) in [0, 1], H and W even -> the same at 8-bit levels, float32."""
    rgb = np.round(np.clip(srgb, 0, 1) * 255).astype(np.uint8)
    if rng.random() < SMOOTHED_SHARE:
        rgb = np.asarray(Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(rng.uniform(*SMOOTHED_SIGMA))))
    kind = rng.random()
    if kind < JPEG_SHARE:
        rgb = jpeg(rgb, int(rng.integers(*JPEG_QUALITY)))
    elif kind < JPEG_SHARE + VIDEO_SHARE:
        rgb = video(rgb, int(rng.integers(*VIDEO_CRF)))
    return rgb.astype(np.float32) / 255


def jpeg(rgb: np.ndarray, quality: int) -> np.ndarray:
    """(H, W, 3) uint8 through JPEG with 4:2:0 chroma."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))


def video(rgb: np.ndarray, crf: int) -> np.ndarray:
    """(H, W, 3) uint8 through H.264, as the first frame of a clip in 4:2:0; H and W even."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = height, width = rgb.shape[:2]
    encoder.pix_fmt = "yuv420p"
    encoder.time_base = Fraction(1, 25)
    encoder.thread_count = 1
    encoder.options = {"preset": "veryfast", "tune": "zerolatency", "crf": str(crf)}
    packets = [*encoder.encode(av.VideoFrame.from_ndarray(rgb, "rgb24")), *encoder.encode(None)]
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    planes = [frame.to_ndarray() for packet in [*packets, None] for frame in decoder.decode(packet)]
    image = RawImage(planes[0].ravel(), width, height, PixelFormat.I420, ColorRange.LIMITED, ColorMatrix.BT601)
    return to_rgb(image)  # not to_ndarray("rgb24"): swscale truncates there, a level too dark
