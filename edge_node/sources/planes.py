"""Decoded FFmpeg frames as raw images: native planes where the wire knows their format."""

from typing import Any, Final

import numpy as np

from common.pixels import Bytes, ColorMatrix, ColorRange, PixelFormat, RawImage, plane_shapes

NATIVE: Final = {
    "yuv420p": PixelFormat.I420,
    "yuvj420p": PixelFormat.I420,
    "yuv422p": PixelFormat.I422,
    "yuvj422p": PixelFormat.I422,
    "nv12": PixelFormat.NV12,
    "yuyv422": PixelFormat.YUYV,
    "rgb24": PixelFormat.RGB24,
    "gray": PixelFormat.GRAY8,
}
FFMPEG_NAMES: Final = {pixel_format: name for name, pixel_format in reversed(NATIVE.items())}

# Numbers of FFmpeg's AVColorRange and AVColorSpace.
RANGE_LIMITED, RANGE_FULL = 1, 2
SPACES_BT709: Final = {1, 9, 10}  # BT.709; BT.2020 is nearer to it than to BT.601
SPACES_UNKNOWN: Final = {2, 3}
HD_HEIGHT: Final = 720

SWAPS_AXES: Final = {5, 6, 7, 8}
EXIF_BY_ROTATION: Final = {0: 1, 90: 8, 180: 3, 270: 6}  # rotation counter-clockwise, degrees


def color_range(frame: Any) -> ColorRange:
    """Full for MJPEG and what says so, limited otherwise."""
    full = frame.format.name.startswith("yuvj") or frame.color_range == RANGE_FULL
    return ColorRange.FULL if full else ColorRange.LIMITED


def color_matrix(frame: Any) -> ColorMatrix:
    """As the frame says; where it does not, BT.709 from 720 lines on, as players assume."""
    if frame.colorspace in SPACES_UNKNOWN:
        return ColorMatrix.BT709 if frame.height >= HD_HEIGHT else ColorMatrix.BT601
    return ColorMatrix.BT709 if frame.colorspace in SPACES_BT709 else ColorMatrix.BT601


def can_orient(pixel_format: PixelFormat, width: int, height: int, exif: int) -> bool:
    """Whether `orient` can do it without moving chroma against luma."""
    even = width % 2 == 0 and height % 2 == 0
    match pixel_format:
        case PixelFormat.RGB24 | PixelFormat.GRAY8:
            return True
        case PixelFormat.I420 | PixelFormat.NV12:
            return exif == 1 or even
        case PixelFormat.I422:
            return exif == 1 or (even and exif not in SWAPS_AXES)
        case PixelFormat.YUYV:
            return exif == 1


def native_format(frame: Any, exif: int = 1) -> PixelFormat | None:
    """The wire's format for the frame as it is, or None if it must be converted first."""
    pixel_format = NATIVE.get(frame.format.name)
    if pixel_format is None or not can_orient(pixel_format, frame.width, frame.height, exif):
        return None
    return pixel_format


def frame_exif(frame: Any) -> int:
    """The EXIF orientation that says the same as the frame's display matrix; phones film sideways."""
    return EXIF_BY_ROTATION.get(round(frame.rotation) % 360, 1)


def to_raw(frame: Any, exif: int = 1) -> RawImage:
    """Copy a PyAV VideoFrame, upright by its EXIF orientation (1..8, 1 = as it is).

    Formats that the wire does not know go through FFmpeg: to I420, I422 or GRAY8 where nothing but depth
    is lost, else to RGB24.
    """
    matrix, values = color_matrix(frame), color_range(frame)
    pixel_format = native_format(frame, exif)
    if pixel_format is None:
        pixel_format = _nearest(frame)
        if not can_orient(pixel_format, frame.width, frame.height, exif):
            pixel_format = PixelFormat.RGB24
        full = pixel_format in (PixelFormat.RGB24, PixelFormat.GRAY8) or values is ColorRange.FULL
        frame = frame.reformat(
            format=FFMPEG_NAMES[pixel_format],
            src_colorspace="ITU709" if matrix is ColorMatrix.BT709 else "ITU601",
            dst_colorspace="ITU709" if matrix is ColorMatrix.BT709 else "ITU601",
            src_color_range="JPEG" if values is ColorRange.FULL or frame.format.is_rgb else "MPEG",
            dst_color_range="JPEG" if full else "MPEG",
        )
    elif pixel_format is PixelFormat.GRAY8 and frame.color_range == RANGE_LIMITED:
        return orient(_expand(_copy(frame, pixel_format, ColorRange.FULL, ColorMatrix.BT601)), exif)
    if pixel_format in (PixelFormat.RGB24, PixelFormat.GRAY8):
        values, matrix = ColorRange.FULL, ColorMatrix.BT601
    return orient(_copy(frame, pixel_format, values, matrix), exif)


def _nearest(frame: Any) -> PixelFormat:
    layout = frame.format
    if layout.is_rgb or layout.has_palette or layout.name.startswith("bayer"):
        return PixelFormat.RGB24
    if len(layout.components) <= 2:
        return PixelFormat.GRAY8  # with or without alpha
    match layout.chroma_width(16), layout.chroma_height(16):
        case (8, 16):
            return PixelFormat.I422
        case (16, _):
            return PixelFormat.RGB24
        case _:
            return PixelFormat.I420


def _copy(frame: Any, pixel_format: PixelFormat, values: ColorRange, matrix: ColorMatrix) -> RawImage:
    width = frame.width - frame.width % 2 if pixel_format is PixelFormat.YUYV else frame.width
    planes = []
    shapes = plane_shapes(pixel_format, width, frame.height)
    for plane, (rows, columns, samples) in zip(frame.planes, shapes, strict=False):
        padded = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        planes.append(padded[:rows, : columns * samples].reshape(-1))
    data = np.concatenate(planes) if len(planes) > 1 else planes[0].copy()
    return RawImage(data, width, frame.height, pixel_format, values, matrix)


def _expand(image: RawImage) -> RawImage:
    """Limited-range grey to full range."""
    table = np.clip((np.arange(256) - 16) * (255 / 219) + 0.5, 0, 255).astype(np.uint8)
    return RawImage(table[image.data], image.width, image.height, image.pixel_format)


def orient(image: RawImage, exif: int) -> RawImage:
    """Turn and mirror planes so that an image with this EXIF orientation stands upright; see `can_orient`."""
    if exif == 1:
        return image
    turned = [_orient_plane(plane, exif).reshape(-1) for plane in image.planes]
    swap = exif in SWAPS_AXES
    width, height = (image.height, image.width) if swap else (image.width, image.height)
    return RawImage(np.concatenate(turned), width, height, image.pixel_format, image.color_range, image.color_matrix)


def _orient_plane(plane: Bytes, exif: int) -> Bytes:
    match exif:
        case 2:
            return plane[:, ::-1]
        case 3:
            return plane[::-1, ::-1]
        case 4:
            return plane[::-1]
        case 5:
            return plane.swapaxes(0, 1)
        case 6:
            return np.rot90(plane, -1)
        case 7:
            return np.rot90(plane, 2).swapaxes(0, 1)
        case 8:
            return np.rot90(plane, 1)
        case _:
            return plane
