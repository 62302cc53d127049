"""Low-light synthesis: a clean photograph -> what a camera would have recorded in far less light.

Everything happens in linear light: illumination, photon and read noise of published camera tables, demosaicing;
then sRGB, 8 bit and what a camera's codec leaves (`codecs`). Sources: Brooks et al. (CVPR 2019), Wei et al. ELD
(CVPR 2020), Feng et al. PMN (ACM MM 2022).
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from cloud_node.training.codecs import delivered


@dataclass(frozen=True)
class Camera:
    """A sensor's noise: log s = slope * log K + offset + N(0, spread), all in digital numbers."""

    log_gain: tuple[float, float]  # range of log K, the system gain; drawn evenly
    read: tuple[float, float, float]  # slope, offset, spread of the Gaussian read noise
    row: tuple[float, float, float]  # the same for the noise that a whole row shares
    full: int  # white point minus black level


CAMERAS = {
    "sony_a7s2_high": Camera((0.646, 2.516), (0.8288, 0.4416, 0.0015), (0.6295, -1.510, 0.026), 15871),
    "sony_a7s2_low": Camera((-1.672, 0.422), (0.8297, 1.4934, 0.0036), (0.7878, -0.3423, 0.0283), 15871),
    "imx686_phone": Camera((-0.191, 2.168), (0.8519, 0.6799, 0.029), (0.8761, -2.1146, 0.033), 959),
    "canon_eld": Camera((-1.523, 1.099), (0.6771, 1.5122, 0.2464), (0.4713, -0.8079, 0.2436), 14335),
    # No sensor but the line through many: log read variance = 2.18 log shot + 1.20 (Brooks, section 3.1), 10 bits.
    "brooks_line": Camera((-2.3, 2.51), (1.09, -0.024, 0.13), (0.85, -2.1, 0.1), 1023),
    "nikon_d850": Camera((1.2, 2.483), (0.8322, -0.1754, 0.035), (0.8322, -2.3326, 0.301), 15871),
}
EVALUATION_CAMERA = "imx686_phone"  # never seen in training
TRAINING_CAMERAS = tuple(name for name in CAMERAS if name != EVALUATION_CAMERA)


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] -> linear light in [0, 1], any shape."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light -> sRGB in [0, 1], any shape; clips to [0, 1] first."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055).astype(np.float32)


def darkest(camera: Camera, log_gain: float, grey: float = 1.0) -> float:
    """How many times less light may fall before `grey` drowns, its signal no larger than its noise in one pixel.

    White by default: ink on paper is read over many pixels, so text outlives the single pixel.
    """
    gain, read = np.exp(log_gain), np.exp(camera.read[0] * log_gain + camera.read[1])
    return float(grey * camera.full / ((gain + np.sqrt(gain**2 + 4 * read**2)) / 2))


def record(
    linear: np.ndarray,
    camera: Camera,
    rng: np.random.Generator,
    bayer: bool = False,
    log_gain: float | None = None,
    binned: int = 1,
) -> np.ndarray:
    """What the sensor makes of linear light (H, W, 3) in [0, 1]: the same with noise, not amplified, from 0 on.

    log_gain: log K; None draws it from the camera's range. binned: pixels of the sensor averaged into one, as in a
    photograph made smaller.
    """
    log_gain = rng.uniform(*camera.log_gain) if log_gain is None else log_gain
    gain = np.exp(log_gain)
    read, row = (np.exp(s * log_gain + o + rng.normal(0, d)) for s, o, d in (camera.read, camera.row))
    balance = np.array([rng.uniform(1.4, 2.4), 1.0, rng.uniform(1.3, 2.2)], np.float32)  # red and blue get less light
    signal = linear * (camera.full / balance)
    noisy = rng.poisson(signal * (binned / gain)).astype(np.float32) * (gain / binned)
    noisy += rng.standard_normal(noisy.shape, dtype=np.float32) * (read * binned**-0.5)
    row *= binned**-0.25  # sqrt(binned) rows are averaged
    noisy += rng.standard_normal((noisy.shape[0], 1, 3), dtype=np.float32) * row
    noisy = np.round(noisy * binned) / binned  # the converter's step, coarsely where pixels are binned
    if bayer:
        noisy = _demosaic(noisy)
    return np.clip(noisy * (balance / camera.full), 0, 1)


def illumination(size: int, rng: np.random.Generator) -> np.ndarray:
    """Uneven light on a square frame: smooth shade in [0.15, 1] with lamps that reach 1, (size, size, 1)."""
    shade = np.exp(_smooth(size, int(rng.integers(2, 5)), rng) * rng.uniform(0.3, 1.2))
    shade = np.clip(shade / shade.max(), 0.15, 1)
    return shade[..., None].astype(np.float32)


def lamps(size: int, rng: np.random.Generator) -> np.ndarray:
    """Where lamps keep the scene as bright as by day: (size, size, 1) in [0, 1], soft at the borders."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    lit = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(1, 4)):
        radius = rng.uniform(0.05, 0.35)
        distance = np.hypot(x - rng.uniform(0, 1), (y - rng.uniform(0, 1)) * rng.uniform(0.6, 1.6)) / radius
        lit = np.maximum(lit, np.exp(-(distance ** rng.choice([2, 4, 8]))))
    return lit[..., None]


def darken(
    clean: np.ndarray, rng: np.random.Generator, ratio: tuple[float, float], whole: bool = False, drowned: float = 1.0
) -> np.ndarray:
    """A training frame: clean sRGB (S, S, 3) float32 in [0, 1] -> dark sRGB, 8-bit levels, same shape.

    ratio: range of how many times less light there is, never so little that a level of `drowned` is lost in noise.
    One frame in ten stays as bright as it was, one in four is lit unevenly with lamps, one in five is a photograph
    made smaller, with little noise. Two in five got even less light, down to that limit, and were amplified by the
    camera: as noisy as the deepest dark, at any brightness and with any sensor. `whole` leaves the blotches of
    demosaicing out, for the Zero-DCE stage.
    """
    size, kind = clean.shape[0], rng.random()
    linear = to_linear(clean)
    camera = CAMERAS[TRAINING_CAMERAS[rng.integers(len(TRAINING_CAMERAS))]]
    log_gain = rng.uniform(*camera.log_gain)
    limit = max(2.0, darkest(camera, log_gain, drowned))
    dimming = min(np.exp(rng.uniform(*np.log(ratio))), limit)
    amplified = (limit / dimming) ** rng.random() if rng.random() < 0.4 else 1.0
    light = np.full((1, 1, 1), 1 / dimming, np.float32)
    if kind < 0.1:
        light = np.full((1, 1, 1), rng.uniform(0.8, 1.0), np.float32)
    elif kind < 0.35:
        lit = lamps(size, rng)
        light = light * illumination(size, rng)
        light = light ** (1 - lit)  # between the dark's light and full light, even in stops
    elif kind < 0.7:
        light = light * illumination(size, rng)
    binned = int(4 ** rng.integers(1, 4)) if rng.random() < 0.2 else 1
    bayer = not whole and binned == 1 and rng.random() < 0.6
    recorded = record(linear * light / amplified, camera, rng, bayer, log_gain, binned) * amplified
    return delivered(to_srgb(recorded), rng)


def _smooth(size: int, knots: int, rng: np.random.Generator) -> np.ndarray:
    field = Image.fromarray(rng.standard_normal((knots, knots)).astype(np.float32))
    return np.asarray(field.resize((size, size), Image.Resampling.BICUBIC))


def _demosaic(raw: np.ndarray) -> np.ndarray:
    """Keep one colour at each pixel (RGGB) and fill the others bilinearly: noise becomes blotches, as in life."""
    mask = np.zeros(raw.shape, np.float32)
    mask[0::2, 0::2, 0] = mask[0::2, 1::2, 1] = mask[1::2, 0::2, 1] = mask[1::2, 1::2, 2] = 1
    return np.where(mask > 0, raw, _tent(raw * mask) / np.maximum(_tent(mask), 1e-6))


def _tent(x: np.ndarray) -> np.ndarray:
    x = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode="reflect")
    x = x[:-2] + 2 * x[1:-1] + x[2:]
    return x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]
