from pathlib import Path

import numpy as np
import pytest

from common.errors import ImageError, WeightsError
from edge_node.local_enhancer import LocalEnhancer
from edge_node.solved_curve import BYTE_LEVELS, curve


def night(height: int = 96, width: int = 144) -> tuple[np.ndarray, np.ndarray]:
    """A page with dark bars by day, and the same in 1/20 of the light with noise."""
    day = np.full((height, width, 3), 0.7)
    day[20:76:8, 20:124] = 0.1
    rng = np.random.default_rng(0)
    light = day**2.2 / 20 + rng.normal(0, 0.002, day.shape)
    return day, np.round(np.clip(light, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8)


def test_committed_network_lights_up_the_dark() -> None:
    day, dark = night()
    lit = LocalEnhancer().enhance(dark) / 255
    assert np.mean((lit - day) ** 2) < np.mean((dark / 255 - day) ** 2) / 4
    assert LocalEnhancer().model.startswith("edge-")


def test_black_and_white_frames_stay_what_they_are() -> None:
    enhancer = LocalEnhancer()
    white = np.full((50, 70, 3), 255, np.uint8)
    assert np.abs(enhancer.enhance(white).astype(int) - 255).max() <= 1
    assert enhancer.enhance(np.zeros((50, 70, 3), np.uint8)).max() == 0


@pytest.mark.parametrize("frame", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_other_shapes_are_refused(frame: np.ndarray) -> None:
    with pytest.raises(ImageError, match="uint8"):
        LocalEnhancer().enhance(frame)


def test_files_that_are_no_network_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no file .*absent"):
        LocalEnhancer(tmp_path / "absent.onnx")
    (tmp_path / "cut.onnx").write_bytes(b"cut")
    with pytest.raises(WeightsError, match="cut.onnx is no network exported"):
        LocalEnhancer(tmp_path / "cut.onnx")


def test_the_curve_is_monotone_and_keeps_black_and_white() -> None:
    lifted = curve(BYTE_LEVELS, 0.7)
    assert lifted[0] == 0 and lifted[-1] == pytest.approx(1) and (np.diff(lifted) >= 0).all()
