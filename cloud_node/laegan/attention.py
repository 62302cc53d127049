"""Luminance attention and edge measures of LAE-GAN, as pure functions on RGB batches.

References: J Cloud Comp 12:160 (2023), sections "Attention-guided AGM-Net" and "Edge attention map".
"""

import kornia
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # BT.601, the same weights as kornia.color.rgb_to_grayscale


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
