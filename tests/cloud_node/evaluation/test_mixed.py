import cv2
import numpy as np
import pytest

from cloud_node.evaluation.baselines import clahe, gain
from cloud_node.evaluation.mixed import mixed_light, monotone
from common.errors import ImageError


@pytest.fixture
def night() -> np.ndarray:
    """A lamp of level 210 with a glow that fades into a dark, noisy street."""
    y, x = np.mgrid[0:160, 0:200]
    distance = np.hypot(x - 100, y - 80)
    scene = np.where(distance < 15, 210, 20 + 90 * np.exp(-(distance - 15) / 12))
    noise = np.random.default_rng(0).normal(0, 2, (160, 200, 3))
    return np.clip(scene[..., None] + noise, 0, 255).astype(np.uint8)


def curve(rgb: np.ndarray) -> np.ndarray:
    return np.round(255 * (rgb / 255) ** 0.4).astype(np.uint8)


def test_a_picture_left_alone_is_perfect(night: np.ndarray) -> None:
    one = mixed_light(night, night)
    assert (one.change, one.clipped, one.half) == (0, 0, 0)
    assert max(one.overshoot, one.undershoot) < 0.2


def test_a_gain_burns_and_has_no_halo(night: np.ndarray) -> None:
    one = mixed_light(night, gain(night))
    assert one.clipped > 0.95 and one.change > 30 and one.spread > 0.05
    assert max(one.overshoot, one.undershoot) < 1.5


def test_a_curve_has_no_halo(night: np.ndarray) -> None:
    one = mixed_light(night, curve(night))
    assert max(one.overshoot, one.undershoot) < 1.5 and one.clipped == one.spread == 0


def test_a_dark_band_and_a_bright_band_are_halos(night: np.ndarray) -> None:
    bright = (night.mean(axis=2) > 190).astype(np.uint8)
    distance = cv2.distanceTransform(1 - bright, cv2.DIST_L2, 5)[..., None]
    band = (distance > 4) & (distance < 9)
    lit = curve(night).astype(int)
    dark = mixed_light(night, np.clip(np.where(band, lit - 30, lit), 0, 255).astype(np.uint8))
    assert dark.undershoot > 10
    band = (distance > 9) & (distance < 12)
    ringed = mixed_light(night, np.clip(np.where(band, lit + 30, lit), 0, 255).astype(np.uint8))
    assert ringed.overshoot > 5


def test_local_equalisation_haloes_more_than_a_curve(night: np.ndarray) -> None:
    local, whole = mixed_light(night, clahe(night)), mixed_light(night, curve(night))
    assert local.overshoot + local.undershoot > 3 * (whole.overshoot + whole.undershoot)


def test_a_lit_window_that_becomes_white_is_told(night: np.ndarray) -> None:
    night[120:150, 20:60] = 130
    lit = night.copy()
    lit[120:150, 20:60] = 240
    assert mixed_light(night, lit).change == 0 and mixed_light(night, lit).half > 60


def test_a_picture_without_lamps_has_no_figures() -> None:
    dim = np.full((40, 40, 3), 90, np.uint8)
    speck = dim.copy()
    speck[5, 5] = 255
    for picture in (dim, speck):
        assert np.isnan([*vars(mixed_light(picture, gain(picture))).values()]).all()


def test_a_picture_that_is_all_lamp_has_no_ring() -> None:
    white = np.full((40, 40, 3), 250, np.uint8)
    assert mixed_light(white, white) == mixed_light(white, white.copy())
    assert mixed_light(white, white).overshoot == 0


def test_the_mapping_never_falls() -> None:
    before = np.repeat(np.arange(256.0), 4)
    after = before + np.random.default_rng(0).normal(0, 20, before.size)
    fitted = monotone(before, after)
    assert fitted.shape == (256,) and (np.diff(fitted) >= 0).all()
    assert np.abs(fitted - np.arange(256)).mean() < 8


def test_unlike_shapes_are_refused(night: np.ndarray) -> None:
    with pytest.raises(ImageError, match="the lit picture is"):
        mixed_light(night, night[:-1])
