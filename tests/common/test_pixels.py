import numpy as np
import pytest

from common.errors import CorruptImage, ImageError
from common.pixels import PixelFormat, RawImage, content_size, plane_shapes


@pytest.mark.parametrize(
    ("pixel_format", "shapes"),
    [
        (PixelFormat.I420, [(3, 5, 1), (2, 3, 1), (2, 3, 1)]),
        (PixelFormat.I422, [(3, 5, 1), (3, 3, 1), (3, 3, 1)]),
        (PixelFormat.NV12, [(3, 5, 1), (2, 3, 2)]),
        (PixelFormat.RGB24, [(3, 5, 3)]),
        (PixelFormat.GRAY8, [(3, 5, 1)]),
    ],
)
def test_chroma_of_odd_sizes_rounds_up(pixel_format: PixelFormat, shapes: list) -> None:
    assert plane_shapes(pixel_format, 5, 3) == shapes
    assert content_size(pixel_format, 5, 3) == sum(np.prod(shape) for shape in shapes)


def test_yuyv_needs_an_even_width() -> None:
    assert plane_shapes(PixelFormat.YUYV, 6, 3) == [(3, 3, 4)]
    with pytest.raises(ImageError, match="even width, not 5"):
        plane_shapes(PixelFormat.YUYV, 5, 3)


@pytest.mark.parametrize(("width", "height"), [(0, 1), (1, 0), (-1, 1), (65_536, 1), (1, 65_536)])
def test_sides_outside_the_range_are_refused(width: int, height: int) -> None:
    for pixel_format in PixelFormat:
        with pytest.raises(ImageError, match="each side must be"):
            content_size(pixel_format, width, height)


def test_the_largest_sides_are_fine() -> None:
    assert content_size(PixelFormat.GRAY8, 65_535, 65_535) == 65_535**2


def test_data_must_be_flat_bytes_of_the_right_size() -> None:
    with pytest.raises(CorruptImage, match="GRAY8 3x2 takes 6 bytes, got 7"):
        RawImage(np.zeros(7, np.uint8), 3, 2, PixelFormat.GRAY8)
    for data in (np.zeros((2, 3), np.uint8), np.zeros(6, np.int8), np.zeros(12, np.uint8)[::2]):
        with pytest.raises(ImageError, match="flat contiguous uint8"):
            RawImage(data, 3, 2, PixelFormat.GRAY8)


def test_planes_are_views_in_storage_order() -> None:
    data = np.arange(12, dtype=np.uint8)
    image = RawImage(data, 4, 2, PixelFormat.I420)
    y, u, v = image.planes
    assert y[:, :, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert (u.ravel().tolist(), v.ravel().tolist()) == ([8, 9], [10, 11])
    assert all(np.shares_memory(plane, data) for plane in image.planes)


def test_rgb_is_wrapped_row_by_row() -> None:
    rgb = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    image = RawImage.from_rgb(rgb)
    assert (image.width, image.height, image.pixel_format) == (3, 2, PixelFormat.RGB24)
    assert np.array_equal(image.data.reshape(2, 3, 3), rgb)
    assert np.array_equal(RawImage.from_rgb(rgb[:, ::-1]).data.reshape(2, 3, 3), rgb[:, ::-1])
    with pytest.raises(ImageError, match=r"\(H, W, 3\)"):
        RawImage.from_rgb(rgb[:, :, :2])
