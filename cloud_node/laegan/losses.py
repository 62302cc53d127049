"""Losses on RGB batches (B, 3, H, W) in [0, 1]; each gives one scalar tensor.

The Zero-DCE stage learns without reference: spatial, exposure, colour and smoothness terms (Guo et al.,
CVPR 2020, section 3.3). AGM-Net's first training has references: charbonnier, gradient and tone.
"""

import kornia
import torch
import torch.nn.functional as F
from torch import Tensor


def spatial_loss(enhanced: Tensor, low: Tensor) -> Tensor:
    """Contrast between neighbouring 4x4 regions shall stay: squared change of their four differences."""
    change = F.avg_pool2d((enhanced - low).mean(dim=1, keepdim=True), 4)
    # Zero padding, as published: a border region is compared with black outside, which pins its level a little.
    padded = F.pad(change, (1, 1, 1, 1))
    inner = padded[..., 1:-1, 1:-1]
    neighbours = (padded[..., 1:-1, :-2], padded[..., 1:-1, 2:], padded[..., :-2, 1:-1], padded[..., 2:, 1:-1])
    return torch.stack([((inner - other) ** 2).mean() for other in neighbours]).sum()


def exposure_loss(enhanced: Tensor, low: Tensor, level: float = 0.6, region: int = 16) -> Tensor:
    """Mean of each region x region pixels shall reach `level`; a region of the frame that is brighter shall stay.

    The paper's term pulls bright regions down to the level as well: a white page would turn grey.
    """
    mean = F.avg_pool2d(enhanced.mean(dim=1, keepdim=True), region)
    goal = F.avg_pool2d(low.mean(dim=1, keepdim=True), region).clamp(min=level)
    return ((mean - goal) ** 2).mean()


def colour_loss(enhanced: Tensor) -> Tensor:
    """Grey world: channel means shall be alike. sqrt of the sum of (J_p - J_q)^4 over the channel pairs."""
    r, g, b = enhanced.mean(dim=(2, 3)).unbind(dim=1)
    return torch.sqrt((r - g) ** 4 + (r - b) ** 4 + (g - b) ** 4 + 1e-12).mean()


def smoothness_loss(alpha: Tensor) -> Tensor:
    """Illumination smoothness of curve maps (B, C, h, w): squared differences of neighbours."""
    vertical = ((alpha[..., 1:, :] - alpha[..., :-1, :]) ** 2).mean()
    horizontal = ((alpha[..., 1:] - alpha[..., :-1]) ** 2).mean()
    return 2 * alpha.shape[1] * (vertical + horizontal)


def charbonnier(output: Tensor, target: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Weighted mean of sqrt((output - target)^2 + 1e-6), an L1 that is smooth at 0."""
    return (weight * torch.sqrt((output - target) ** 2 + 1e-6)).mean()


def gradient_loss(output: Tensor, target: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Weighted L1 between the Sobel derivatives (both directions, so that an edge keeps its sign)."""
    difference = kornia.filters.spatial_gradient(output - target, mode="sobel", normalized=True)
    return (weight * difference.abs().sum(dim=2)).mean()


def tone_loss(output: Tensor, target: Tensor, region: int = 16) -> Tensor:
    """L1 between the means of region x region pixels: exposure and colour, blind to detail and noise."""
    return F.l1_loss(F.avg_pool2d(output, region), F.avg_pool2d(target, region))
