"""LAE-GAN's generator: the Zero-DCE stage (curve.py) lifts the exposure, AGM-Net removes noise and mends detail.

References:
1) LAE-GAN, J Cloud Comp 12:160 (2023): section "Attention-guided AGM-Net", Fig. 4 and 5.
   https://doi.org/10.1186/s13677-023-00533-4
2) M-Net+ of SRMNet / HWMNet, Fan et al. (2022): gatepost pathways, SKFF fusion, SRB blocks.

Shapes at line ends: B batch, H and W the padded frame, h and w the frame after the stem, c the width.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cloud_node.laegan.attention import luma, luminance_attention
from cloud_node.laegan.curve import SolvedCurve, ZeroDCE, enhance_curve
from cloud_node.laegan.presets import GeneratorConfig, config_of

FULL_STRENGTH = 0.15  # the alpha from which on the body's residual counts in full


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
        out = self.develop(padded, alpha)[..., : low.shape[-2], : low.shape[-1]]
        return out if self.training else out.clamp(0, 1)

    def develop(self, padded: Tensor, alpha: Tensor) -> Tensor:
        """What is left to do once the frame's curve is known: of a padded frame or a tile of one, not clamped."""
        out = enhance_curve(padded, alpha)
        return out if self.body is None else out + self.strength(alpha) * self.body(out, padded)

    def strength(self, alpha: Tensor) -> Tensor | float:
        """How much of the residual counts, (B, 1, H, W) in [0, 1]: what the curve did not lift has no noise to remove.

        So a frame that is bright enough comes back as it is, and so does one without a single photon. 1 where DCE-Net
        predicts the curve.
        """
        return (alpha / FULL_STRENGTH).clamp(0, 1) if self.cfg.exposure else 1.0

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
