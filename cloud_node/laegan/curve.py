"""The Zero-DCE stage: a curve lifts the exposure of a frame, solved for it or predicted by DCE-Net.

References:
1) Zero-DCE (CVPR 2020) and Zero-DCE++ (TPAMI 2021), Guo, Li et al.
2) He, Sun: Fast Guided Filter, arXiv 1505.00996 (2015): where light parts end, the flatter curve ends too.

Shapes at line ends: B batch, H and W the frame, h and w the view of it that is looked at.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cloud_node.laegan.attention import LUMA, luma
from cloud_node.laegan.presets import GeneratorConfig

CURVE_ITERATIONS = 8
PAGE, LAMPS, DAY = 0.70, 0.22, 0.25  # mean luma of a page, of a scene with lamps in it, and of one that is lit already
SLIGHT = 0.03  # a curve that is no steeper is left out: it would show nothing new, and may cost a faint line
KNEE, KNEE_LAMPS, SLOPE = 0.75, 0.5, 0.3  # where the shoulder for light parts begins, and how steep it is
CELLS = 96  # of the shorter side, in which the light of a part is measured
SMOOTHEST = 3e-3  # variance of the luma in 3x3 cells, of 0..1, above which the curve follows the pixels
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


def exposure_level(view: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """What a frame shall become: RGB (B, 3, h, w) in [0, 1], h and w at least 4 -> mean luma and knee, both (B, 1).

    The mean is `level` for a dark scene. PAGE for a frame as even as a page or a plate that fills it, which is white
    by day; less as it nears black, where any frame is even. LAMPS for a scene with lamps in it, and its own mean for
    one that is lit already. Parts that the curve lifts above the knee are lifted less (`local_curve`): those of a scene
    with something bright in it soonest, a few lamps or reflections, and those of a page never. Chosen by detection and
    real pairs on training scenes (docs/network.md).
    """
    y = luma(view)
    mean = y.mean(dim=(1, 2, 3))
    areas = F.avg_pool2d(y, 4).flatten(1)  # neither noise nor ink makes a frame uneven
    page = (2 - areas.std(dim=1) / areas.mean(dim=1).clamp(min=1e-3) / 0.16).clamp(0, 1)
    page = page * (mean * 255 / 4).clamp(0, 1)
    bright = (view.amax(dim=1) >= 0.9).float().mean(dim=(1, 2))  # share of the frame
    lamps = ((bright - 0.004) / 0.011).clamp(0, 1)
    scene = level - max(0.0, level - LAMPS) * lamps
    scene = scene - (scene - DAY).clamp(min=0) * ((mean - 0.18) / 0.07).clamp(0, 1)
    knee = KNEE + (KNEE_LAMPS - KNEE) * ((bright - 0.0005) / 0.0035).clamp(0, 1)
    return torch.lerp(scene, torch.full_like(scene, PAGE), page)[:, None], (knee + (1 - knee) * page)[:, None]


def solve_curve(low: Tensor, level: float) -> Tensor:
    """The one curve of a frame that brings its mean luma to `exposure_level`: (B, 3, H, W) in [0, 1] -> (B, 1, 1, 1).

    alpha is in [0, 1): 0 where the frame is nearly bright enough already, 0.997 where no curve is steep enough.

    A longer exposure is one monotone curve for the whole frame; on real pairs this one comes closer to it than any
    gain, gamma or local map (docs/network.md). Its only free number follows from the level: solved, not learned.
    """
    view = _view(low)
    return _solve(view, exposure_level(view, level)[0]).to(low.dtype)


def local_curve(low: Tensor, level: float) -> Tensor:
    """`solve_curve`, with a flatter curve for parts that are light already: (B, 3, H, W) in [0, 1] -> (B, 1, H, W).

    The frame's curve, and above the knee a shoulder, says how light a cell of the view shall become, yet never darker
    than it was; the curve that does so is the cell's. It is brought to the pixels by a guided filter: it changes where
    the light does, so that neither a lamp nor the dark beside it gets a halo; within a sign or a plate it is one curve,
    so that strokes keep their contrast. alpha is in [0, that of `solve_curve`].
    """
    view = _view(low)
    target, knee = exposure_level(view, level)
    alpha, knee = _solve(view, target), knee[..., None, None]  # (B, 1, 1, 1)
    guide = luma(low.float())
    height, width = guide.shape[-2:]
    stride = max(1, min(height, width) // CELLS)
    whole = F.pad(guide, (0, -width % stride, 0, -height % stride), mode="replicate")
    cells = F.avg_pool2d(whole, stride)  # (B, 1, h, w)
    slope, offset = guided(cells, _looked_up(flatter_curves(alpha, knee), cells))
    maps = F.interpolate(torch.cat([slope, offset], dim=1), scale_factor=float(stride), mode="bilinear")
    slope, offset = maps[..., :height, :width].split(1, dim=1)
    local = torch.addcmul(offset, slope, guide).clamp(min=0)
    return torch.minimum(local, alpha).to(low.dtype)


def flatter_curves(alpha: Tensor, knee: Tensor) -> Tensor:
    """The curve of a part for each of 256 levels that it may have, given the frame's: two (B, 1, 1, 1) -> (B, 256)."""
    levels = torch.linspace(0, 1, 256, device=alpha.device).view(1, 1, 1, -1)
    lit = enhance_curve(levels, alpha)  # (B, 1, 1, 256)
    wanted = torch.minimum(lit, torch.maximum(levels, knee + SLOPE * (lit - knee)))
    curves = enhance_curve(levels[:, None], torch.tanh(_shifts(alpha)).view(1, -1, 1, 1, 1))  # (1, K, 1, 1, 256)
    flatter = _meet(curves[:, :, 0].expand(len(alpha), -1, -1, -1), wanted)
    table = torch.where(wanted < lit, torch.minimum(flatter, alpha), alpha).flatten(1)
    # White stays white by any curve: its neighbour's leaves the rim of a lamp alone.
    return torch.cat([table[:, :-1], table[:, -2:-1]], dim=1)


def _looked_up(table: Tensor, cells: Tensor) -> Tensor:
    """The table (B, 256) at levels (B, 1, h, w) in [0, 1], linear in between."""
    place = cells.flatten(1) * 255
    below = place.long().clamp(max=254)
    return torch.lerp(table.gather(1, below), table.gather(1, below + 1), place - below).view_as(cells)


def guided(guide: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and offset, smoothed, with which `values` are linear in the guide in each 3x3: all (B, 1, h, w)."""

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)

    guides, others = mean(guide), mean(values)
    slope = (mean(guide * values) - guides * others) / (mean(guide * guide) - guides * guides + SMOOTHEST)
    return mean(slope), mean(others - slope * guides)


def _view(low: Tensor) -> Tensor:
    stride = max(1, min(low.shape[-2:]) // SOLVER_SIDE)
    return low[..., ::stride, ::stride].float()  # picked, not averaged: the mean of curves needs the real levels


def _shifts(low: Tensor) -> Tensor:
    return torch.linspace(0, SOLVER_REACH, SOLVER_STEPS, device=low.device)


def _solve(view: Tensor, target: Tensor) -> Tensor:
    """The curve that gives a view (B, 3, h, w) the mean luma `target` (B, 1), none if slight: alpha (B, 1, 1, 1)."""
    lit = enhance_curve(view[:, None], torch.tanh(_shifts(view)).view(1, -1, 1, 1, 1))  # (B, K, 3, h, w)
    # Not a matrix product, which autocast would run in half precision, nor a tensor of weights, which would be copied
    # to the device in the middle of a CUDA graph.
    red, green, blue = lit.mean(dim=(-2, -1)).unbind(dim=-1)
    means = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue  # (B, K)
    alpha = _meet(means, target).view(-1, 1, 1, 1)
    return alpha * (alpha / SLIGHT - 1).clamp(0, 1)


def _meet(values: Tensor, target: Tensor) -> Tensor:
    """The alpha at which `values` (B, K, ...) of the K curves, rising along K, meet the target (B, 1, ...)."""
    upper = (values < target).sum(dim=1, keepdim=True).clamp(1, SOLVER_STEPS - 1)
    below, above = values.gather(1, upper - 1), values.gather(1, upper)
    part = ((target - below) / (above - below).clamp(min=1e-6)).clamp(0, 1)
    return torch.tanh((upper - 1 + part) * (SOLVER_REACH / (SOLVER_STEPS - 1)))


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
    """In DCE-Net's place: a curve solved for the frame's exposure, flatter where it is light. No parameters."""

    def __init__(self, level: float):
        super().__init__()
        self.level = level

    def forward(self, low: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> alpha (B, 1, H, W) in [0, 1); 0 for a frame without a single photon."""
        signal = (low.amax(dim=(1, 2, 3), keepdim=True) * 255).clamp(0, 1)
        return local_curve(low, self.level) * signal
