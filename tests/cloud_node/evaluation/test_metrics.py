import math

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from cloud_node.evaluation.metrics import BEST_PSNR, luma, psnr, ssim, to_reference_mean
from common.errors import ImageError


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(0, 255, (6, 7, 3)), np.ones((8, 8, 1)))
    noisy = np.clip(smooth + rng.normal(0, 20, smooth.shape), 0, 255)
    return noisy.astype(np.uint8), smooth.astype(np.uint8)


def test_psnr_of_a_known_difference() -> None:
    a = np.zeros((4, 4, 3), np.uint8)
    assert psnr(a, a + np.uint8(10)) == pytest.approx(20 * math.log10(25.5))
    assert psnr(a, a) == BEST_PSNR


def test_ssim_is_that_of_scikit_image(pair: tuple[np.ndarray, np.ndarray]) -> None:
    image, reference = pair
    expected = structural_similarity(
        image, reference, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(image, reference) == pytest.approx(expected, abs=1e-4)
    assert ssim(image, image) == pytest.approx(1)


def test_reference_mean_is_reached_and_helps_a_dark_image(pair: tuple[np.ndarray, np.ndarray]) -> None:
    reference = pair[1]
    dark = reference // 4
    mended = to_reference_mean(dark, reference)
    assert luma(mended).mean() == pytest.approx(luma(reference).mean(), abs=2)
    assert psnr(mended, reference) > psnr(dark, reference) + 10
    assert to_reference_mean(np.zeros_like(dark), reference).max() == 0


def test_images_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ImageError, match=r"\(4, 4, 3\) and \(4, 5, 3\)"):
        psnr(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(ImageError, match="11x11 or more"):
        ssim(np.zeros((8, 40, 3), np.uint8), np.zeros((8, 40, 3), np.uint8))
