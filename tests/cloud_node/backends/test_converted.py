import sys
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("openvino", exc_type=ImportError)

from cloud_node import backends  # noqa: E402
from cloud_node.backends import Nothing, converted, light  # noqa: E402
from cloud_node.backends.converted import Converted  # noqa: E402
from cloud_node.color import Form  # noqa: E402
from common.pixels import ColorMatrix, ColorRange, PixelFormat, content_size  # noqa: E402


class Brighter(torch.nn.Module):
    """Not the identity, and no convolution."""

    def forward(self, low: torch.Tensor) -> torch.Tensor:
        assert min(low.shape[-2:]) >= backends.SMALLEST
        return low.sqrt()


LARGE = (264, 200, ColorRange.LIMITED, ColorMatrix.BT709)
SMALL = (17, 9, ColorRange.FULL, ColorMatrix.BT601)  # than a network needs


def form_of(pixel_format: PixelFormat, width: int, height: int, *color: Any) -> Form:
    return Form(width + (width % 2 if pixel_format is PixelFormat.YUYV else 0), height, pixel_format, *color)


CASES = [
    *((form_of(pixel_format, *LARGE), Brighter()) for pixel_format in PixelFormat),
    *((form_of(pixel_format, *SMALL), Nothing()) for pixel_format in PixelFormat),
    (form_of(PixelFormat.I420, *LARGE), Nothing()),
    (form_of(PixelFormat.I420, *SMALL), Brighter()),
    (Form(1, 2, PixelFormat.NV12, ColorRange.LIMITED, ColorMatrix.BT601), Brighter()),
]


def step_of(network: torch.nn.Module) -> Converted:
    step = backends._model("test", network, network, torch.device("cpu"), 1).step
    assert isinstance(step, Converted)
    return step


@pytest.mark.parametrize(("form", "network"), CASES, ids=str)
@torch.inference_mode()
def test_the_same_comes_out_once_the_fast_way_took_over(form: Form, network: torch.nn.Module) -> None:
    step, random = step_of(network), np.random.default_rng(1)
    size = content_size(form.pixel_format, form.width, form.height)
    for frames in (1, 1, 3, 2):
        raw = torch.from_numpy(random.integers(0, 256, (frames, size), np.uint8))
        rgb, measures = step(raw, form)
        expected_rgb, expected_measures = light(network, raw, form)
        assert rgb.shape == expected_rgb.shape and (rgb.int() - expected_rgb.int()).abs().max() <= 1
        assert (rgb != expected_rgb).float().mean() < 5e-3
        torch.testing.assert_close(measures[:, 1:], expected_measures[:, 1:], rtol=1e-4, atol=1e-6)
        assert torch.isfinite(measures).all()
        step.ways.wait()
    assert step.ways.taken_over == [form]


@torch.inference_mode()
def test_frames_that_would_hold_much_memory_are_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converted, "PIXELS", 32 * 24 - 1)
    form = Form(32, 24, PixelFormat.RGB24, ColorRange.FULL, ColorMatrix.BT601)
    step, raw = step_of(Nothing()), torch.full((1, 32 * 24 * 3), 9, dtype=torch.uint8)
    with step.ways.at_once():
        assert (step(raw, form)[0] == 9).all() and not step.ways.taken_over


@torch.inference_mode()
def test_a_result_outlives_the_next_frame() -> None:
    form = Form(32, 24, PixelFormat.I420, ColorRange.FULL, ColorMatrix.BT601)
    step = step_of(Nothing())
    with step.ways.at_once():
        first, _ = step(torch.full((1, 32 * 24 * 3 // 2), 9, dtype=torch.uint8), form)
    kept = first.clone()
    step(torch.full((1, 32 * 24 * 3 // 2), 99, dtype=torch.uint8), form)
    assert step.ways.taken_over and torch.equal(first, kept)


@torch.inference_mode()
def test_values_that_are_not_numbers_are_still_told() -> None:
    form = Form(32, 32, PixelFormat.GRAY8, ColorRange.FULL, ColorMatrix.BT709)

    class Broken(torch.nn.Module):
        def forward(self, low: torch.Tensor) -> torch.Tensor:
            broken = low.clone()
            broken[:, 1, 3, 5] = float("nan")
            return broken

    step = step_of(Broken())
    for _ in range(4):
        _, measures = step(torch.full((2, 32 * 32), 9, dtype=torch.uint8), form)
        assert not torch.isfinite(measures[:, 0]).any()
        step.ways.wait()
    assert step.ways.taken_over


@torch.inference_mode()
def test_without_openvino_torch_serves_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "cloud_node.backends.openvino", None)
    form = Form(32, 24, PixelFormat.RGB24, ColorRange.FULL, ColorMatrix.BT601)
    step, raw = step_of(Nothing()), torch.full((1, 32 * 24 * 3), 9, dtype=torch.uint8)
    for _ in range(4):
        assert (step(raw, form)[0] == 9).all()
        step.ways.wait()
    [line] = [record.message for record in caplog.records]
    assert "conversions: no fast path for 32x24 RGB24, the plain one serves: " in line and not step.ways.taken_over
