from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import SourceError
from common.packing import unpack
from common.pixels import PixelFormat, RawImage, content_size
from edge_node.load.images import cut, load_images


def ramp(pixel_format: PixelFormat, width: int, height: int) -> RawImage:
    """Planes whose samples say where they are: half their column in the image, in steps of two."""
    image = RawImage(np.zeros(content_size(pixel_format, width, height), np.uint8), width, height, pixel_format)
    for plane in image.planes:
        step = width / plane.shape[1]
        plane[:] = (np.arange(plane.shape[1]) * step // 2).astype(np.uint8)[None, :, None]
    return image


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
@pytest.mark.parametrize("size", [(64, 48), (96, 72), (30, 20), (120, 40), (40, 100)])
def test_every_format_is_cut_to_the_size(pixel_format: PixelFormat, size: tuple[int, int]) -> None:
    image = cut(ramp(pixel_format, 96, 72), *size)
    assert (image.width, image.height, image.pixel_format) == (*size, pixel_format)


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_a_larger_image_is_cropped_in_the_middle_and_its_samples_stay(pixel_format: PixelFormat) -> None:
    cropped = cut(ramp(pixel_format, 96, 72), 64, 40)
    for plane in cropped.planes:
        step = 64 / plane.shape[1]
        expected = ((16 + np.arange(plane.shape[1]) * step) // 2).astype(np.uint8)
        assert (plane == expected[None, :, None]).all()


def test_odd_sizes() -> None:
    image = cut(ramp(PixelFormat.I420, 97, 73), 33, 31)
    assert (image.width, image.height) == (33, 31)
    assert cut(ramp(PixelFormat.YUYV, 96, 72), 33, 31).width == 34, "YUYV has even widths only"


def test_a_folder_is_packed_up_to_a_count(tmp_path: Path) -> None:
    for number in range(4):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(tmp_path / f"{number}.png")
    assert len(load_images(str(tmp_path), 32)) == 4
    images = load_images(str(tmp_path), 2, (20, 10))
    assert [unpack(image).data[0] for image in images] == [0, 1]
    assert {(image.width, image.height) for image in images} == {(20, 10)}


def test_sources_that_give_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no images"):
        load_images(str(tmp_path), 4)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(SourceError, match="--size 60000x60000"):
        load_images(str(tmp_path), 4, (60_000, 60_000))
