"""PSNR and SSIM of 8-bit RGB images, by the convention that basicsr and Retinexformer follow.

Images are compared as they are. Bringing an image to the reference's mean first (GT-mean) adds 3 to 8 dB;
`to_reference_mean` serves the second column only, never the first.
"""

import cv2
import numpy as np
import numpy.typing as npt

from common.errors import ImageError
from common.pixels import Bytes

BEST_PSNR = 100.0  # dB; what identical images get, so that means stay finite
WINDOW, SIGMA = 11, 1.5  # of SSIM's Gaussian, in pixels
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(image: Bytes, reference: Bytes) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(255^2 / MSE) over all channels; at most 100.

    Both (H, W, 3) uint8. Raises ImageError for shapes that differ.
    """
    _check(image, reference)
    error = float(np.mean((image.astype(np.float64) - reference) ** 2))
    return BEST_PSNR if error == 0 else min(BEST_PSNR, float(10 * np.log10(255**2 / error)))


def ssim(image: Bytes, reference: Bytes) -> float:
    """Structural similarity (Wang et al. 2004), -1..1: per channel, mean over the window's valid region, then mean.

    Both (H, W, 3) uint8, at least 11x11. 11x11 Gaussian window of sigma 1.5, K1 0.01, K2 0.03, L 255; equal to
    scikit-image with gaussian_weights=True, sigma=1.5, use_sample_covariance=False. Raises ImageError for shapes
    that differ or are smaller than the window.
    """
    _check(image, reference)
    if min(image.shape[:2]) < WINDOW:
        raise ImageError(f"SSIM needs images of {WINDOW}x{WINDOW} or more, got {image.shape[1]}x{image.shape[0]}")
    x, y = image.astype(np.float64), reference.astype(np.float64)
    mean_x, mean_y = _window(x), _window(y)
    var_x, var_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    bottom = (mean_x**2 + mean_y**2 + C1) * (var_x + var_y + C2)
    return float(np.mean(top / bottom))


def to_reference_mean(image: Bytes, reference: Bytes) -> Bytes:
    """The image times one factor that gives it the reference's mean grey level; clipped, (H, W, 3) uint8."""
    _check(image, reference)
    factor = luma(reference).mean() / max(1e-6, float(luma(image).mean()))
    return np.round(np.clip(image * factor, 0, 255)).astype(np.uint8)


def luma(rgb: Bytes) -> npt.NDArray[np.float32]:
    """BT.601 luma 0..255 of (H, W, 3) uint8, (H, W) float32, not rounded."""
    return rgb.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def _window(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    taps = cv2.getGaussianKernel(WINDOW, SIGMA, cv2.CV_64F)
    half = WINDOW // 2
    smooth: npt.NDArray[np.float64] = cv2.sepFilter2D(x, cv2.CV_64F, taps, taps)
    return smooth[half:-half, half:-half]


def _check(image: Bytes, reference: Bytes) -> None:
    if image.shape != reference.shape or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"images to compare must be (H, W, 3) alike, got {image.shape} and {reference.shape}")
