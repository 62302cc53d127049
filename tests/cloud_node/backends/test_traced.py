import numpy as np
import pytest
import torch

from cloud_node.backends import Nothing, after, before, light
from cloud_node.backends.traced import Traced
from cloud_node.color import Form
from common.pixels import ColorMatrix, ColorRange, PixelFormat, content_size

FORMS = [
    Form(width, height, pixel_format, ColorRange.LIMITED, ColorMatrix.BT709)
    for pixel_format in PixelFormat
    for width, height in ((64, 48), (17, 9))
    if not (pixel_format is PixelFormat.YUYV and width % 2)
]


@pytest.mark.parametrize("form", FORMS, ids=str)
@torch.inference_mode()
def test_the_same_comes_out_once_the_trace_took_over(form: Form) -> None:
    network = Nothing()
    step, random = Traced(network, "test", before, after), np.random.default_rng(1)
    size = content_size(form.pixel_format, form.width, form.height)
    for frames in (1, 3, 1, 3, 1):
        for _ in range(3):
            raw = torch.from_numpy(random.integers(0, 256, (frames, size), np.uint8))
            rgb, measures = step(raw, form)
            expected_rgb, expected_measures = light(network, raw, form)
            assert torch.equal(rgb, expected_rgb)
            torch.testing.assert_close(measures, expected_measures, rtol=1e-6, atol=0)
            step.wait()
    assert step._before.taken_over == step._after.taken_over == [(1, form), (3, form)]


@torch.inference_mode()
def test_values_that_are_not_numbers_are_still_told() -> None:
    form = Form(32, 32, PixelFormat.GRAY8, ColorRange.FULL, ColorMatrix.BT709)

    class Broken(torch.nn.Module):
        def forward(self, low: torch.Tensor) -> torch.Tensor:
            return low * float("nan")

    step = Traced(Broken(), "test", before, after)
    for _ in range(4):
        _, measures = step(torch.full((1, 32 * 32), 9, dtype=torch.uint8), form)
        assert not torch.isfinite(measures[:, 0]).any()
        step.wait()
    assert step._after.taken_over
