import math
from pathlib import Path

import numpy as np
import pytest

from cloud_node.laegan import load
from cloud_node.training.check import darkened, detection, gain, hmean, main, methods, psnr
from common.frame import Region


def test_gain_reaches_the_level() -> None:
    frame = np.full((8, 8, 3), 10, np.uint8)
    assert gain(frame).mean() == pytest.approx(0.4 * 255, abs=1)
    assert gain(np.zeros((8, 8, 3), np.uint8)).max() == 0


def test_psnr_of_a_known_difference() -> None:
    a = np.zeros((4, 4, 3), np.uint8)
    assert psnr(a, a + np.uint8(10)) == pytest.approx(20 * math.log10(25.5))


def test_hmean_of_corpus_sums() -> None:
    assert hmean(10, 5, 20) == pytest.approx((0.5, 0.25, 1 / 3))
    assert hmean(0, 0, 20)[2] == 0


def test_darkened_frames_repeat_and_are_dark() -> None:
    page = np.full((32, 32, 3), 230, np.uint8)
    frame = darkened(page, 3, (40.0, 120.0))
    np.testing.assert_array_equal(frame, darkened(page, 3, (40.0, 120.0)))
    assert frame.dtype == np.uint8 and 5 < frame.mean() < 50


def test_detection_counts_what_overlaps() -> None:
    square = ((0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0))
    far = tuple((x + 50, y) for x, y in square)

    class Found:
        def detect(self, rgb: np.ndarray) -> tuple[Region, ...]:
            return (Region(square, 0.9), Region(far, 0.9))

    cases = [(np.zeros((64, 64, 3), np.uint8), [square])]
    assert detection("x", cases, {"raw": lambda rgb: rgb}, Found()) == {"raw": pytest.approx((0.5, 1.0, 2 / 3))}


def test_every_method_keeps_shape_and_type() -> None:
    frame = np.random.default_rng(0).integers(0, 40, (33, 50, 3), dtype=np.uint8)
    for name, method in methods(load("fast")).items():
        out = method(frame)
        assert out.shape == frame.shape and out.dtype == np.uint8, name


def test_nothing_to_measure_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path)]) == 2
    assert "nothing to measure" in capsys.readouterr().out
