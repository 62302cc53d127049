import io
import struct
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import zstandard
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from common.errors import CorruptImage, FrameTooLarge, ImageError
from common.filters import filter_image, join_nibbles, split_nibbles, unfilter
from common.packing import (
    EncodedImage,
    Filter,
    ImageFormat,
    PackedImage,
    check,
    decode,
    encode,
    pack,
    rgb_of,
    to_rgb,
    unpack,
)
from common.pixels import ColorMatrix, ColorRange, PixelFormat, RawImage, content_size
from lamplight.v1 import image_pb2

LARGE = 400 * 300  # enough for every level of the pyramid, and for choosing on a sample


def noise(size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def gradient(size: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (np.arange(size) * rng.uniform(0, 0.5) + rng.normal(0, 2, size)).astype(np.int64).astype(np.uint8)


def flat(size: int, seed: int) -> np.ndarray:
    return np.full(size, seed % 256, np.uint8)


@st.composite
def raw_images(draw: st.DrawFn) -> RawImage:
    pixel_format = draw(st.sampled_from(PixelFormat))
    width, height = draw(
        st.one_of(
            st.tuples(st.integers(1, 9), st.integers(1, 9)),
            st.tuples(st.integers(1, 5), st.integers(1, 9_000)),
            st.tuples(st.integers(1, 9_000), st.integers(1, 5)),
            st.tuples(st.integers(150, 260), st.integers(150, 260)),
        )
    )
    width += width % 2 if pixel_format is PixelFormat.YUYV else 0
    fill = draw(st.sampled_from([noise, gradient, flat]))
    data = fill(content_size(pixel_format, width, height), draw(st.integers(0, 1_000)))
    color_range, matrix = draw(st.sampled_from(ColorRange)), draw(st.sampled_from(ColorMatrix))
    return RawImage(data, width, height, pixel_format, color_range, matrix)


def gray(width: int = 40, height: int = 30, seed: int = 1) -> RawImage:
    return RawImage(gradient(width * height, seed), width, height, PixelFormat.GRAY8)


@settings(max_examples=examples(50))
@given(raw_images())
def test_unpacking_gives_back_what_was_packed(image: RawImage) -> None:
    before = image.data.copy()
    packed = pack(image)
    unpacked = unpack(packed)
    assert np.array_equal(image.data, before), "packing changed its input"
    assert np.array_equal(unpacked.data, image.data)
    for name in ("width", "height", "pixel_format", "color_range", "color_matrix"):
        assert getattr(unpacked, name) == getattr(packed, name) == getattr(image, name)
    assert unpacked.data.flags.writeable


@settings(max_examples=examples(50))
@given(raw_images(), st.sampled_from(Filter))
def test_each_filter_alone_is_reversible_and_keeps_the_size(image: RawImage, filter: Filter) -> None:
    samples = filter_image(image, filter)
    assert samples.shape == image.data.shape
    samples = samples.copy()
    samples.flags.writeable = False  # as bytes from zstd are
    back = unfilter(samples, image.pixel_format, image.width, image.height, filter)
    assert np.array_equal(back, image.data)


@given(st.binary(max_size=99))
def test_nibbles_split_and_join(content: bytes) -> None:
    samples = np.frombuffer(content, np.uint8)
    assert np.array_equal(join_nibbles(split_nibbles(samples)), samples)
    assert np.array_equal(split_nibbles(join_nibbles(samples)), samples)


def test_small_residuals_leave_high_nibbles_empty() -> None:
    residuals = np.array([-8, 7, 0, 3], np.int8).view(np.uint8)
    assert split_nibbles(residuals).tolist() == [0x00, 0x00, 0xF0, 0xB8]


@pytest.mark.parametrize("pixel_format", PixelFormat)
def test_filter_is_chosen_by_content(pixel_format: PixelFormat) -> None:
    size = content_size(pixel_format, 400, 300)
    height, width = np.mgrid[0:300, 0:400]
    smooth = 80 + 40 * np.sin(width / 60) + 30 * np.cos(height / 50) + noise(LARGE, 2).reshape(300, 400) / 64
    channels = -(-size // LARGE)
    photograph = np.repeat(smooth.astype(np.uint8).reshape(-1), channels)[:size]
    if pixel_format in (PixelFormat.I420, PixelFormat.I422, PixelFormat.NV12):
        photograph = np.concatenate([smooth.astype(np.uint8).reshape(-1), np.full(size - LARGE, 128, np.uint8)])
    assert pack(RawImage(photograph, 400, 300, pixel_format)).filter is Filter.PYRAMID
    assert pack(RawImage(noise(size, 3), 400, 300, pixel_format)).filter is Filter.NONE


def test_numbers_are_those_of_the_wire() -> None:
    for ours, theirs, prefix in [
        (Filter, image_pb2.Filter, "FILTER_"),
        (ImageFormat, image_pb2.ImageFormat, "IMAGE_FORMAT_"),
        (PixelFormat, image_pb2.PixelFormat, "PIXEL_FORMAT_"),
        (ColorRange, image_pb2.ColorRange, "COLOR_RANGE_"),
        (ColorMatrix, image_pb2.ColorMatrix, "COLOR_MATRIX_"),
    ]:
        named = {name: number for name, number in theirs.items() if not name.endswith("UNSPECIFIED")}
        assert named == {prefix + member.name: member.value for member in ours}


def test_payload_is_one_zstd_frame_with_size_and_checksum() -> None:
    for image in (gray(), gray(400, 300), RawImage(flat(LARGE, 0), 400, 300, PixelFormat.GRAY8)):
        header = zstandard.get_frame_parameters(pack(image).payload)
        assert header.content_size == image.data.size
        assert header.has_checksum


def test_threads_do_not_disturb_each_other() -> None:
    images = [RawImage(gradient(LARGE, seed), 400, 300, PixelFormat.GRAY8) for seed in range(32)]
    with ThreadPoolExecutor(8) as pool:
        for image, unpacked in zip(images, pool.map(lambda image: unpack(pack(image)), images), strict=True):
            assert np.array_equal(image.data, unpacked.data)


# --- hostile payloads ---


def zstd(content: bytes, *, size: bool = True, checksum: bool = True) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=size, write_checksum=checksum).compress(content)


@cache
def hostile_payloads() -> dict[str, bytes]:
    content = gray().data.tobytes()
    good = zstd(content)
    skippable = struct.pack("<II", 0x184D2A50, 4) + b"skip"
    return {
        "empty": b"",
        "magic only": good[:4],
        "header only": good[:7],
        "truncated": good[:-9],
        "without its checksum's end": good[:-1],
        "trailing junk": good + b"junk",
        "two frames": good + good,
        "frame, then an empty one": good + zstd(b""),
        "skippable frame first": skippable + good,
        "skippable frame last": good + skippable,
        "no content size": zstd(content, size=False),
        "no checksum": zstd(content, checksum=False),
        "one byte short": zstd(content[:-1]),
        "one byte long": zstd(content + b"x"),
        "bomb": zstd(bytes(1 << 25)),
        "bomb without a size": zstd(bytes(1 << 25), size=False),
        "claims the size, holds less": forged(zstd(content[:-9], checksum=True), len(content)),
        "claims the size, holds more": forged(zstd(bytes(1 << 20)), len(content)),
        "sound, but with a window of 128 MiB": forged(good, len(content)),
        "gzip": zlib.compress(content),
        "not compressed": content,
    }


def forged(frame: bytes, claimed: int) -> bytes:
    """The blocks of a frame behind a header that claims another content size, with a window of 128 MiB."""
    header = zstandard.frame_header_size(frame)
    descriptor = 0b10_0_0_0_1_00  # content size in 4 bytes, checksum
    return frame[:4] + bytes([descriptor, 17 << 3]) + struct.pack("<I", claimed) + frame[header:]


@pytest.mark.parametrize("name", hostile_payloads())
def test_hostile_payloads_are_corrupt_and_take_no_memory(name: str) -> None:
    packed = replace(pack(gray()), filter=Filter.NONE, payload=hostile_payloads()[name])
    tracemalloc.start()
    try:
        with pytest.raises(CorruptImage, match="GRAY8 40x30 payload"):
            unpack(packed)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("filter", Filter)
def test_no_flipped_bit_goes_unnoticed(filter: Filter) -> None:
    image = gray(16, 12)
    packed = replace(pack(image), filter=filter, payload=zstd(filter_image(image, filter).tobytes()))
    assert np.array_equal(unpack(packed).data, image.data)
    for bit in range(8 * len(packed.payload)):
        payload = bytearray(packed.payload)
        payload[bit // 8] ^= 1 << bit % 8
        try:
            assert np.array_equal(unpack(replace(packed, payload=bytes(payload))).data, image.data)
        except CorruptImage:
            pass


@settings(max_examples=examples(50))
@given(st.binary(max_size=200), st.booleans(), st.sampled_from(PixelFormat), st.sampled_from(Filter))
def test_random_payloads_are_corrupt(junk: bytes, magic: bool, pixel_format: PixelFormat, filter: Filter) -> None:
    payload = (b"\x28\xb5\x2f\xfd" if magic else b"") + junk
    packed = PackedImage(64, 48, pixel_format, ColorRange.FULL, ColorMatrix.BT601, filter, payload)
    with pytest.raises(CorruptImage):
        unpack(packed)


def test_size_and_limit_are_checked_first() -> None:
    packed = pack(gray())
    assert check(packed, max_pixels=1_200) == 1_200
    for refuse in (check, unpack, decode):
        with pytest.raises(FrameTooLarge, match="1,200 pixels, the limit is 1,199") as error:
            refuse(packed, max_pixels=1_199)
        assert (error.value.size, error.value.limit) == (1_200, 1_199)
        with pytest.raises(CorruptImage, match="claims 1200 bytes, expected 1230"):
            refuse(replace(packed, width=41))
        with pytest.raises(FrameTooLarge):
            refuse(replace(packed, width=65_535, height=65_535))
        with pytest.raises(ImageError, match="each side"):
            refuse(replace(packed, width=0))
        with pytest.raises(ImageError, match="even width"):
            refuse(replace(packed, pixel_format=PixelFormat.YUYV, width=3))


# --- result images ---


def picture(width: int = 60, height: int = 40) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return (40 + 160 * np.stack([x, y, (x + y) / 2], axis=2)).astype(np.uint8)


@pytest.mark.parametrize("image_format", ImageFormat)
def test_result_images_come_back(image_format: ImageFormat) -> None:
    rgb = picture()
    encoded = encode(rgb, image_format)
    assert (encoded.width, encoded.height) == (60, 40)
    decoded = decode(encoded)
    assert decoded.shape == rgb.shape and decoded.dtype == np.uint8
    if image_format in (ImageFormat.LOSSLESS, ImageFormat.PNG):
        assert np.array_equal(decoded, rgb)
    else:
        assert isinstance(encoded, EncodedImage) and encoded.format is image_format
        assert np.abs(decoded.astype(int) - rgb).mean() < 3


@pytest.mark.parametrize("image_format", [ImageFormat.JPEG, ImageFormat.WEBP])
def test_quality_is_passed_on(image_format: ImageFormat) -> None:
    rgb = noise(80 * 60 * 3, 5).reshape(60, 80, 3)
    sizes = [len(encode(rgb, image_format, quality).data) for quality in (10, 0, 100)]
    assert sizes[0] < sizes[1] < sizes[2]
    for quality in (-1, 101):
        with pytest.raises(ImageError, match="1..100"):
            encode(rgb, image_format, quality)


def test_what_cannot_be_encoded_is_an_error() -> None:
    with pytest.raises(ImageError, match="uint8"):
        encode(np.zeros((4, 4, 3)), ImageFormat.JPEG)
    with pytest.raises(ImageError, match="H, W, 3"):
        encode(np.zeros((4, 4), np.uint8), ImageFormat.JPEG)
    with pytest.raises(ImageError, match="WEBP cannot hold 20000x1"):
        encode(np.zeros((1, 20_000, 3), np.uint8), ImageFormat.WEBP)


def test_sliced_pictures_are_encoded_as_they_look() -> None:
    rgb = picture()[::-1, ::2]
    for image_format in (ImageFormat.LOSSLESS, ImageFormat.PNG):
        assert np.array_equal(decode(encode(rgb, image_format)), rgb)


@pytest.mark.parametrize("image_format", ImageFormat)
def test_planes_that_lie_apart_are_encoded_as_the_same_picture(image_format: ImageFormat) -> None:
    planes = np.ascontiguousarray(picture().transpose(2, 0, 1))
    assert encode(planes.transpose(1, 2, 0), image_format) == encode(picture(), image_format)


def saved(image: Image.Image, image_format: ImageFormat, **options: object) -> EncodedImage:
    file = io.BytesIO()
    image.save(file, image_format.name, **options)
    return EncodedImage(image_format, image.width, image.height, file.getvalue())


def test_files_are_checked_against_what_they_claim() -> None:
    encoded = encode(picture(), ImageFormat.PNG)
    with pytest.raises(CorruptImage, match="is 60x40, claimed 61x40"):
        decode(replace(encoded, width=61))
    with pytest.raises(FrameTooLarge, match="the limit is 2,399"):
        decode(encoded, max_pixels=2_399)
    with pytest.raises(FrameTooLarge, match="2,400 pixels, the limit is 100"):
        decode(replace(encoded, width=10, height=10), max_pixels=100)  # the claim fits, the file does not
    with pytest.raises(CorruptImage):
        decode(replace(encoded, format=ImageFormat.JPEG))
    with pytest.raises(ImageError, match="lossless"):
        decode(replace(encoded, format=ImageFormat.LOSSLESS))


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + chunks + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_png_bombs_are_refused(side: int) -> None:
    bomb = png(side, side, png_chunk(b"IDAT", zlib.compress(bytes(1 << 20))))
    for claimed in (side, 100):
        with pytest.raises(ImageError):
            decode(EncodedImage(ImageFormat.PNG, claimed, claimed, bomb))
    text = png(8, 8, png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 23))))
    with pytest.raises(CorruptImage):
        decode(EncodedImage(ImageFormat.PNG, 8, 8, text))


@pytest.mark.parametrize("image_format", [ImageFormat.JPEG, ImageFormat.WEBP, ImageFormat.PNG])
def test_broken_files_are_corrupt(image_format: ImageFormat) -> None:
    encoded = encode(noise(60 * 40 * 3, 1).reshape(40, 60, 3), image_format)
    for data in (b"", b"junk", encoded.data[:20], encoded.data[: len(encoded.data) // 2]):
        with pytest.raises(CorruptImage, match=f"{image_format.name} file"):
            decode(replace(encoded, data=data))
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(encoded.data), 60):
        data = bytearray(encoded.data)
        data[position] ^= 0xFF
        try:
            assert decode(replace(encoded, data=bytes(data))).shape == (40, 60, 3)
        except ImageError:
            pass


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    file = io.BytesIO()
    Image.fromarray(picture()).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    assert decode(EncodedImage(ImageFormat.JPEG, 60, 40, data)).shape == (40, 60, 3)
    last = data.rindex(b"\xff\xda")
    slow = data[:last] + data[last:-2] * 1000 + data[-2:]
    with pytest.raises(CorruptImage, match="scans, 64 at most"):
        decode(EncodedImage(ImageFormat.JPEG, 60, 40, slow))


def test_pictures_stand_upright() -> None:
    image = Image.fromarray(picture())
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was held on its side: turn clockwise
    turned = saved(image, ImageFormat.PNG, exif=exif)
    assert np.array_equal(decode(turned), np.rot90(picture(), -1))


def test_other_modes_become_rgb() -> None:
    rgb = picture()
    grey = rgb[:, :, 0]
    as_rgb = np.repeat(grey[:, :, None], 3, axis=2)
    assert np.array_equal(decode(saved(Image.fromarray(grey), ImageFormat.PNG)), as_rgb)
    sixteen = grey.astype(np.uint16) * 256 + 77
    assert np.array_equal(decode(saved(Image.fromarray(sixteen), ImageFormat.PNG)), as_rgb)
    palette = Image.fromarray(rgb).quantize(16)
    assert np.array_equal(decode(saved(palette, ImageFormat.PNG)), np.asarray(palette.convert("RGB")))
    cmyk = decode(saved(Image.fromarray(rgb).convert("CMYK"), ImageFormat.JPEG, quality=95))
    assert np.abs(cmyk.astype(int) - rgb).mean() < 4
    alpha = np.dstack([rgb, np.where(np.arange(60) < 30, 0, 255)[None].repeat(40, 0).astype(np.uint8)])
    seen = decode(saved(Image.fromarray(alpha), ImageFormat.PNG))
    assert not seen[:, :30].any() and np.array_equal(seen[:, 30:], rgb[:, 30:])


def test_a_colour_that_stands_for_transparent_is_black() -> None:
    rgb = picture()
    rgb[:10], rgb[10:] = (250, 10, 20), rgb[10:]
    keyed = decode(saved(Image.fromarray(rgb), ImageFormat.PNG, transparency=(250, 10, 20)))
    assert not keyed[:10].any() and np.array_equal(keyed[10:], rgb[10:])
    sixteen = np.full((40, 60), 2570, np.uint16)
    sixteen[:10] = 40_000
    keyed = decode(saved(Image.fromarray(sixteen), ImageFormat.PNG, transparency=40_000))
    assert not keyed[:10].any() and set(keyed[10:].ravel().tolist()) == {10}


def test_pixels_without_a_known_range_are_refused() -> None:
    with pytest.raises(ImageError, match="floating-point"):
        rgb_of(Image.new("F", (3, 2)))


# --- to_rgb ---


def exact_rgb(image: RawImage, y: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """By the definitions, in float64; y, u, v are (H, W)."""
    y, u, v = y.astype(float), u - 128.0, v - 128.0
    if image.color_range is ColorRange.LIMITED:
        y, u, v = (y - 16) * 255 / 219, u * 255 / 224, v * 255 / 224
    kr, kb = {ColorMatrix.BT601: (0.299, 0.114), ColorMatrix.BT709: (0.2126, 0.0722)}[image.color_matrix]
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(np.rint(np.stack([red, green, blue], axis=2)), 0, 255)


def samples_of(image: RawImage) -> list[np.ndarray]:
    """Y, U and V, (rows, columns) each."""
    if image.pixel_format is PixelFormat.YUYV:
        yuyv = image.data.reshape(image.height, -1, 4)
        return [yuyv[:, :, ::2].reshape(image.height, image.width), yuyv[:, :, 1], yuyv[:, :, 3]]
    return [plane[:, :, sample] for plane in image.planes for sample in range(plane.shape[2])]


@pytest.mark.parametrize("color_range", ColorRange)
@pytest.mark.parametrize("matrix", ColorMatrix)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 5), (96, 64)])
def test_conversion_is_within_one_of_the_exact_one(
    color_range: ColorRange, matrix: ColorMatrix, width: int, height: int
) -> None:
    for pixel_format in (PixelFormat.I420, PixelFormat.I422, PixelFormat.NV12, PixelFormat.YUYV):
        columns = width + width % 2 if pixel_format is PixelFormat.YUYV else width
        data = noise(content_size(pixel_format, columns, height), 9)
        image = RawImage(data, columns, height, pixel_format, color_range, matrix)
        y, u, v = samples_of(image)
        rows = 1 if pixel_format in (PixelFormat.I422, PixelFormat.YUYV) else 2
        u, v = (plane.repeat(2, axis=1)[:, :columns].repeat(rows, axis=0)[:height] for plane in (u, v))
        assert np.abs(to_rgb(image) - exact_rgb(image, y, u, v)).max() <= 1


def test_known_colours() -> None:
    def pixel(y: int, u: int, v: int, color_range: ColorRange, matrix: ColorMatrix) -> list[int]:
        data = np.array([y, u, v], np.uint8)
        return to_rgb(RawImage(data, 1, 1, PixelFormat.I420, color_range, matrix))[0, 0].tolist()

    assert pixel(16, 128, 128, ColorRange.LIMITED, ColorMatrix.BT601) == [0, 0, 0]
    assert pixel(235, 128, 128, ColorRange.LIMITED, ColorMatrix.BT709) == [255, 255, 255]
    assert pixel(77, 128, 128, ColorRange.FULL, ColorMatrix.BT601) == [77, 77, 77]
    red = pixel(81, 90, 240, ColorRange.LIMITED, ColorMatrix.BT601)  # red bars of BT.601
    assert np.abs(np.array(red) - [255, 0, 0]).max() <= 2


def test_grey_and_rgb_need_no_matrix() -> None:
    image = gray(5, 3)
    assert np.array_equal(to_rgb(image), image.data.reshape(3, 5, 1).repeat(3, axis=2))
    assert np.array_equal(to_rgb(RawImage.from_rgb(picture())), picture())
