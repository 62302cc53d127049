import cv2
import numpy as np
import pytest

from cloud_node.evaluation.baselines import BASELINES, blur_and_gain, clahe, equalise, gain, gamma, retinex


@pytest.fixture
def dark() -> np.ndarray:
    x, y = np.meshgrid(np.arange(90), np.arange(61))
    scene = 12 + 8 * np.sin(x / 7) + 6 * np.cos(y / 5)
    noise = np.random.default_rng(0).normal(0, 2, (61, 90, 3))
    return np.clip(scene[..., None] * [1.2, 1.0, 0.8] + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("level", [None, 0, 255])
def test_shape_and_type_stay_and_flat_pictures_do_no_harm(name: str, level: int | None, dark: np.ndarray) -> None:
    picture = dark if level is None else np.full_like(dark, level)
    before = picture.copy()
    out = BASELINES[name](picture)
    assert out.shape == picture.shape and out.dtype == np.uint8
    np.testing.assert_array_equal(picture, before)
    if level is None:
        assert (name == "raw") == (out.mean() <= dark.mean())


def test_gamma_and_gain_are_what_they_say(dark: np.ndarray) -> None:
    assert gamma(np.full((1, 1, 3), 64, np.uint8))[0, 0, 0] == round(255 * (64 / 255) ** 0.4)
    assert gain(dark).mean() == pytest.approx(0.4 * 255, abs=3)
    assert gain(np.zeros((8, 8, 3), np.uint8)).max() == 0


def test_blur_takes_noise_away() -> None:
    noise = np.random.default_rng(0).normal(40, 6, (64, 64, 3)).astype(np.uint8)
    assert blur_and_gain(noise).std() < 0.5 * gain(noise).std()


def test_equalisation_spreads_the_luma(dark: np.ndarray) -> None:
    luma = cv2.cvtColor(equalise(dark), cv2.COLOR_RGB2GRAY)
    assert luma.mean() == pytest.approx(128, abs=12) and luma.std() > 60


def test_clahe_lifts_local_contrast_less_than_equalisation(dark: np.ndarray) -> None:
    assert dark.std() < clahe(dark).std() < equalise(dark).std()


def test_retinex_takes_uneven_light_away() -> None:
    x = np.arange(256)
    stripes = np.where(x // 8 % 2, 1.0, 0.6)
    light = np.geomspace(10, 200, 256)
    picture = np.repeat((stripes * light)[None, :, None], 64, axis=0).repeat(3, axis=2).astype(np.uint8)
    out = retinex(picture).astype(float)
    assert out[:, :64].mean() / out[:, -64:].mean() > 3 * picture[:, :64].mean() / picture[:, -64:].mean()
