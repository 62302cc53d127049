"""LAE-GAN's generator, whole: the Zero-DCE stage lifts the exposure, AGM-Net removes noise and mends detail.

References:
1) LAE-GAN, J Cloud Comp 12:160 (2023): section "Attention-guided AGM-Net", Fig. 4 and 5.
   https://doi.org/10.1186/s13677-023-00533-4
2) Zero-DCE (CVPR 2020) and Zero-DCE++ (TPAMI 2021), Guo, Li et al.: the light-enhancement curve.
3) M-Net+ of SRMNet / HWMNet, Fan et al. (2022): gatepost pathways, SKFF fusion, SRB blocks.

Shapes at line ends: B batch, H and W the padded frame, h and w the frame after the stem, c the width.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cloud_node.laegan.attention import LUMA, luma, luminance_attention


@dataclass(frozen=True)
class GeneratorConfig:
    width: int = 0  # channels at level 0; level i has width * 2**i; 0 = the Zero-DCE stage alone
    levels: int = 4  # resolutions of AGM-Net ("four layers" in the paper)
    block: str = "srb"  # 'srb': selective residual block of M-Net+; 'plain': two 3x3 convolutions
    body: str = "agm"  # what follows the curve: 'agm', or 'unet' (EnlightenGAN's, the paper's ablation), 'student'
    stem: int = 1  # PixelUnshuffle factor before level 0; 2 makes level 0 four times cheaper
    attention: bool = True  # multiply features and residual by A = 1 - L; False is the paper's ablation
    level_hints: bool = False  # tell AGM-Net how much each pixel was lifted: its noise grew by that
    exposure: float = 0.0  # mean luma for which the curve is solved, one for the frame; 0 = DCE-Net predicts curves
    curve_side: int = 0  # DCE-Net sees the frame reduced to this shorter side, in pixels; 0 = all of it
    curve_maps: int = 8  # curve maps predicted: 8 = one for each iteration, 1 = one map used by all

    @property
    def multiple(self) -> int:
        """Height and width are padded to a multiple of this, in pixels."""
        return self.stem * 2 ** (self.levels - 1) if self.width else 1


PRESETS: dict[str, GeneratorConfig] = {
    "reference": GeneratorConfig(width=32, exposure=0.45),
    "fast": GeneratorConfig(width=24, block="plain", stem=2, level_hints=True, exposure=0.45),
    "edge": GeneratorConfig(width=32, levels=1, body="student", stem=4, level_hints=True, exposure=0.45),
    "paper": GeneratorConfig(width=32),  # the paper to the letter, to compare with
    "unet": GeneratorConfig(width=32, levels=5, body="unet", exposure=0.45),
    "zero-dce": GeneratorConfig(),
    "zero-dce-low": GeneratorConfig(curve_side=32, curve_maps=1),
}

CURVE_ITERATIONS = 8
PAGE, DUSK = 0.70, 0.22  # mean luma of a page, and of a scene that was half lit already
FULL_STRENGTH = 0.15  # the alpha from which on the body's residual counts in full
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


class SKFF(nn.Module):
    """Selective kernel feature fusion: K maps (B, C, H, W) -> their mix, weighed per sample and channel."""

    def __init__(self, channels: int, inputs: int):
        super().__init__()
        squeezed = max(channels // 8, 4)
        self.squeeze = nn.Sequential(nn.Conv2d(channels, squeezed, 1, bias=False), nn.PReLU())
        self.excite = nn.ModuleList(nn.Conv2d(squeezed, channels, 1, bias=False) for _ in range(inputs))
        self.of_image: list[Tensor] | None = None  # see `one_image`

    def weights(self, features: list[Tensor]) -> Tensor:
        """(K, B, C, 1, 1), the sum over K is 1."""
        if self.of_image:
            return self.of_image[0]
        pooled = torch.stack([feature.mean(dim=(2, 3), keepdim=True) for feature in features]).sum(dim=0)
        if self.of_image is not None:
            pooled = pooled.mean(dim=0, keepdim=True)
        squeezed = self.squeeze(pooled)
        weights = torch.stack([excite(squeezed) for excite in self.excite]).softmax(dim=0)
        if self.of_image is not None:
            self.of_image.append(weights)
        return weights

    def forward(self, *features: Tensor) -> Tensor:
        weights = self.weights(list(features))
        mixed = features[0] * weights[0]
        for feature, weight in zip(features[1:], weights[1:], strict=True):
            mixed = torch.addcmul(mixed, feature, weight)
        return mixed


@contextmanager
def one_image(network: nn.Module) -> Iterator[None]:
    """Inside, batches are parts of one image: what SKFF chooses for the first, a sample of it, holds for the others."""
    fusions = [module for module in network.modules() if isinstance(module, SKFF)]
    for fusion in fusions:
        fusion.of_image = []
    try:
        yield
    finally:
        for fusion in fusions:
            fusion.of_image = None


class SelectiveBlock(nn.Module):
    """SRB of M-Net+: three convolutions, each fused with what it started from by SKFF."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c_in, c_in, 3, padding=1) for _ in range(3))
        self.fuse = nn.ModuleList(SKFF(c_in, 2) for _ in range(3))
        self.skip, self.out = nn.Conv2d(c_in, c_out, 1), nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv, fuse in zip(self.convs, self.fuse, strict=True):
            y = fuse(y, F.relu(conv(y)))
        return self.skip(x) + self.out(y)


class PlainBlock(nn.Module):
    """A plain residual block: two 3x3 convolutions beside a 1x1."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(c_in, c_out, 3, padding=1), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.conv2(F.relu(self.conv1(x)))


BLOCKS: dict[str, Callable[[int, int], nn.Module]] = {"srb": SelectiveBlock, "plain": PlainBlock}


class AGMNet(nn.Module):
    """Attention-guided M-Net: a residual for the pre-enhanced frame, steered by A = 1 - L at every level."""

    def __init__(self, cfg: GeneratorConfig):
        super().__init__()
        self.cfg = cfg
        c, levels, block = cfg.width, cfg.levels, BLOCKS[cfg.block]
        widths = [c * 2**i for i in range(levels)]
        seen = 5 if cfg.level_hints else 4
        self.gate_in = nn.Conv2d(seen * cfg.stem**2, c, 3, padding=1)  # shared by all scales
        self.encode = nn.ModuleList(block(c if i == 0 else widths[i - 1] + c, widths[i]) for i in range(levels))
        self.down = nn.ModuleList(nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * n, n, 1)) for n in widths[:-1])
        self.up = nn.ModuleList(nn.Sequential(nn.PixelShuffle(2), nn.Conv2d(n // 2, n, 1)) for n in widths[:-1])
        self.skip = nn.ModuleList(nn.Conv2d(n, n, 3, padding=1) for n in widths[:-1])
        self.decode = nn.ModuleList(block(2 * n, n) for n in widths[:-1])
        self.gate_out = nn.ModuleList(nn.Conv2d(n, c, 3, padding=1) for n in widths)
        self.fuse = SKFF(c, levels)
        self.head = nn.Conv2d(c, 3 * cfg.stem**2, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # torch's own start fades over so many layers
                nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.zeros_(self.head.weight)  # training starts from the pre-enhanced frame itself

    def forward(self, pre: Tensor, low: Tensor) -> Tensor:
        """pre, low: (B, 3, H, W) in [0, 1] -> residual A * R of the pre-enhanced frame, (B, 3, H, W)."""
        cfg, dtype = self.cfg, self.head.weight.dtype
        stack, attention = see(cfg, pre, low)
        stack = stack.to(dtype)
        if cfg.stem > 1:
            stack = F.pixel_unshuffle(stack, cfg.stem)  # (B, 5 * stem**2, h, w)
        if not self.training:
            stack = stack.contiguous(memory_format=torch.channels_last)
        maps = [F.avg_pool2d(attention, cfg.stem).to(dtype) if cfg.stem > 1 else attention.to(dtype)]
        for _ in range(cfg.levels - 1):
            maps.append(F.avg_pool2d(maps[-1], 2))  # (B, 1, h / 2**i, w / 2**i)

        features: list[Tensor] = []
        x = self.gate_in(stack)  # (B, c, h, w)
        for i in range(cfg.levels):
            if i > 0:
                # For a factor of exactly 2, bilinear downsampling is the mean of 2x2.
                stack = F.avg_pool2d(stack, 2)
                x = torch.cat([self.down[i - 1](features[-1]), self.gate_in(stack)], dim=1)
            features.append(self.encode[i](x) * maps[i])  # (B, c * 2**i, h / 2**i, w / 2**i)

        x = features[-1]
        gates = [self._gate(cfg.levels - 1, x)]  # each (B, c, h, w)
        for i in reversed(range(cfg.levels - 1)):
            x = torch.cat([self.up[i](x), self.skip[i](features[i])], dim=1)  # (B, 2c * 2**i, h / 2**i, ...)
            x = self.decode[i](x) * maps[i]
            gates.append(self._gate(i, x))
        residual = self.head(self.fuse(*gates))  # (B, 3 * stem**2, h, w)
        if cfg.stem > 1:
            residual = F.pixel_shuffle(residual, cfg.stem)  # (B, 3, H, W)
        return attention * residual.to(pre.dtype)

    def _gate(self, level: int, x: Tensor) -> Tensor:
        x = self.gate_out[level](x)  # convolve, then enlarge: 4**level times cheaper than the other order
        return F.interpolate(x, scale_factor=2.0**level, mode="bilinear") if level else x


class Student(nn.Module):
    """The small body for devices: plain convolutions at a quarter of the resolution, steered by the same attention."""

    def __init__(self, cfg: GeneratorConfig):
        super().__init__()
        self.cfg = cfg
        c, seen = cfg.width, 5 if cfg.level_hints else 4
        self.first = nn.Conv2d(seen * cfg.stem**2, c, 1)
        self.convs = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for _ in range(4))
        self.head = nn.Conv2d(c, 3 * cfg.stem**2, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, pre: Tensor, low: Tensor) -> Tensor:
        """pre, low: (B, 3, H, W) in [0, 1] -> residual A * R of the pre-enhanced frame, (B, 3, H, W)."""
        stack, attention = see(self.cfg, pre, low)
        x = F.pixel_unshuffle(stack.to(self.head.weight.dtype), self.cfg.stem)
        if not self.training:
            x = x.contiguous(memory_format=torch.channels_last)
        x = F.relu(self.first(x))  # (B, c, h, w)
        for conv in self.convs:
            x = F.relu(x + conv(x))
        return attention * F.pixel_shuffle(self.head(x), self.cfg.stem).to(pre.dtype)


class UNet(nn.Module):
    """EnlightenGAN's generator in AGM-Net's place, the paper's ablation: five levels, attention on skips and output.

    Jiang et al., IEEE TIP 30 (2021): two 3x3 convolutions with LeakyReLU 0.2 and batch norm a level, max pooling,
    bilinear enlargement; here on [0, 1] and on whatever stage 1 gives, as the paper puts it.
    """

    def __init__(self, cfg: GeneratorConfig):
        super().__init__()
        self.cfg = cfg
        widths = [cfg.width * 2**i for i in range(cfg.levels)]
        self.encode = nn.ModuleList(_double(4 if i == 0 else widths[i - 1], n) for i, n in enumerate(widths[:-1]))
        self.deep1, self.deep2 = _single(widths[-2], widths[-1]), _single(widths[-1], widths[-1])
        self.up = nn.ModuleList(nn.Conv2d(2 * n, n, 3, padding=1) for n in widths[:-1])
        self.decode = nn.ModuleList(_double(2 * n, n) for n in widths[:-1])
        self.head = nn.Conv2d(widths[0], 3, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, pre: Tensor, low: Tensor) -> Tensor:
        """pre, low: (B, 3, H, W) in [0, 1] -> residual A * R of the pre-enhanced frame, (B, 3, H, W)."""
        x, attention = see(self.cfg, pre, low)
        x, maps = x.to(self.head.weight.dtype), [attention.to(self.head.weight.dtype)]
        if not self.training:
            x = x.contiguous(memory_format=torch.channels_last)
        for _ in self.encode:
            maps.append(F.max_pool2d(maps[-1], 2))  # (B, 1, H / 2**i, W / 2**i)
        skips = []
        for encode in self.encode:
            skips.append(encode(x))  # (B, c * 2**i, H / 2**i, W / 2**i)
            x = F.max_pool2d(skips[-1], 2)
        x = self.deep2(self.deep1(x) * maps[-1])
        for i in reversed(range(len(skips))):
            x = self.up[i](F.interpolate(x, scale_factor=2.0, mode="bilinear"))
            x = self.decode[i](torch.cat([x, skips[i] * maps[i]], dim=1))
        return attention * self.head(x).to(pre.dtype)


def _single(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1), nn.LeakyReLU(0.2), nn.BatchNorm2d(c_out))


def _double(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(_single(c_in, c_out), _single(c_out, c_out))


def see(cfg: GeneratorConfig, pre: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
    """What a body looks at, (B, 4 or 5, H, W), and the attention that steers it, (B, 1, H, W) in [0, 1]."""
    attention = luminance_attention(low)
    seen = [pre, attention]
    if cfg.level_hints:
        seen.append(torch.log2((luma(pre) + 0.01) / (luma(low) + 0.01)) / 8)
    return torch.cat(seen, dim=1), attention if cfg.attention else torch.ones_like(attention)


BODIES: dict[str, Callable[[GeneratorConfig], nn.Module]] = {"agm": AGMNet, "unet": UNet, "student": Student}


class LAEGAN(nn.Module):
    """The generator: dark frame -> Zero-DCE -> AGM-Net -> lit frame.

    Convolutions run in the parameters' dtype (float32 or bfloat16); the curve and the sum of frame and residual
    stay in the input's. No statistic crosses samples: a batch gives what its frames give one by one.
    """

    def __init__(self, cfg: GeneratorConfig):
        super().__init__()
        self.cfg = cfg
        self.curve = SolvedCurve(cfg.exposure) if cfg.exposure else ZeroDCE(cfg)
        self.body = BODIES[cfg.body](cfg) if cfg.width else None

    def forward(self, low: Tensor) -> Tensor:
        """RGB (B, 3, H, W) in [0, 1], H and W at least 16 -> enhanced RGB, same shape and dtype.

        In [0, 1] in eval mode; not clamped in training, where a clamp would stop the gradient.
        Raises ValueError for another shape.
        """
        padded = self.pad(low)
        alpha = self.curve(padded)
        out = self.develop(padded, alpha, self.strength(alpha, low))[..., : low.shape[-2], : low.shape[-1]]
        return out if self.training else out.clamp(0, 1)

    def develop(self, padded: Tensor, alpha: Tensor, strength: Tensor | float) -> Tensor:
        """What is left to do once the frame's curve is known: of a padded frame or a tile of one, not clamped."""
        out = enhance_curve(padded, alpha)
        return out if self.body is None else out + strength * self.body(out, padded)

    def strength(self, alpha: Tensor, low: Tensor) -> Tensor | float:
        """How much of the residual counts, (B, 1, 1, 1) in [0, 1]: what the curve did not lift has no noise to remove.

        So a frame that is bright enough comes back as it is, and so does one without a single photon. 1 where DCE-Net
        predicts the curve.
        """
        if not self.cfg.exposure:
            return 1.0
        signal = (low.amax(dim=(1, 2, 3), keepdim=True) * 255).clamp(0, 1)
        return (alpha / FULL_STRENGTH).clamp(0, 1) * signal

    def pre_enhance(self, low: Tensor) -> Tensor:
        """The Zero-DCE stage alone: RGB (B, 3, H, W) in [0, 1] -> lit but still noisy RGB, same shape."""
        padded = self.pad(low)
        return enhance_curve(padded, self.curve(padded))[..., : low.shape[-2], : low.shape[-1]].clamp(0, 1)

    def pad(self, low: Tensor) -> Tensor:
        """The frame, continued by its reflection at the right and the bottom to whole multiples of `cfg.multiple`."""
        if low.ndim != 4 or low.shape[1] != 3 or min(low.shape[-2:]) < 16:
            raise ValueError(f"expected RGB frames (B, 3, H, W) with H, W >= 16, got {tuple(low.shape)}")
        bottom, right = (-side % self.cfg.multiple for side in low.shape[-2:])
        return F.pad(low, (0, right, 0, bottom), mode="reflect") if bottom or right else low


def create(preset: str, attention: bool = True) -> LAEGAN:
    """A new generator with random weights, in training mode. ValueError for an unknown preset.

    attention: False builds the ablation that multiplies nothing by A = 1 - L.
    """
    cfg = config_of(preset)
    return LAEGAN(cfg if attention else replace(cfg, attention=False))


def config_of(preset: str) -> GeneratorConfig:
    """The preset's configuration. ValueError for an unknown one."""
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; there are: {', '.join(PRESETS)}")
    return PRESETS[preset]
