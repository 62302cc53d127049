"""NIQE: how far an image's local statistics lie from those of pristine photographs; lower is better.

Mittal, Soundararajan, Bovik, "Making a completely blind image quality analyzer" (2013), as the MATLAB release
computes it, in float64. It rewards sharp and noise-free images, not right exposure: never read it alone. The
pristine statistics are not ours to ship; they come from a file that the user names.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.special import gamma

from common.errors import WeightsError
from common.pixels import Bytes

BLOCK = 96  # pixels at full scale; half as many at half scale
SHAPES = np.arange(0.2, 10.001, 0.001)  # candidates for the generalised Gaussian's shape
RATIOS = gamma(2 / SHAPES) ** 2 / (gamma(1 / SHAPES) * gamma(3 / SHAPES))
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
KEYS = (("mu_pris_param", "cov_pris_param"), ("mu_prisparam", "cov_prisparam"))

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Niqe:
    """The measure with its pristine statistics: mean (36,) and covariance (36, 36)."""

    mean: Floats
    covariance: Floats

    @classmethod
    def read(cls, path: Path) -> "Niqe":
        """Statistics from a .npz (mu_pris_param, cov_pris_param) or .mat (mu_prisparam, cov_prisparam) file.

        Raises:
            WeightsError: for a file that is missing, broken or holds something else.
        """
        try:
            held = _load(path)
        except Exception as error:  # a broken file brings out errors of many kinds in numpy's and scipy's readers
            raise WeightsError(f"NIQE parameters: {path} cannot be read: {error}") from None
        for mean, covariance in KEYS:
            if mean in held and covariance in held:
                mu, cov = np.asarray(held[mean], float).ravel(), np.asarray(held[covariance], float)
                if mu.shape == (36,) and cov.shape == (36, 36):
                    return cls(mu, cov)
        raise WeightsError(f"NIQE parameters: {path} holds no mu_pris_param (36) with cov_pris_param (36, 36)")

    def __call__(self, rgb: Bytes) -> float:
        """NIQE of an (H, W, 3) uint8 image; NaN where fewer than two 96x96 blocks have any structure."""
        found = features(rgb)
        whole = found[~np.isnan(found).any(axis=1)]
        if len(whole) < 2:
            return float("nan")
        # A flat block gives some features only; the release's mean counts them, its covariance does not.
        distance = self.mean - np.nanmean(found, axis=0)
        pooled = (self.covariance + np.cov(whole, rowvar=False)) / 2
        return float(np.sqrt(distance @ np.linalg.pinv(pooled) @ distance))


def features(rgb: Bytes) -> Floats:
    """36 features of each 96x96 block of an (H, W, 3) uint8 image, (blocks, 36); NaN where a block is flat."""
    grey = np.round(rgb.astype(np.float64) @ [65.481 / 255, 128.553 / 255, 24.966 / 255] + 16)
    down, across = (side // BLOCK for side in grey.shape)
    grey = grey[: down * BLOCK, : across * BLOCK]
    if not grey.size:
        return np.empty((0, 36))
    scales = []
    for size in (BLOCK, BLOCK // 2):
        normal = _normalised(grey)
        blocks = normal.reshape(down, size, across, size).swapaxes(1, 2).reshape(-1, size, size)
        scales.append([_block(block) for block in blocks])
        grey = _half(grey)
    return np.concatenate(scales, axis=1)


def asymmetric_gaussian(x: Floats) -> tuple[float, float, float]:
    """(shape, left scale, right scale) of an asymmetric generalised Gaussian fitted by moments.

    A side without values has the scale NaN, and the shape is then the lowest candidate, as in the release.
    """
    low, high = _root_mean_square(x[x < 0]), _root_mean_square(x[x > 0])
    if np.isnan(low) or np.isnan(high):
        return float(SHAPES[0]), low, high
    skew = low / high
    ratio = np.mean(np.abs(x)) ** 2 / np.mean(x**2) * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = SHAPES[np.argmin((RATIOS - ratio) ** 2)]
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return float(shape), float(low * scale), float(high * scale)


def _root_mean_square(x: Floats) -> float:
    return float(np.sqrt(np.mean(x**2))) if x.size else float("nan")


def _block(block: Floats) -> list[float]:
    shape, left, right = asymmetric_gaussian(block)
    found = [shape, (left + right) / 2]
    for shift in SHIFTS:
        shape, left, right = asymmetric_gaussian(block * np.roll(block, shift, (0, 1)))
        found += [shape, (right - left) * float(gamma(2 / shape) / gamma(1 / shape)), left, right]
    return found


def _normalised(grey: Floats) -> Floats:
    """Mean-subtracted, contrast-normalised coefficients."""
    taps = cv2.getGaussianKernel(7, 7 / 6, cv2.CV_64F)
    mean, square = (
        cv2.sepFilter2D(x, cv2.CV_64F, taps, taps, borderType=cv2.BORDER_REPLICATE) for x in (grey, grey**2)
    )
    return (grey - mean) / (np.sqrt(np.abs(square - mean**2)) + 1)


def _half(grey: Floats) -> Floats:
    """Half the size by MATLAB's antialiased bicubic: eight taps, mirrored borders."""
    x = np.array([0.25, 0.75, 1.25, 1.75])
    side = np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2) / 2
    taps = np.concatenate([side[::-1], side])
    for _ in range(2):  # columns, then rows
        padded = np.pad(grey, ((3, 3), (0, 0)), mode="symmetric")
        rows = len(grey)
        grey = sum((tap * padded[i : i + rows - 1 : 2] for i, tap in enumerate(taps)), np.zeros(())).T
    return grey


def _load(path: Path) -> dict[str, Any]:
    if path.suffix == ".mat":
        from scipy.io import loadmat

        return dict(loadmat(path))
    with np.load(path) as held:
        return {key: held[key] for key in held.files}
