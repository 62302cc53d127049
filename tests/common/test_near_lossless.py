import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import packing, wire
from common.errors import ImageError
from common.near_lossless import from_levels, step_of, to_levels
from common.pixels import PixelFormat, RawImage, content_size

EVERY_SAMPLE = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize("error", range(32))
def test_no_sample_is_further_off_than_promised_and_grey_stays_grey(error: int) -> None:
    back = from_levels(to_levels(EVERY_SAMPLE, step_of(error)), step_of(error))
    assert np.abs(back.astype(int) - EVERY_SAMPLE).max() == error
    assert back[128] == 128
    assert len(np.unique(back)) <= 256 / (2 * error + 1) + 2


def test_errors_that_cannot_be() -> None:
    for error in (-1, 32):
        with pytest.raises(ValueError, match="max_error"):
            step_of(error)


@given(st.sampled_from(PixelFormat), st.integers(1, 4), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
def test_every_format_comes_back_within_its_bound(
    pixel_format: PixelFormat, error: int, width: int, height: int, seed: int
) -> None:
    width *= 2
    data = np.random.default_rng(seed).integers(0, 256, content_size(pixel_format, width, height), np.uint8)
    packed = packing.pack(RawImage(data, width, height, pixel_format), error)
    back = packing.unpack(wire.packed_from_proto(wire.packed_to_proto(packed)))
    assert np.abs(back.data.astype(int) - data).max() <= error


def test_levels_make_a_noisy_dark_frame_smaller() -> None:
    noise = np.random.default_rng(0).normal(12, 2, (120, 160, 3)).clip(0, 255).astype(np.uint8)
    image = RawImage.from_rgb(noise)
    sizes = [len(packing.pack(image, error).payload) for error in (0, 1, 2)]
    assert sizes[1] < 0.8 * sizes[0] and sizes[2] < 0.8 * sizes[1]


@pytest.mark.parametrize("step", [64, 255, 2**31])
def test_a_step_that_cannot_be_is_refused_before_memory_is_taken(step: int) -> None:
    message = wire.packed_to_proto(packing.pack(RawImage.from_rgb(np.zeros((4, 4, 3), np.uint8))))
    message.step = step
    with pytest.raises(ImageError, match="levels"):
        packing.check(wire.packed_from_proto(message))
