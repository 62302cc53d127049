import numpy as np
import pytest

from common.color import to_rgb
from common.pixels import ColorMatrix, ColorRange, PixelFormat, RawImage, content_size
from edge_node.glance import glance, thumbnail


def image(pixel_format: PixelFormat, width: int = 322, height: int = 245, *, limited: bool = False) -> RawImage:
    data = np.random.default_rng(1).integers(0, 256, content_size(pixel_format, width, height), dtype=np.uint8)
    values = ColorRange.LIMITED if limited else ColorRange.FULL
    return RawImage(data, width, height, pixel_format, values, ColorMatrix.BT709)


@pytest.mark.parametrize("pixel_format", PixelFormat)
@pytest.mark.parametrize("limited", [False, True])
def test_a_thumbnail_has_the_pixels_of_the_whole_picture(pixel_format: PixelFormat, limited: bool) -> None:
    if limited and pixel_format is PixelFormat.RGB24:
        pytest.skip("RGB24 is always full range")
    raw = image(pixel_format, limited=limited)
    small = thumbnail(raw, 48)
    assert small.shape == (49, 65, 3)
    assert np.abs(small.astype(int) - to_rgb(raw)[::5, ::5]).max() <= 1


@pytest.mark.parametrize("pixel_format", PixelFormat)
@pytest.mark.parametrize("size", [(2, 1), (16, 3), (40, 17)])
def test_small_frames_are_seen_too(pixel_format: PixelFormat, size: tuple[int, int]) -> None:
    look = glance(image(pixel_format, *size))
    assert look.tiles.shape == (max(1, size[1] // 16), max(1, size[0] // 16))
    assert np.isfinite(look.tiles).all() and look.noise >= 0
    assert thumbnail(image(pixel_format, *size), 48).shape[2] == 3


def test_tiles_are_means_and_noise_is_a_sigma() -> None:
    flat = np.full((96, 160), 90.0)
    flat[:, 80:] = 180  # an edge is no noise
    noisy = flat + np.random.default_rng(0).normal(0, 6, flat.shape)
    look = glance(RawImage(noisy.round().astype(np.uint8).ravel(), 160, 96, PixelFormat.GRAY8))
    assert look.tiles.shape == (6, 10)
    assert np.abs(look.tiles[:, :5] - 90).max() < 2.5 and np.abs(look.tiles[:, 5:] - 180).max() < 2.5
    assert look.noise == pytest.approx(6, rel=0.15)


def test_limited_range_is_stretched() -> None:
    data = np.full(content_size(PixelFormat.I420, 64, 64), 16, np.uint8)
    assert glance(RawImage(data, 64, 64, PixelFormat.I420, ColorRange.LIMITED)).tiles.max() == 0
    data[: 64 * 64] = 235
    assert glance(RawImage(data, 64, 64, PixelFormat.I420, ColorRange.LIMITED)).tiles.min() == pytest.approx(255)
