import av
import numpy as np
import pytest

from common.packing import to_rgb
from common.pixels import ColorMatrix, ColorRange, PixelFormat, RawImage
from edge_node.sources.planes import can_orient, color_matrix, frame_exif, orient, to_raw


def smooth_rgb(width: int, height: int) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return (60 + 120 * np.stack([x, y, (x + y) / 2], axis=2)).astype(np.uint8)


def ffmpeg_frame(rgb: np.ndarray, name: str) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("yuv420p", PixelFormat.I420),
        ("yuvj420p", PixelFormat.I420),
        ("yuv422p", PixelFormat.I422),
        ("yuvj422p", PixelFormat.I422),
        ("nv12", PixelFormat.NV12),
        ("yuyv422", PixelFormat.YUYV),
        ("rgb24", PixelFormat.RGB24),
        ("bgr24", PixelFormat.RGB24),
        ("gbrp", PixelFormat.RGB24),
        ("rgba", PixelFormat.RGB24),
        ("yuv444p", PixelFormat.RGB24),
        ("yuv440p", PixelFormat.RGB24),
        ("uyvy422", PixelFormat.I422),
        ("nv21", PixelFormat.I420),
    ],
)
def test_formats_keep_their_colours(name: str, expected: PixelFormat) -> None:
    rgb = smooth_rgb(198, 150)  # FFmpeg pads lines of this width
    image = to_raw(ffmpeg_frame(rgb, name))
    assert image.pixel_format is expected
    assert (image.width, image.height) == (198, 150)
    difference = np.abs(to_rgb(image).astype(int) - rgb)
    assert difference.mean() < 2
    assert difference.max() <= 6


@pytest.mark.parametrize(("name", "expected"), [("yuv420p10le", PixelFormat.I420), ("yuv422p10le", PixelFormat.I422)])
@pytest.mark.parametrize("width", [64, 196, 321])
def test_ten_bits_become_eight(name: str, expected: PixelFormat, width: int) -> None:
    # Filled by hand: FFmpeg's own way from RGB to 10 bits differs from run to run where lines are padded.
    frame, planes = av.VideoFrame(width, 50, name), []
    for index, plane in enumerate(frame.planes):
        rows = 25 if index and expected is PixelFormat.I420 else 50
        columns = (width + 1) // 2 if index else width
        eight = np.add.outer(np.arange(rows), np.arange(columns)) % 180 + 30
        lines = np.full((plane.buffer_size // plane.line_size, plane.line_size // 2), 1023, np.uint16)
        lines[:rows, :columns] = eight << 2
        plane.update(lines.tobytes())
        planes.append(eight.reshape(-1))
    image = to_raw(frame)
    assert image.pixel_format is expected
    np.testing.assert_allclose(image.data.astype(int), np.concatenate(planes), atol=1)


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "nv12", "rgb24", "gray"])
@pytest.mark.parametrize(("width", "height"), [(644, 36), (33, 17), (1, 1)])
def test_planes_are_those_of_ffmpeg_without_padding(name: str, width: int, height: int) -> None:
    frame = av.VideoFrame(width, height, name)
    expected = []
    for index, plane in enumerate(frame.planes):
        lines = np.full((plane.buffer_size // plane.line_size, plane.line_size), 255, np.uint8)
        rows = height if index == 0 or name == "yuv422p" else (height + 1) // 2
        columns = {"rgb24": 3 * width, "gray": width}.get(name, width if index == 0 else (width + 1) // 2)
        if name == "nv12" and index == 1:
            columns *= 2
        lines[:rows, :columns] = (np.arange(rows * columns) % 200).reshape(rows, columns)
        plane.update(lines.tobytes())
        expected.append(lines[:rows, :columns].reshape(-1))
    np.testing.assert_array_equal(to_raw(frame).data, np.concatenate(expected))


def test_odd_yuyv_is_cropped_to_an_even_width() -> None:
    image = to_raw(ffmpeg_frame(smooth_rgb(65, 20), "yuyv422"))
    assert (image.width, image.height, image.pixel_format) == (64, 20, PixelFormat.YUYV)
    assert np.abs(to_rgb(image).astype(int) - smooth_rgb(65, 20)[:, :64]).max() <= 6


@pytest.mark.parametrize(
    ("range_number", "expected"), [(0, ColorRange.LIMITED), (1, ColorRange.LIMITED), (2, ColorRange.FULL)]
)
def test_range_is_taken_from_the_frame(range_number: int, expected: ColorRange) -> None:
    frame = av.VideoFrame(16, 16, "yuv420p")
    frame.color_range = range_number
    assert to_raw(frame).color_range is expected


def test_limited_grey_is_expanded() -> None:
    frame = av.VideoFrame.from_ndarray(np.array([[16, 235], [0, 255]], np.uint8), format="gray")
    frame.color_range = 1
    assert to_raw(frame).data.tolist() == [0, 255, 0, 255]


@pytest.mark.parametrize(
    ("space", "height", "expected"),
    [
        (1, 100, ColorMatrix.BT709),
        (9, 100, ColorMatrix.BT709),
        (2, 719, ColorMatrix.BT601),
        (2, 720, ColorMatrix.BT709),
        (5, 1080, ColorMatrix.BT601),
        (6, 1080, ColorMatrix.BT601),
    ],
)
def test_matrix_is_taken_from_the_frame_or_its_height(space: int, height: int, expected: ColorMatrix) -> None:
    frame = av.VideoFrame(16, height, "yuv420p")
    frame.colorspace = space
    assert color_matrix(frame) is expected


@pytest.mark.parametrize("space", [1, 5])
def test_converted_formats_use_the_matrix_of_the_frame(space: int) -> None:
    name = "ITU709" if space == 1 else "ITU601"
    rgb = smooth_rgb(64, 48)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv444p", dst_colorspace=name)
    frame.colorspace = space
    assert np.abs(to_rgb(to_raw(frame)).astype(int) - rgb).max() <= 4


def exif_reference(rgb: np.ndarray, exif: int) -> np.ndarray:
    from PIL import Image, ImageOps

    image = Image.fromarray(rgb)
    image.getexif()[0x0112] = exif
    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("exif", range(1, 9))
def test_orientation_is_that_of_pillow(exif: int) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(to_rgb(orient(RawImage.from_rgb(rgb), exif)), exif_reference(rgb, exif))


@pytest.mark.parametrize("name", ["yuv420p", "nv12", "yuv422p", "yuyv422", "gray"])
@pytest.mark.parametrize("exif", [3, 6, 7])
@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
def test_turned_planes_are_the_turned_picture(name: str, exif: int, size: tuple[int, int]) -> None:
    frame = ffmpeg_frame(smooth_rgb(*size), name)
    if name == "yuyv422" and size[0] % 2:
        frame = ffmpeg_frame(smooth_rgb(size[0] - 1, size[1]), name)
    upright, turned = to_rgb(to_raw(frame)), to_rgb(to_raw(frame, exif))
    assert np.abs(turned.astype(int) - exif_reference(upright, exif)).max() <= 4


def test_what_cannot_be_turned_in_its_own_planes() -> None:
    assert can_orient(PixelFormat.I420, 64, 48, 6)
    assert not can_orient(PixelFormat.I420, 63, 48, 6)
    assert not can_orient(PixelFormat.I422, 64, 48, 6)
    assert can_orient(PixelFormat.I422, 64, 48, 3)
    assert not can_orient(PixelFormat.YUYV, 64, 48, 2)


def test_frames_without_a_display_matrix_stand_upright() -> None:
    assert frame_exif(av.VideoFrame(16, 16, "yuv420p")) == 1
