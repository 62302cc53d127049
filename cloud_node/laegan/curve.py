"""The Zero-DCE stage: one curve lifts the exposure of a frame, solved for it or predicted by DCE-Net.

Zero-DCE (CVPR 2020) and Zero-DCE++ (TPAMI 2021), Guo, Li et al.

Shapes at line ends: B batch, H and W the frame, h and w the view of it that is looked at.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cloud_node.laegan.attention import LUMA, luma
from cloud_node.laegan.presets import GeneratorConfig

CURVE_ITERATIONS = 8
PAGE, DUSK = 0.70, 0.22  # mean luma of a page, and of a scene that was half lit already
SOLVER_SIDE = 48  # pixels of the shorter side that the exposure solver looks at
SOLVER_STEPS, SOLVER_REACH = 25, 3.2  # curves it tries, and atanh of the steepest


def enhance_curve(low: Tensor, alpha: Tensor) -> Tensor:
    """Zero-DCE's curve, x <- x + a_n x (1 - x), n = 1..8 (eq. 3 of the Zero-DCE paper).

    low: (..., 3, H, W) in [0, 1]. alpha: (..., 24, H, W) in [-1, 1], 8 maps of 3 channels; or one map used 8 times,
    of 3 channels or of one for all colours, (..., 1, H, W) or (..., 1, 1, 1).
    Returns (..., 3, H, W) in [0, 1]; monotone in low, and 0 and 1 stay where they are.
    """
    maps = alpha.split(min(3, alpha.shape[-3]), dim=-3)
    for n in range(CURVE_ITERATIONS):
        a = maps[n % len(maps)]
        low = low * torch.addcmul(
            1 + a, a, low, value=-1
        )  # each use of `low` doubles a compiler's work: two, not three
    return low


def exposure_level(view: Tensor, level: float) -> Tensor:
    """The mean luma that a frame shall get: RGB (B, 3, h, w) in [0, 1], h and w at least 4 -> (B, 1).

    `level` for a dark scene. PAGE for a frame as even as a page or a plate that fills it, which is white by day; less
    as it nears black, where any frame is even. DUSK for a scene that is half lit already, or has lamps in it: what can
    be read there stands near the lamps, and lifting everything burns them out. Chosen by
    detection and real pairs on training scenes (docs/network.md).
    """
    y = luma(view)
    mean = y.mean(dim=(1, 2, 3))
    areas = F.avg_pool2d(y, 4).flatten(1)  # neither noise nor ink makes a frame uneven
    page = (2 - areas.std(dim=1) / areas.mean(dim=1).clamp(min=1e-3) / 0.16).clamp(0, 1)
    page = page * (mean * 255 / 4).clamp(0, 1)
    lamps = (view.amax(dim=1) >= 0.9).float().mean(dim=(1, 2))  # share of the frame
    lit = torch.maximum((mean - 0.12) / 0.08, lamps / 0.015).clamp(0, 1)
    scene = level - max(0.0, level - DUSK) * lit
    return torch.lerp(scene, torch.full_like(scene, PAGE), page)[:, None]


def solve_curve(low: Tensor, level: float) -> Tensor:
    """The one curve of a frame that brings its mean luma to `exposure_level`: (B, 3, H, W) in [0, 1] -> (B, 1, 1, 1).

    alpha is in [0, 1): 0 where the frame is bright enough already, 0.997 where no curve is steep enough.

    A longer exposure is one monotone curve for the whole frame; on real pairs this one comes closer to it than any
    gain, gamma or local map (docs/network.md). Its only free number follows from the level: solved, not learned.
    """
    stride = max(1, min(low.shape[-2:]) // SOLVER_SIDE)
    view = low[..., ::stride, ::stride].float()  # picked, not averaged: the mean of curves needs the real levels
    target = exposure_level(view, level)  # (B, 1)
    shifts = torch.linspace(0, SOLVER_REACH, SOLVER_STEPS, device=low.device)
    lit = enhance_curve(view[:, None], torch.tanh(shifts).view(1, -1, 1, 1, 1))  # (B, K, 3, h, w)
    # Not a matrix product, which autocast would run in half precision, nor a tensor of weights, which would be copied
    # to the device in the middle of a CUDA graph.
    red, green, blue = lit.mean(dim=(-2, -1)).unbind(dim=-1)
    means = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue  # (B, K), rising along K
    upper = (means < target).sum(dim=1, keepdim=True).clamp(1, SOLVER_STEPS - 1)
    below, above = means.gather(1, upper - 1), means.gather(1, upper)
    part = ((target - below) / (above - below).clamp(min=1e-6)).clamp(0, 1)
    shift = (upper - 1 + part) * (SOLVER_REACH / (SOLVER_STEPS - 1))
    return torch.tanh(shift).view(-1, 1, 1, 1).to(low.dtype)


class ZeroDCE(nn.Module):
    """DCE-Net, which predicts the curve maps: seven 3x3 convolutions with symmetric skips. 79,416 parameters."""

    def __init__(self, cfg: GeneratorConfig, channels: int = 32):
        super().__init__()
        self.cfg = cfg
        c, maps = channels, 3 * cfg.curve_maps
        widths = [(3, c), (c, c), (c, c), (c, c), (2 * c, c), (2 * c, c), (2 * c, maps)]
        # Zeros around a view of few pixels would be a frame of false darkness.
        border: Literal["replicate", "zeros"] = "replicate" if cfg.curve_side else "zeros"
        convs = [nn.Conv2d(i, o, 3, padding=1, padding_mode=border) for i, o in widths]
        for conv in convs:
            nn.init.normal_(conv.weight, std=0.05 if cfg.curve_side else 0.02)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        self.convs = nn.ModuleList(convs)

    def forward(self, low: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> curve maps (B, 3 * maps, H, W) in (-1, 1)."""
        cfg, (height, width) = self.cfg, low.shape[-2:]
        seen = low
        if cfg.curve_side:
            shorter = min(height, width)
            size = tuple(max(1, round(side * cfg.curve_side / shorter)) for side in (height, width))
            seen = F.interpolate(low, size, mode="area")  # (B, 3, 32, 48) for 400 x 600
        dtype = next(self.parameters()).dtype
        c1, c2, c3, c4, c5, c6, c7 = self.convs
        x1 = F.relu(c1(seen.to(dtype)))
        x2 = F.relu(c2(x1))
        x3 = F.relu(c3(x2))
        x4 = F.relu(c4(x3))
        x5 = F.relu(c5(torch.cat([x3, x4], 1)))
        x6 = F.relu(c6(torch.cat([x2, x5], 1)))
        alpha = torch.tanh(c7(torch.cat([x1, x6], 1))).to(low.dtype)
        if cfg.curve_side:
            alpha = F.interpolate(alpha, (height, width), mode="bilinear", align_corners=False)
        return alpha


class SolvedCurve(nn.Module):
    """In DCE-Net's place: one curve for the frame, solved for its exposure. No parameters."""

    def __init__(self, level: float):
        super().__init__()
        self.level = level

    def forward(self, low: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> alpha (B, 1, 1, 1) in [0, 1)."""
        return solve_curve(low, self.level)
