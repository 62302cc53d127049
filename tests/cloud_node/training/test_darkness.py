import numpy as np
import pytest

from cloud_node.training.darkness import (
    CAMERAS,
    EVALUATION_CAMERA,
    TRAINING_CAMERAS,
    Camera,
    darken,
    darkest,
    illumination,
    lamps,
    record,
    to_linear,
    to_srgb,
)


def test_transfer_curves_undo_each_other() -> None:
    levels = np.linspace(0, 1, 256, dtype=np.float32)
    np.testing.assert_allclose(to_srgb(to_linear(levels)), levels, atol=1e-5)
    assert to_linear(np.float32(0.5)) == pytest.approx(0.2140, abs=1e-4)


def test_evaluation_camera_is_not_trained_on() -> None:
    assert EVALUATION_CAMERA in CAMERAS and EVALUATION_CAMERA not in TRAINING_CAMERAS


@pytest.mark.parametrize("camera", list(CAMERAS))
@pytest.mark.parametrize("bayer", [False, True])
def test_sensor_keeps_the_mean_of_the_light(camera: str, bayer: bool) -> None:
    rng = np.random.default_rng(0)
    light = np.full((64, 64, 3), 0.2, np.float32)
    recorded = np.mean([record(light, CAMERAS[camera], rng, bayer).mean() for _ in range(8)])
    assert recorded == pytest.approx(0.2, rel=0.03)


def test_photon_noise_has_the_variance_of_the_table() -> None:
    """Far above the read noise the variance is K x signal, in digital numbers; green is not amplified."""
    camera = CAMERAS["sony_a7s2_high"]
    fixed = type(camera)((1.0, 1.0), (0, -9, 0), (0, -9, 0), camera.full)
    light = np.full((256, 256, 3), 0.3, np.float32)
    recorded = record(light, fixed, np.random.default_rng(0))[..., 1] * camera.full
    assert recorded.var() == pytest.approx(np.e * 0.3 * camera.full, rel=0.05)


@pytest.mark.parametrize("camera", ["sony_a7s2_high", "brooks_line"])
def test_a_photograph_made_smaller_has_its_light_and_less_noise(camera: str) -> None:
    light = np.full((128, 128, 3), 0.01, np.float32)
    one, many = (record(light, CAMERAS[camera], np.random.default_rng(0), log_gain=1.0, binned=n) for n in (1, 16))
    assert many.mean() == pytest.approx(0.01, rel=0.05)
    assert 0.1 * one.std() < many.std() < 0.4 * one.std()


def test_pixels_of_one_row_share_its_noise_when_they_are_binned() -> None:
    rows = Camera((0.0, 0.0), (0, -9, 0), (0, 3, 0), 15871)  # nearly no other noise
    light = np.full((512, 512, 3), 0.3, np.float32)
    full = record(light, rows, np.random.default_rng(0))[..., 1]
    blocks = full.reshape(128, 4, 128, 4).mean(axis=(1, 3))
    binned = record(light[:512, :128], rows, np.random.default_rng(1), binned=16)[..., 1]
    assert binned.mean(axis=1).std() == pytest.approx(blocks.mean(axis=1).std(), rel=0.25)


def test_darkened_frames_are_8_bit_and_repeat() -> None:
    clean = np.random.default_rng(1).random((64, 64, 3)).astype(np.float32)
    frames = [darken(clean, np.random.default_rng(5), (3, 60)) for _ in range(2)]
    np.testing.assert_array_equal(*frames)
    assert frames[0].shape == clean.shape and frames[0].dtype == np.float32
    np.testing.assert_allclose(frames[0] * 255, np.round(frames[0] * 255), atol=1e-4)


def test_most_frames_are_dark_and_some_stay_bright() -> None:
    clean = np.full((48, 48, 3), 0.6, np.float32)
    means = np.array([darken(clean, np.random.default_rng(i), (10, 60)).mean() for i in range(120)])
    assert np.median(means) < 0.25
    assert 0.03 < (means > 0.5).mean() < 0.3


def test_lamps_and_illumination_stay_in_range() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        for light in (illumination(48, rng), lamps(48, rng)):
            assert light.shape == (48, 48, 1) and light.min() >= 0 and light.max() <= 1


def test_the_darkest_frame_has_signal_equal_to_noise() -> None:
    camera = CAMERAS["sony_a7s2_high"]
    signal = 0.5 * camera.full / darkest(camera, 1.0, grey=0.5)
    read = np.exp(camera.read[0] * 1.0 + camera.read[1])
    assert signal == pytest.approx(np.sqrt(np.e * signal + read**2))
