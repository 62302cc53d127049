"""Ways to light up a picture that need no training: (H, W, 3) uint8 sRGB -> the same. One function each.

To add one, write it and name it in BASELINES.
"""

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from common.pixels import Bytes

Method = Callable[[Bytes], Bytes]

LEVEL = 0.4  # mean that the plain gains aim at, of 1
RETINEX_SIGMAS = (15.0, 80.0, 250.0)  # pixels


def raw(rgb: Bytes) -> Bytes:
    """The picture as it is."""
    return rgb


def gamma(rgb: Bytes, power: float = 0.4) -> Bytes:
    """Every level to a power."""
    return np.round(255 * (np.arange(256) / 255) ** power).astype(np.uint8)[rgb]


def gain(rgb: Bytes) -> Bytes:
    """One factor for the whole picture, in sRGB, that would bring its mean to 0.4; clips."""
    return np.round(np.clip(rgb * (LEVEL * 255 / max(1.0, float(rgb.mean()))), 0, 255)).astype(np.uint8)


def blur_and_gain(rgb: Bytes) -> Bytes:
    """Gaussian blur of sigma 1, then `gain`: the simplest denoiser there is."""
    return gain(np.asarray(cv2.GaussianBlur(rgb, (0, 0), 1.0), np.uint8))


def equalise(rgb: Bytes) -> Bytes:
    """Histogram equalisation of the luma; the colours are kept."""
    return _on_luma(rgb, cv2.equalizeHist)


def clahe(rgb: Bytes) -> Bytes:
    """Contrast-limited adaptive histogram equalisation of the luma, limit 2, 8x8 tiles."""
    return _on_luma(rgb, cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply)


def retinex(rgb: Bytes) -> Bytes:
    """Multi-scale Retinex with colour restoration (Jobson, Rahman, Woodell 1997), sigmas 15, 80 and 250.

    Log of the picture over its surround, mean of three scales, times the colour term log(125 I_c / sum of I); the
    1st to 99th percentile is stretched to 0..255, which takes the place of the authors' gain and offset.
    """
    image = rgb.astype(np.float32) + 1
    scales = [np.log(image) - np.log(_surround(image, sigma)) for sigma in RETINEX_SIGMAS]
    colour = np.log(125 * image) - np.log(image.sum(axis=2, keepdims=True))
    restored = colour * (sum(scales) / len(scales))
    low, high = np.percentile(restored, (1, 99))
    return np.round(np.clip((restored - low) / max(1e-6, high - low), 0, 1) * 255).astype(np.uint8)


BASELINES: Final[dict[str, Method]] = {
    "raw": raw,
    "gamma 0.4": gamma,
    "gain to mean 0.4": gain,
    "blur and gain": blur_and_gain,
    "equalisation": equalise,
    "CLAHE": clahe,
    "MSRCR": retinex,
}


def _on_luma(rgb: Bytes, change: Callable[[Bytes], Bytes]) -> Bytes:
    planes = cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb)
    planes[..., 0] = change(np.ascontiguousarray(planes[..., 0]))
    return np.asarray(cv2.cvtColor(planes, cv2.COLOR_YCrCb2RGB), np.uint8)


def _surround(image: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[np.float32]:
    """Gaussian blur; a wide one on a reduced picture, where it takes milliseconds instead of seconds."""
    step = max(1, int(sigma // 8))
    height, width = image.shape[:2]
    small = cv2.resize(image, (-(-width // step), -(-height // step)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / step, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
