"""Losses on RGB batches (B, 3, H, W) in [0, 1]; each gives one scalar tensor.

The Zero-DCE stage learns without reference: spatial, exposure, colour and smoothness terms (Guo et al.,
CVPR 2020, section 3.3). AGM-Net's first training has references: charbonnier, gradient and tone. Without pairs,
self-feature preservation keeps the content; see also `text_losses` and `adversarial_losses`.
"""

from collections.abc import Mapping, Sequence

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


def self_feature_preservation(features_a: Tensor | Sequence[Tensor], features_b: Tensor | Sequence[Tensor]) -> Tensor:
    """L_SFP = E[(IN(phi(a)) - IN(phi(b)))^2]: what is in the picture shall stay, however it is lit.

    features_a, features_b: one map (B, C, h, w) each, or as many of several layers, whose terms are averaged.
    IN, each channel of each sample brought to mean 0 and variance 1, takes the light out of the comparison.
    Global on whole frames, local on the crops of `discriminators.random_crops`.
    Source: the paper's "Loss function"; instance normalisation as in EnlightenGAN.

    Raises:
        ValueError: for maps that do not go with each other, or of a single pixel, which IN makes 0.
    """
    ones, others = ([maps] if isinstance(maps, Tensor) else list(maps) for maps in (features_a, features_b))
    if not ones or len(ones) != len(others):
        raise ValueError(f"features of {len(ones)} layers against {len(others)}: give the same, one or more, of both")
    terms = []
    for one, other in zip(ones, others, strict=True):
        if one.shape != other.shape or one.ndim != 4:
            raise ValueError(f"features {tuple(one.shape)} against {tuple(other.shape)}: expected (B, C, h, w) twice")
        if one.shape[2] * one.shape[3] < 2:
            raise ValueError(f"features {tuple(one.shape)} of one pixel: take larger images or an earlier layer")
        terms.append(((F.instance_norm(one.float()) - F.instance_norm(other.float())) ** 2).mean())
    return torch.stack(terms).mean()


def term_shares(terms: Mapping[str, Tensor]) -> dict[str, float]:
    """Each weighted term's share of the sum of all, 0..1, to be logged; all 0 where every term is 0.

    Copies to the host once, whatever the number of terms.

    >>> term_shares({"text": torch.tensor(1.0), "edge": torch.tensor(3.0)})
    {'text': 0.25, 'edge': 0.75}
    """
    if not terms:
        return {}
    values = torch.stack([term.detach().float().abs() for term in terms.values()])
    total = values.sum()
    shares = torch.where(total == 0, values, values / total)
    return dict(zip(terms, shares.tolist(), strict=True))
