"""LAE-GAN's generator, whole: the Zero-DCE stage lifts the exposure, AGM-Net removes noise and mends detail.

References:
1) LAE-GAN, J Cloud Comp 12:160 (2023): section "Attention-guided AGM-Net", Fig. 4 and 5.
   https://doi.org/10.1186/s13677-023-00533-4
2) Zero-DCE (CVPR 2020) and Zero-DCE++ (TPAMI 2021), Guo, Li et al.: the light-enhancement curve.
3) M-Net+ of SRMNet / HWMNet, Fan et al. (2022): gatepost pathways, SKFF fusion, SRB blocks.

Shapes at line ends: B batch, H and W the padded frame, h and w the frame after the stem, c the width.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cloud_node.laegan.attention import luma, luminance_attention


@dataclass(frozen=True)
class GeneratorConfig:
    width: int  # channels at level 0; level i has width * 2**i
    levels: int = 4  # resolutions of AGM-Net ("four layers" in the paper)
    block: str = "srb"  # 'srb': selective residual block of M-Net+; 'plain': two 3x3 convolutions
    stem: int = 1  # PixelUnshuffle factor before level 0; 2 makes level 0 four times cheaper
    curve_side: int = 0  # Zero-DCE sees the frame reduced to this shorter side, in pixels; 0 = all of it
    curve_maps: int = 8  # curve maps predicted: 8 = one for each iteration, 1 = one map used by all
    curve_channels: int = 3  # 3 = a curve for each colour; 1 = the same for all, which cannot shift colours
    level_hints: bool = False  # tell both stages how dark the frame was: mean level, and lift of each pixel

    @property
    def multiple(self) -> int:
        """Height and width are padded to a multiple of this, in pixels."""
        return self.stem * 2 ** (self.levels - 1)


PRESETS: dict[str, GeneratorConfig] = {
    "reference": GeneratorConfig(width=32),
    "fast": GeneratorConfig(
        width=16, block="plain", stem=2, curve_side=16, curve_maps=1, curve_channels=1, level_hints=True
    ),
}

CURVE_ITERATIONS = 8
COMMITTED = Path(__file__).parent / "weights"  # a card stands beside each file


def enhance_curve(low: Tensor, alpha: Tensor) -> Tensor:
    """Zero-DCE's curve, x <- x + a_n x (1 - x), n = 1..8 (eq. 3 of the Zero-DCE paper).

    low: (B, 3, H, W) in [0, 1]. alpha: (B, 24, H, W) in [-1, 1], 8 maps of 3 channels; or one map used 8 times,
    of 3 channels (B, 3, H, W) or of one for all colours (B, 1, H, W).
    Returns (B, 3, H, W) in [0, 1]; monotone in low, and 0 and 1 stay where they are.
    """
    maps = alpha.split(min(3, alpha.shape[1]), dim=1)
    for n in range(CURVE_ITERATIONS):
        low = torch.addcmul(low, maps[n % len(maps)], low - low * low)
    return low


class ZeroDCE(nn.Module):
    """Predicts the curve maps: seven 3x3 convolutions with symmetric skips. 79,416 parameters as published."""

    def __init__(self, cfg: GeneratorConfig, channels: int = 32):
        super().__init__()
        self.cfg = cfg
        c, c_in = channels, 4 if cfg.level_hints else 3
        maps = cfg.curve_channels * cfg.curve_maps
        widths = [(c_in, c), (c, c), (c, c), (c, c), (2 * c, c), (2 * c, c), (2 * c, maps)]
        # Zeros around a view of 16 pixels would be a frame of false darkness.
        border: Literal["replicate", "zeros"] = "replicate" if cfg.curve_side else "zeros"
        convs = [nn.Conv2d(i, o, 3, padding=1, padding_mode=border) for i, o in widths]
        for conv in convs:
            nn.init.normal_(conv.weight, std=0.05 if cfg.curve_side else 0.02)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        self.convs = nn.ModuleList(convs)

    def forward(self, low: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> curve maps (B, channels * maps, H, W) in (-1, 1)."""
        cfg, (height, width) = self.cfg, low.shape[-2:]
        seen = low
        if cfg.curve_side:
            shorter = min(height, width)
            size = tuple(max(1, round(side * cfg.curve_side / shorter)) for side in (height, width))
            seen = F.interpolate(low, size, mode="area")  # (B, 3, 16, 24) for 400 x 600
        if cfg.level_hints:
            # A power brings the mean to 0.4, so that 1/8 and 1/80 of the light look alike to the convolutions.
            mean = luma(seen).mean(dim=(2, 3), keepdim=True).clamp(1e-3, 0.4)  # (B, 1, 1, 1)
            power = torch.log(mean.new_tensor(0.4)) / torch.log(mean)
            seen = seen.clamp(min=1e-3) ** power
            seen = torch.cat([seen, power.expand(-1, 1, *seen.shape[-2:])], dim=1)
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


class SKFF(nn.Module):
    """Selective kernel feature fusion: K maps (B, C, H, W) -> their mix, weighed per sample and channel."""

    def __init__(self, channels: int, inputs: int):
        super().__init__()
        squeezed = max(channels // 8, 4)
        self.squeeze = nn.Sequential(nn.Conv2d(channels, squeezed, 1, bias=False), nn.PReLU())
        self.excite = nn.ModuleList(nn.Conv2d(squeezed, channels, 1, bias=False) for _ in range(inputs))

    def weights(self, features: list[Tensor]) -> Tensor:
        """(K, B, C, 1, 1), the sum over K is 1."""
        pooled = sum(feature.mean(dim=(2, 3), keepdim=True) for feature in features)
        squeezed = self.squeeze(pooled)
        return torch.stack([excite(squeezed) for excite in self.excite]).softmax(dim=0)

    def forward(self, *features: Tensor) -> Tensor:
        weights = self.weights(list(features))
        mixed = features[0] * weights[0]
        for feature, weight in zip(features[1:], weights[1:], strict=True):
            mixed = torch.addcmul(mixed, feature, weight)
        return mixed


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
        attention = luminance_attention(low)  # (B, 1, H, W)
        seen = [pre, attention]
        if cfg.level_hints:
            seen.append(torch.log2((luma(pre) + 0.01) / (luma(low) + 0.01)) / 8)  # the lift: noise grew by it
        stack = torch.cat(seen, dim=1).to(dtype)  # (B, 4 or 5, H, W)
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


class LAEGAN(nn.Module):
    """The generator: dark frame -> Zero-DCE -> AGM-Net -> lit frame.

    Convolutions run in the parameters' dtype (float32 or bfloat16); the curve and the sum of frame and residual
    stay in the input's. No statistic crosses samples: a batch gives what its frames give one by one.
    """

    def __init__(self, cfg: GeneratorConfig):
        super().__init__()
        self.cfg = cfg
        self.curve = ZeroDCE(cfg)
        self.agm = AGMNet(cfg)

    def forward(self, low: Tensor) -> Tensor:
        """RGB (B, 3, H, W) in [0, 1], H and W at least 16 -> enhanced RGB, same shape and dtype.

        In [0, 1] in eval mode; not clamped in training, where a clamp would stop the gradient.
        Raises ValueError for another shape.
        """
        padded = self._pad(low)
        pre = enhance_curve(padded, self.curve(padded))
        out = (pre + self.agm(pre, padded))[..., : low.shape[-2], : low.shape[-1]]
        return out if self.training else out.clamp(0, 1)

    def pre_enhance(self, low: Tensor) -> Tensor:
        """The Zero-DCE stage alone: RGB (B, 3, H, W) in [0, 1] -> lit but still noisy RGB, same shape."""
        padded = self._pad(low)
        return enhance_curve(padded, self.curve(padded))[..., : low.shape[-2], : low.shape[-1]].clamp(0, 1)

    def _pad(self, low: Tensor) -> Tensor:
        if low.ndim != 4 or low.shape[1] != 3 or min(low.shape[-2:]) < 16:
            raise ValueError(f"expected RGB frames (B, 3, H, W) with H, W >= 16, got {tuple(low.shape)}")
        bottom, right = (-side % self.cfg.multiple for side in low.shape[-2:])
        return F.pad(low, (0, right, 0, bottom), mode="reflect") if bottom or right else low


def create(preset: str) -> LAEGAN:
    """A new generator with random weights, in training mode. ValueError for an unknown preset."""
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; there are: {', '.join(PRESETS)}")
    return LAEGAN(PRESETS[preset])


class WeightsError(RuntimeError):
    """The weights of a preset cannot be used; the message names the preset, the file and what to do."""


def load(
    preset: str, path: Path | None = None, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> LAEGAN:
    """The trained generator: eval mode, channels_last, on `device` in `dtype`.

    path: a .safetensors file; None takes the weights committed for the preset.
    Raises ValueError for an unknown preset, WeightsError for weights that are missing, broken or another preset's.
    """
    model = create(preset)
    path = _path(preset, path)
    _metadata(preset, path)
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise WeightsError(f"weights of preset {preset!r}: {path} does not fit the network: {error}") from error
    model = model.to(device=device, dtype=dtype).eval()
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def save(model: LAEGAN, preset: str, path: Path, version: str, steps: int) -> None:
    """Write a generator's weights, in half precision, so that `load(preset, path)` reads them back."""
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, path, metadata={"preset": preset, "version": version, "steps": str(steps)})


def weights_version(preset: str, path: Path | None = None) -> str:
    """The version written in the weights file, like 'fast-1'. Raises as `load` does."""
    create(preset)
    return _metadata(preset, _path(preset, path))["version"]


def _path(preset: str, path: Path | None) -> Path:
    if path is None:
        path = COMMITTED / f"{preset}.safetensors"
        if not path.exists():
            raise WeightsError(
                f"preset {preset!r} has no trained weights yet ({path} does not exist): "
                "use preset 'fast', or give a file of your own with --weights"
            )
    if not Path(path).is_file():
        raise WeightsError(f"weights of preset {preset!r}: there is no file {path}")
    return Path(path)


def _metadata(preset: str, path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, struct.error) as error:
        raise WeightsError(
            f"weights of preset {preset!r}: {path} is truncated or no safetensors file: {error}"
        ) from error
    if metadata.get("preset") != preset or "version" not in metadata:
        raise WeightsError(f"{path} holds weights of preset {metadata.get('preset', 'unknown')!r}, not of {preset!r}")
    return metadata
