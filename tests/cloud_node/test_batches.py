"""A batch on a device that fails for some images, or for all."""

from collections.abc import Sequence

import numpy as np
import pytest
from devices import PlainEngine
from hypothesis import given
from hypothesis import strategies as st

from cloud_node import batches
from cloud_node.outputs import Enhanced
from common.errors import DeviceError, DeviceLost, OutOfDeviceMemory, WeightsError
from common.pixels import RawImage

PIXELS = 64


def grey(value: int) -> RawImage:
    return RawImage.from_rgb(np.full((8, 8, 3), value, np.uint8))


def values(results: Sequence[object]) -> list[int | None]:
    return [int(result.rgb[0, 0, 0]) if isinstance(result, Enhanced) else None for result in results]


@given(st.integers(1, 12), st.sets(st.integers(0, 11)), st.integers(1, 12))
def test_every_image_gets_its_own_answer(count: int, poison: set[int], room: int) -> None:
    def before(images: Sequence[RawImage]) -> None:
        if len(images) > room:
            raise OutOfDeviceMemory("tiny:0", len(images), PIXELS)
        if any(int(image.data[0]) in poison for image in images):
            raise ValueError("cannot be lit")

    done = batches.enhance(PlainEngine(before), [grey(value) for value in range(count)], "")
    assert values(done.results) == [None if value in poison else value for value in range(count)]
    assert all(str(done.results[value]) == "cannot be lit" for value in poison if value < count)
    assert not done.lost and done.fits_pixels <= room * PIXELS
    assert bool(done.fits_pixels) == (count > room)


@pytest.mark.parametrize("error", [RuntimeError("launch failure"), OutOfDeviceMemory("tiny:0", 1, PIXELS)])
def test_when_nothing_works_the_device_is_lost_not_the_images(error: Exception) -> None:
    def before(images: Sequence[RawImage]) -> None:
        raise error

    engine = PlainEngine(before)
    done = batches.enhance(engine, [grey(1)], "")
    assert done.results == [None] and str(error) in done.lost


def test_an_image_too_large_fails_and_says_so() -> None:
    def before(images: Sequence[RawImage]) -> None:
        if images[0].width < 64:  # that is not the probe
            raise OutOfDeviceMemory("tiny:0", len(images), PIXELS)

    done = batches.enhance(PlainEngine(before), [grey(1), grey(2)], "")
    assert not done.lost and done.fits_pixels == PIXELS
    assert all(isinstance(result, DeviceError) and "a frame of 8x8" in str(result) for result in done.results)


def test_a_lost_device_keeps_what_it_did_and_leaves_the_rest() -> None:
    def before(images: Sequence[RawImage]) -> None:
        if len(images) > 1:
            raise OutOfDeviceMemory("tiny:0", len(images), PIXELS)
        if images[0].data[0] == 2:
            raise DeviceLost("gone")

    done = batches.enhance(PlainEngine(before), [grey(value) for value in range(4)], "")
    assert values(done.results) == [0, 1, None, None] and done.results[2:] == [None, None]
    assert done.lost == "gone"


def test_a_preset_that_is_not_served_fails_and_says_nothing_of_the_device() -> None:
    def before(images: Sequence[RawImage]) -> None:
        raise WeightsError("preset 'deep' is not served here: fast")

    done = batches.enhance(PlainEngine(before), [grey(1), grey(2)], "deep")
    assert not done.lost and all("not served" in str(result) for result in done.results)
