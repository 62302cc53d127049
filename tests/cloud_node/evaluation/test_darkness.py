from typing import Any

import numpy as np
import pytest

from cloud_node.evaluation import darkness
from cloud_node.evaluation.darkness import (
    BLACK,
    WHITE,
    compress,
    darken,
    demosaic,
    expose,
    mosaic,
    render,
    tukey_lambda,
)
from cloud_node.training import darkness as training

GAINS = np.array([2.0, 1.0, 1.7], np.float32)
LOW_NOISE = -6.0  # log K


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_colour_stays_that_colour(channel: int) -> None:
    light = np.zeros((64, 48, 3), np.float32)
    light[..., channel] = 0.4
    raw = expose(mosaic(light / GAINS), LOW_NOISE, np.random.default_rng(0))
    seen = demosaic(raw, GAINS)[8:-8, 8:-8].mean(axis=(0, 1))
    expected = np.zeros(3)
    expected[channel] = 0.4
    np.testing.assert_allclose(seen, expected, atol=0.01)


def test_an_odd_size_keeps_its_colours() -> None:
    light = np.broadcast_to(np.array([0.5, 0.25, 0.1], np.float32), (33, 41, 3))
    raw = expose(mosaic(light / GAINS), LOW_NOISE, np.random.default_rng(0))
    np.testing.assert_allclose(demosaic(raw, GAINS)[6:-6, 6:-6].mean(axis=(0, 1)), [0.5, 0.25, 0.1], atol=0.01)


def test_edges_stay_where_they_are() -> None:
    light = np.zeros((64, 64, 3), np.float32)
    light[:, 32:] = 0.8
    seen = demosaic(expose(mosaic(light / GAINS), LOW_NOISE, np.random.default_rng(0)), GAINS)
    assert seen[8:-8, :30].max() < 0.1 and seen[8:-8, 34:-4].min() > 0.7


def test_the_sensor_counts_ten_bits_and_noise_grows_with_gain() -> None:
    rng = np.random.default_rng(0)
    grey = np.full((200, 200), 0.2)
    quiet, loud = (expose(grey, log_gain, rng) for log_gain in darkness.CAMERA.log_gain)
    for raw in (quiet, loud, expose(grey + 1, 2.0, rng)):
        assert raw.dtype == np.uint16 and raw.max() <= WHITE
    assert quiet.mean() == pytest.approx(BLACK + 0.2 * (WHITE - BLACK), rel=0.01)
    gain = np.exp(darkness.CAMERA.log_gain[1])
    assert loud.std() > 1.02 * np.sqrt(gain * 0.2 * (WHITE - BLACK)) > 2 * quiet.std()
    assert expose(np.zeros((200, 200)), 2.0, rng).min() < BLACK  # noise goes below black


def test_rows_share_an_offset() -> None:
    flat = expose(np.zeros((400, 400)), 2.1, np.random.default_rng(0)).astype(float)
    assert flat.mean(axis=1).std() > 1.3 * flat.std() / 20 and flat.mean(axis=0).std() < 1.2 * flat.std() / 20


def test_tukey_lambda_has_the_moments_of_its_law() -> None:
    rng = np.random.default_rng(0)
    assert tukey_lambda((400_000,), 0.0, rng).std() == pytest.approx(np.pi / np.sqrt(3), rel=0.01)  # logistic
    assert tukey_lambda((400_000,), 1.0, rng).std() == pytest.approx(2 / np.sqrt(12), rel=0.01)  # even, -1..1


def test_rendering_is_monotone_with_more_contrast_in_the_middle() -> None:
    levels = render(np.linspace(0, 1, 1001)).astype(int)
    assert levels[0] == 0 and levels[-1] == 255 and (np.diff(levels) >= 0).all()
    middle = render(np.array([0.5**2.2, 0.25**2.2]))
    assert middle[0] == pytest.approx(127.5, abs=1) and middle[1] < 0.25 * 255


def test_darkened_frames_repeat_and_are_dark() -> None:
    page = np.full((48, 64, 3), 230, np.uint8)
    frame = darken(page, 3, (40.0, 120.0))
    np.testing.assert_array_equal(frame, darken(page, 3, (40.0, 120.0)))
    assert frame.shape == page.shape and frame.dtype == np.uint8 and 5 < frame.mean() < 60
    assert frame.mean() < darken(page, 3, (8.0, 20.0)).mean() < page.mean()


def test_jpeg_leaves_its_traces() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert 10 < np.abs(compress(noise).astype(int) - noise).mean() < 90


def test_training_never_records_with_the_evaluations_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[training.Camera] = []
    record = training.record

    def collect(linear: np.ndarray, camera: training.Camera, *more: Any) -> np.ndarray:
        seen.append(camera)
        return record(linear, camera, *more)

    monkeypatch.setattr(training, "record", collect)
    rng = np.random.default_rng(0)
    for _ in range(200):
        training.darken(np.full((16, 16, 3), 0.8, np.float32), rng, (4.0, 100.0))
    assert len(seen) == 200 and set(seen) == {training.CAMERAS[name] for name in training.TRAINING_CAMERAS}
    assert darkness.CAMERA not in seen
