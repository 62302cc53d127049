from collections.abc import Callable

import numpy as np
import pytest

from cloud_node.training.codecs import delivered, jpeg, video


def picture(height: int = 64, width: int = 96) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 2, y * 3, 255 - x - y], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("codec", [jpeg, video])
def test_codecs_keep_the_picture_and_lose_more_when_told(codec: Callable[[np.ndarray, int], np.ndarray]) -> None:
    noisy = np.clip(picture() + np.random.default_rng(0).normal(0, 8, (64, 96, 3)), 0, 255).astype(np.uint8)
    fine, coarse = (95, 30) if codec is jpeg else (10, 40)
    error = [np.abs(codec(noisy, quality).astype(int) - noisy).mean() for quality in (fine, coarse)]
    assert 0 < error[0] < error[1] < 12
    assert codec(noisy, fine).shape == noisy.shape


def test_delivered_frames_are_8_bit_repeat_and_come_through_every_codec() -> None:
    noisy = np.random.default_rng(1).random((32, 32, 3)).astype(np.float32) * 0.5
    for seed in range(3):
        frame = delivered(noisy, np.random.default_rng(seed))
        np.testing.assert_array_equal(frame, delivered(noisy, np.random.default_rng(seed)))
        np.testing.assert_allclose(frame * 255, np.round(frame * 255), atol=1e-4)
    frames = [delivered(noisy, np.random.default_rng(seed)) for seed in range(60)]
    untouched = np.mean([np.abs(frame - noisy).max() < 0.5 / 255 + 1e-6 for frame in frames])
    assert 0.15 < untouched < 0.5  # neither smoothed nor encoded: 0.7 x 0.45


@pytest.mark.parametrize("colour", [(5, 5, 5), (8, 6, 4), (40, 40, 40)])
def test_video_does_not_darken_the_dark(colour: tuple[int, int, int]) -> None:
    flat = np.broadcast_to(np.array(colour, np.uint8), (32, 32, 3))
    assert np.abs(video(np.ascontiguousarray(flat), 16).mean(axis=(0, 1)) - colour).max() <= 1
    noisy = np.random.default_rng(0).integers(0, 21, (64, 64, 3)).astype(np.uint8)
    assert video(noisy, 16).mean() == pytest.approx(noisy.mean(), abs=0.5)
