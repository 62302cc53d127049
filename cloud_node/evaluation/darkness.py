"""The dark of the evaluation: another sensor and another rendering than any training run has seen.

Training draws from the other cameras' tables with Gaussian read noise and renders sRGB; here a phone's sensor
(IMX686, 10 bit) is simulated down to its Bayer mosaic. Noise model: Wei et al. ELD (CVPR 2020), table of
Feng et al. PMN (ACM MM 2022).
"""

import io
import math

import cv2
import numpy as np
from PIL import Image

from cloud_node.training.darkness import CAMERAS, EVALUATION_CAMERA, to_linear

CAMERA = CAMERAS[EVALUATION_CAMERA]
BLACK, WHITE = 64, 1023  # digital numbers of the 10-bit sensor
TUKEY_SHAPE = 0.102  # lambda of the read noise's Tukey-lambda distribution
TUKEY_SCALE = (0.8519, 0.0799, 0.029)  # log scale = slope * log K + offset + N(0, spread)
RED_GAIN, BLUE_GAIN = (1.8, 2.2), (1.5, 1.9)  # white balance; red and blue pixels get so much less light
S_CURVE = 0.25  # share of smoothstep in the rendering
JPEG_QUALITY = 85  # with 4:2:0 chroma
_PEDESTAL = 256  # keeps noise below zero through the demosaicing, in digital numbers
_DEPTH = 16  # finer steps while demosaicing


def darken(rgb: np.ndarray, seed: int, ratio: tuple[float, float]) -> np.ndarray:
    """The photograph as the phone would have taken it in less light, not amplified afterwards.

    rgb: (H, W, 3) uint8 sRGB. ratio: range of how many times less light; drawn evenly in its logarithm, as is
    the sensor's gain K. Returns (H, W, 3) uint8. The same seed gives the same picture.
    """
    rng = np.random.default_rng(seed)
    dimming, gains, log_gain = conditions(rng, ratio)
    light = to_linear(rgb / np.float32(255)) / np.float32(dimming)
    return compress(render(demosaic(expose(mosaic(light / gains), log_gain, rng), gains)))


def conditions(rng: np.random.Generator, ratio: tuple[float, float]) -> tuple[float, np.ndarray, float]:
    """How many times less light there is, the gains of red, green and blue (3,) float32, and log K: drawn in turn."""
    dimming = float(np.exp(rng.uniform(*np.log(ratio))))
    gains = np.array([rng.uniform(*RED_GAIN), 1.0, rng.uniform(*BLUE_GAIN)], np.float32)
    return dimming, gains, float(rng.uniform(*CAMERA.log_gain))


def sensor_noise(rng: np.random.Generator, log_gain: float) -> tuple[float, float]:
    """Scale of the read noise and standard deviation of a row's offset, in digital numbers: drawn in turn."""
    read, row = (math.exp(k * log_gain + b + rng.normal(0, sd)) for k, b, sd in (TUKEY_SCALE, CAMERA.row))
    return read, row


def mosaic(rgb: np.ndarray) -> np.ndarray:
    """One colour at each pixel, rows RGRG.. and GBGB..: (H, W, 3) -> (H, W)."""
    raw = rgb[..., 1].copy()
    raw[0::2, 0::2] = rgb[0::2, 0::2, 0]
    raw[1::2, 1::2] = rgb[1::2, 1::2, 2]
    return raw


def expose(light: np.ndarray, log_gain: float, rng: np.random.Generator) -> np.ndarray:
    """The sensor's digital numbers, (H, W) uint16 in 0..1023, for light of 0..1 (1 just saturates) at log K.

    Photons are Poisson, read noise is Tukey-lambda, each row shares an offset, and the converter rounds.
    """
    gain = math.exp(log_gain)
    read, row = sensor_noise(rng, log_gain)
    numbers = rng.poisson(light * ((WHITE - BLACK) / gain)) * gain
    numbers = numbers + tukey_lambda(light.shape, TUKEY_SHAPE, rng) * read + rng.normal(0, row, (light.shape[0], 1))
    return np.clip(np.round(numbers + BLACK), 0, WHITE).astype(np.uint16)


def tukey_lambda(shape: tuple[int, ...], lam: float, rng: np.random.Generator) -> np.ndarray:
    """Draws from the Tukey-lambda distribution by its quantile function (p^l - (1-p)^l) / l; l = 0 is logistic."""
    p = rng.uniform(1e-12, 1 - 1e-12, shape)
    return np.log(p / (1 - p)) if lam == 0 else (p**lam - (1 - p) ** lam) / lam


def demosaic(raw: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Balanced linear light, (H, W, 3) float32 in [0, 1], of an RGGB mosaic (H, W) in 0..1023; edge-aware."""
    balanced = (raw.astype(np.float32) - BLACK) * mosaic(np.broadcast_to(gains, (*raw.shape, 3)))
    fine = np.clip(np.round((balanced + _PEDESTAL) * _DEPTH), 0, 65535).astype(np.uint16)
    rgb = cv2.cvtColor(fine, cv2.COLOR_BayerBG2RGB_EA).astype(np.float32)  # OpenCV names RGGB by its second row
    return np.clip((rgb / _DEPTH - _PEDESTAL) / (WHITE - BLACK), 0, 1)


def render(linear: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] -> uint8: a pure power of 1/2.2, then a mild S-curve."""
    x = linear ** (1 / 2.2)
    curved = (1 - S_CURVE) * x + S_CURVE * x * x * (3 - 2 * x)
    return np.round(np.clip(curved, 0, 1) * 255).astype(np.uint8)


def compress(rgb: np.ndarray) -> np.ndarray:
    """What a JPEG of quality 85 with 4:2:0 chroma leaves of (H, W, 3) uint8."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling="4:2:0")
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))
