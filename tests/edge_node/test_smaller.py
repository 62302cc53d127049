import numpy as np
import pytest

from common.packing import to_rgb
from common.pixels import PixelFormat, RawImage, content_size
from edge_node.smaller import restored, smaller


@pytest.mark.parametrize("pixel_format", PixelFormat)
@pytest.mark.parametrize(("width", "height"), [(64, 48), (66, 35)])
@pytest.mark.parametrize("scale", [0.75, 0.5])
def test_every_format_shows_the_same_picture(pixel_format: PixelFormat, width: int, height: int, scale: float) -> None:
    """Left dark, right bright, in one colour; the halves stay where they are."""
    image = RawImage(np.full(content_size(pixel_format, width, height), 90, np.uint8), width, height, pixel_format)
    small = smaller(image, scale)
    assert (small.width, small.height) == (round(width * scale / 2) * 2, round(height * scale / 2) * 2)
    assert (small.color_range, small.color_matrix) == (image.color_range, image.color_matrix)
    assert np.abs(to_rgb(small)[0, 0].astype(int) - to_rgb(image)[0, 0]).max() <= 1
    assert np.ptp(to_rgb(small), axis=(0, 1)).max() <= 1


def test_a_pixel_is_the_mean_of_those_it_stands_for() -> None:
    data = np.arange(64, dtype=np.uint8)
    small = smaller(RawImage(data, 8, 8, PixelFormat.GRAY8), 0.5)
    means = data.reshape(4, 2, 4, 2).mean(axis=(1, 3))
    assert np.abs(small.data.reshape(4, 4) - means).max() <= 0.5


def test_what_is_whole_or_tiny_stays() -> None:
    image = RawImage.from_rgb(np.zeros((2, 2, 3), np.uint8))
    assert smaller(image, 1.0) is image and smaller(image, 0.5) is image


def test_a_result_has_the_camera_s_coordinates_again() -> None:
    rgb = np.zeros((24, 32, 3), np.uint8)
    rgb[10:14, 8:12] = 255
    back = restored(rgb, (64, 48))
    assert back.shape == (48, 64, 3)
    rows, columns = np.nonzero(back[:, :, 0] > 128)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 27, 16, 23)
    assert restored(rgb, (32, 24)) is rgb
