"""Luminance and text attention and edge measures of LAE-GAN, as pure functions on RGB batches.

References: J Cloud Comp 12:160 (2023), sections "Attention-guided AGM-Net", "Text attention mechanism" and
"Edge attention map".
"""

import math
from collections.abc import Sequence

import kornia
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # BT.601, the same weights as kornia.color.rgb_to_grayscale
TEXT_LEVEL = 200 / 255  # what the paper paints text regions with

Outline = Sequence[tuple[float, float]] | tuple[float, float, float, float]  # polygon, or left, top, right, bottom


def luma(rgb: Tensor) -> Tensor:
    """Luminance Y = 0.299 R + 0.587 G + 0.114 B: (B, 3, H, W) in [0, 1] -> (B, 1, H, W) in [0, 1]."""
    return kornia.color.rgb_to_grayscale(rgb)


def luminance_attention(rgb: Tensor) -> Tensor:
    """The self-regularised attention A = 1 - Y: (B, 3, H, W) in [0, 1] -> (B, 1, H, W) in [0, 1].

    Near 1 where the frame is dark and shall be enhanced, near 0 where it is bright and shall stay.
    Source: the paper's "Attention-guided AGM-Net" ("1-L, element-wise difference").

    >>> luminance_attention(torch.ones(1, 3, 2, 2)).abs().max().item() < 1e-6
    True
    """
    return (1 - luma(rgb)).clamp(0, 1)


def sobel_sharpness(rgb: Tensor) -> Tensor:
    """Mean Sobel gradient magnitude of the luma: (B, 3, H, W) in [0, 1] -> (B,), from 0 (flat) up to about 1.

    Kernels are normalised (each sums to 1 in absolute value), borders replicated. Noise counts as sharpness,
    so compare frames of the same scene and light only. Source: the paper's "Edge attention map";
    kornia.filters.sobel.

    >>> sobel_sharpness(torch.full((2, 3, 8, 8), 0.5)).shape
    torch.Size([2])
    """
    return kornia.filters.sobel(luma(rgb), normalized=True, eps=1e-12).mean(dim=(1, 2, 3))


def text_mask(outlines: Sequence[Outline], height: int, width: int) -> npt.NDArray[np.float32]:
    """(height, width), 1 inside the outlines, their borders included, and 0 elsewhere.

    An outline is a polygon of three or more (x, y), or a box (left, top, right, bottom), in pixels; what lies
    outside the frame is cut off.

    Raises:
        ValueError: for an outline that is neither, or not finite, with its index.

    >>> text_mask([(1, 0, 2, 1)], 2, 4).tolist()
    [[0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0]]
    """
    canvas = Image.new("L", (width, height))
    draw = ImageDraw.Draw(canvas)
    for i, outline in enumerate(outlines):
        points = np.asarray(outline, np.float64)
        if points.shape == (4,):
            left, top, right, bottom = points
            points = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
            raise ValueError(
                f"outline {i} is no polygon of three or more finite (x, y), nor (left, top, right, bottom): {outline!r}"
            )
        draw.polygon([(x, y) for x, y in points.tolist()], fill=255, outline=255)
    return np.asarray(canvas, np.float32) / np.float32(255)


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (B, C, H, W) of any size, borders replicated, cut at 3 sigma; sigma 0 changes nothing.

    Raises:
        ValueError: for a negative sigma.
    """
    if sigma < 0:
        raise ValueError(f"sigma {sigma} of a blur must be 0 pixels or more")
    if sigma == 0:
        return image
    side = 2 * math.ceil(3 * sigma) + 1
    return kornia.filters.gaussian_blur2d(image, (side, side), (sigma, sigma), border_type="replicate")


def check_mask(mask: Tensor, rgb: Tensor) -> None:
    """ValueError where mask is not (B, 1, H, W) of the frames (B, C, H, W): broadcasting would hide it."""
    expected = (rgb.shape[0], 1, *rgb.shape[2:])
    if tuple(mask.shape) != expected:
        raise ValueError(f"text mask {tuple(mask.shape)} must be {expected}, as the frames are {tuple(rgb.shape)}")


def paint_text(rgb: Tensor, mask: Tensor, level: float = TEXT_LEVEL) -> Tensor:
    """The frames (B, 3, H, W) with the pixels where mask (B, 1, H, W) is above 1/2 set to a flat `level`, 0..1.

    Raises:
        ValueError: for a mask that does not fit the frames.
    """
    check_mask(mask, rgb)
    return torch.where(mask > 0.5, rgb.new_tensor(level), rgb)


def text_attention(rgb: Tensor, mask: Tensor, level: float = TEXT_LEVEL) -> Tensor:
    """The paper's text attention map I' = 1 - Y(frame with its text painted over): (B, 1, H, W) in [0, 1].

    rgb: the pre-enhanced frames (B, 3, H, W) in [0, 1]. mask: (B, 1, H, W), their text as a detector found it.
    `level`, 0..1, is the paper's 200 of 255. Source: "Text attention mechanism".

    >>> text_attention(torch.zeros(1, 3, 1, 2), torch.tensor([[[[0.0, 1.0]]]])).mul(255).round().flatten().tolist()
    [255.0, 55.0]
    """
    return luminance_attention(paint_text(rgb, mask, level))


def local_statistics(luminance: Tensor, mask: Tensor, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and standard deviation of the luminance around a place, in the pixels of the mask alone, and the mask there.

    luminance, mask: (B, 1, H, W). The window is a Gaussian of `sigma` pixels times the mask, so what surrounds a text
    box does not count in it. Places are cells of k x k pixels, k = sigma / 4: the maps are as smooth as that, and a
    hundred times cheaper. Returns three (B, 1, ceil(H / k), ceil(W / k)); the first two mean nothing where the third
    is 0. Wants float32: a variance is a small difference.
    """
    cell = max(1, int(sigma / 4))

    def cells(image: Tensor) -> Tensor:
        return F.avg_pool2d(image, cell, ceil_mode=True, count_include_pad=False)

    pooled = cells(torch.cat([mask, mask * luminance, mask * luminance**2], dim=1))
    weight, first, second = blur(pooled, sigma / cell).split(1, dim=1)
    weight = weight.clamp(min=1e-4)
    mean = first / weight
    variance = second / weight - mean**2
    # 1e-6: the slope at a flat patch stays finite.
    return mean, torch.sqrt(variance.clamp(min=0) + 1e-6), pooled[:, :1]
