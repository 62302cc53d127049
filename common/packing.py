"""Pixels <-> bytes: reversible filters, zstd, and the formats results come back in."""

import io
import threading
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

import numpy as np
import zstandard
from PIL import ExifTags, Image, ImageOps

from common.channel import MAX_PIXELS
from common.color import to_rgb
from common.errors import CorruptImage, FrameTooLarge, ImageError
from common.filters import Filter, filter_image, unfilter
from common.near_lossless import MAX_STEP, from_levels, step_of, to_levels
from common.pixels import Bytes, ColorMatrix, ColorRange, PixelFormat, RawImage, content_size

__all__ = [
    "DEFAULT_QUALITY", "IMAGE_SUFFIXES", "MAX_PIXELS", "EncodedImage", "Filter", "ImageFormat", "PackedImage",
    "check", "check_pixels", "decode", "encode", "pack", "rgb_of", "to_rgb", "unpack",
]  # fmt: skip

# What text detection keeps: measured by benchmarks/result_formats.py, discussed in docs/packing.md.
DEFAULT_QUALITY: Final = 75
JPEG_SUBSAMPLING: Final = "4:2:0"
WEBP_METHOD: Final = 0
IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")  # files looked for in folders
JPEG_SCAN: Final = b"\xff\xda"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
MAX_WINDOW_BYTES: Final = 8 * 2**20  # of a zstd frame that is smaller: what its specification asks decoders to take
MAX_SCANS: Final = 64  # of a progressive JPEG: each is a walk over all pixels, and an empty one takes a few bytes
SAMPLE_BYTES: Final = 8_192  # a filter is chosen by this much
SAMPLE_EVERY: Final = 65_536  # of so much

# Matches in residuals are chance, and cost more than their literals: min_match and the tiny table avoid them. The
# window gives blocks of 16 KiB, each with its own Huffman table, so that the tables follow the image.
ZSTD_PARAMETERS: Final = {
    Filter.NONE: zstandard.ZstdCompressionParameters.from_level(1, write_checksum=True),
    Filter.PYRAMID: zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_FAST, window_log=14, hash_log=6, min_match=7, write_checksum=True
    ),
}


class ImageFormat(IntEnum):
    """Formats of a result image; the numbers are those of the wire."""

    LOSSLESS = 1
    JPEG = 2
    WEBP = 3
    PNG = 4


@dataclass(frozen=True, slots=True)
class PackedImage:
    """A raw image, filtered and compressed into one zstd frame with content size and checksum."""

    width: int
    height: int
    pixel_format: PixelFormat
    color_range: ColorRange
    color_matrix: ColorMatrix
    filter: Filter
    payload: bytes
    step: int = 1  # distance of the levels that samples were rounded to; 1 = lossless


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A JPEG, WebP or PNG file."""

    format: ImageFormat
    width: int
    height: int
    data: bytes


class _Zstd(threading.local):
    """zstd contexts must not be shared between threads."""

    def __init__(self) -> None:
        self.compressors = {
            filter: zstandard.ZstdCompressor(compression_params=parameters)
            for filter, parameters in ZSTD_PARAMETERS.items()
        }
        self.decompressor = zstandard.ZstdDecompressor()

    def compress(self, samples: Bytes, filter: Filter) -> bytes:
        return self.compressors[filter].compress(samples.data)


_zstd = _Zstd()


def pack(image: RawImage, max_error: int = 0) -> PackedImage:
    """Filter and compress a raw image, with the filter that suits it; safe from any thread.

    Args:
        max_error: 0..31, how far a sample may be from what it was; 0 = lossless.
    """
    step = step_of(max_error)
    if step > 1:
        image = replace(image, data=to_levels(image.data, step))
    samples = {filter: filter_image(image, filter) for filter in Filter}
    filter = min(Filter, key=lambda filter: len(_zstd.compress(_sample(samples[filter]), filter)))
    return PackedImage(
        width=image.width,
        height=image.height,
        pixel_format=image.pixel_format,
        color_range=image.color_range,
        color_matrix=image.color_matrix,
        filter=filter,
        payload=_zstd.compress(samples[filter], filter),
        step=step,
    )


def unsent(image: RawImage) -> PackedImage:
    """What stands for a frame that was not packed: its measures, and no payload."""
    return PackedImage(
        image.width, image.height, image.pixel_format, image.color_range, image.color_matrix, Filter.NONE, b""
    )


def _sample(samples: Bytes) -> Bytes:
    if samples.size < 2 * SAMPLE_EVERY:
        return samples
    whole = samples.size // SAMPLE_EVERY * SAMPLE_EVERY
    return samples[:whole].reshape(-1, SAMPLE_EVERY)[:, :SAMPLE_BYTES].reshape(-1)


def check_pixels(width: int, height: int, max_pixels: int = MAX_PIXELS) -> None:
    """Raises FrameTooLarge for more than `max_pixels`."""
    if width * height > max_pixels:
        raise FrameTooLarge(width * height, max_pixels)


def check(packed: PackedImage, *, max_pixels: int = MAX_PIXELS) -> int:
    """Check every claim of a packed image without taking memory for it; returns the bytes it unpacks to.

    Raises:
        FrameTooLarge: for more than `max_pixels`.
        CorruptImage: the payload is not a zstd frame of exactly the size the fields give, with a checksum.
        ImageError: for a width, height or step that cannot be.
    """
    expected = content_size(packed.pixel_format, packed.width, packed.height)
    check_pixels(packed.width, packed.height, max_pixels)
    what = _describe(packed)
    if not 1 <= packed.step <= MAX_STEP:
        raise ImageError(f"{what} has levels {packed.step} apart, 1..{MAX_STEP} are possible")
    if packed.payload[:4] != ZSTD_MAGIC:
        raise CorruptImage(f"{what} is not a zstd frame")
    try:
        header = zstandard.get_frame_parameters(packed.payload)
    except zstandard.ZstdError as error:
        raise CorruptImage(f"{what} is broken: {error}") from None
    if header.content_size != expected or not header.has_checksum:
        raise CorruptImage(f"{what} claims {header.content_size} bytes, expected {expected} and a checksum")
    if header.window_size > max(expected, MAX_WINDOW_BYTES):
        raise CorruptImage(f"{what} asks for a window of {header.window_size} bytes to unpack {expected}")
    return expected


def _describe(packed: PackedImage) -> str:
    return f"{packed.pixel_format.name} {packed.width}x{packed.height} payload"


def unpack(packed: PackedImage, *, max_pixels: int = MAX_PIXELS) -> RawImage:
    """Undo `pack`. Every limit is checked before memory is taken.

    Raises:
        FrameTooLarge, CorruptImage, ImageError: as `check` does, and CorruptImage for a broken payload.
    """
    expected = check(packed, max_pixels=max_pixels)
    try:
        content = _zstd.decompressor.decompress(packed.payload, max_output_size=expected, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptImage(f"{_describe(packed)} is broken: {error}") from None
    if len(content) != expected:
        raise CorruptImage(f"{_describe(packed)} holds {len(content)} bytes, expected {expected}")
    data = unfilter(np.frombuffer(content, np.uint8), packed.pixel_format, packed.width, packed.height, packed.filter)
    data = from_levels(data, packed.step)
    return RawImage(data, packed.width, packed.height, packed.pixel_format, packed.color_range, packed.color_matrix)


def encode(rgb: Bytes, image_format: ImageFormat, quality: int = 0) -> PackedImage | EncodedImage:
    """Encode an (H, W, 3) uint8 RGB image; safe from any thread.

    Args:
        quality: 1..100 for JPEG and WEBP; 0 = DEFAULT_QUALITY.

    Raises:
        ImageError: for another shape or type, a quality out of range, or a size that the format cannot have.
    """
    if rgb.dtype != np.uint8:
        raise ImageError(f"expected a uint8 array, got {rgb.dtype}")
    if not 0 <= quality <= 100:
        raise ImageError(f"quality is {quality}, it must be 1..100, or 0 for the default")
    if image_format is ImageFormat.LOSSLESS:
        return pack(RawImage.from_rgb(rgb))
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ImageError(f"expected an (H, W, 3) array, got shape {rgb.shape}")
    height, width, _ = rgb.shape
    content_size(PixelFormat.RGB24, width, height)  # raises
    options: dict[str, str | int] = {"quality": quality or DEFAULT_QUALITY}
    if image_format is ImageFormat.JPEG:
        options["subsampling"] = JPEG_SUBSAMPLING
    elif image_format is ImageFormat.WEBP:
        options["method"] = WEBP_METHOD
    else:
        options = {"compress_level": 1}
    file = io.BytesIO()
    try:
        _picture(rgb).save(file, image_format.name, **options)
    except (OSError, ValueError) as error:
        raise ImageError(f"{image_format.name} cannot hold {width}x{height}: {error}") from None
    return EncodedImage(image_format, width, height, file.getvalue())


def _picture(rgb: Bytes) -> Image.Image:
    planes = rgb.transpose(2, 0, 1)
    if planes.flags.c_contiguous:  # planes that lie apart: Pillow weaves them while it takes them over
        return Image.merge("RGB", [Image.fromarray(plane) for plane in planes])
    return Image.fromarray(rgb)


def decode(image: PackedImage | EncodedImage, *, max_pixels: int = MAX_PIXELS) -> Bytes:
    """Decode to (H, W, 3) uint8 RGB; a file as `rgb_of` sees it.

    Raises:
        FrameTooLarge: for more than `max_pixels`, claimed or in the file.
        CorruptImage: the content is broken, of another format, or of another size than claimed.
        ImageError: for a width or height that the format cannot have.
    """
    if isinstance(image, PackedImage):
        return to_rgb(unpack(image, max_pixels=max_pixels))
    name = image.format.name
    if image.format is ImageFormat.LOSSLESS:
        raise ImageError("a lossless image comes packed, not as a file: send PackedImage, or JPEG, WebP or PNG")
    check_pixels(image.width, image.height, max_pixels)
    try:
        with Image.open(io.BytesIO(image.data), formats=[name]) as file:
            check_pixels(file.width, file.height, max_pixels)
            if name == "JPEG" and (scans := image.data.count(JPEG_SCAN)) > MAX_SCANS:
                raise CorruptImage(f"JPEG file has {scans} scans, {MAX_SCANS} at most")
            if file.size != (image.width, image.height):
                raise CorruptImage(f"{name} file is {file.width}x{file.height}, claimed {image.width}x{image.height}")
            return rgb_of(file)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # a broken file brings out errors of many kinds in Pillow's parsers
        raise CorruptImage(f"{name} file of {len(image.data)} bytes is broken: {error}") from None


def rgb_of(image: Image.Image) -> Bytes:
    """An image of any mode as (H, W, 3) uint8 RGB: upright by its EXIF orientation, 16 bits reduced to their upper 8,
    transparent parts black.

    Raises:
        ImageError: for floating-point pixels; what they range over is not known.
        Exception: Pillow raises errors of many kinds for broken files.
    """
    plain = image.mode == "RGB" and not image.has_transparency_data
    if plain and image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
        return np.array(image)  # as results come: no copies in between
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ImageError("floating-point pixels are not supported: save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits of grey, whatever Pillow's mode for them
        grey = np.array(image).astype(np.int64)
        grey[grey == image.info.get("transparency", -1)] = 0
        image = Image.fromarray(np.clip(grey >> 8, 0, 255).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return np.array(image.convert("RGB"))
