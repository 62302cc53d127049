"""Zero-DCE and Zero-DCE++ as published, to compare with: our own code for the authors' released weights.

Guo et al. (CVPR 2020): seven 3x3 convolutions give 24 curve maps at full resolution. Li, Guo, Loy (TPAMI 2021):
depthwise-separable ones give 3 maps on a picture 12 times smaller. The weights are CC BY-NC 4.0 and not ours to
ship; they come from files that the user names.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import WeightsError

ITERATIONS = 8
WIDTH = 32


class Separable(nn.Module):
    """Depthwise 3x3, then pointwise."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.depth_conv = nn.Conv2d(c_in, c_in, 3, padding=1, groups=c_in)
        self.point_conv = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.point_conv(self.depth_conv(x))


def plain(c_in: int, c_out: int) -> nn.Module:
    return nn.Conv2d(c_in, c_out, 3, padding=1)


class PublishedZeroDCE(nn.Module):
    """Zero-DCE with `reduce` 1 and 24 maps (79,416 parameters), Zero-DCE++ with 12 and 3 (10,561).

    Module names are those of the released weight files.
    """

    def __init__(self, conv: Callable[[int, int], nn.Module] = plain, maps: int = 24, reduce: int = 1) -> None:
        super().__init__()
        self.reduce = reduce
        c = WIDTH
        for i, (c_in, c_out) in enumerate([(3, c), (c, c), (c, c), (c, c), (2 * c, c), (2 * c, c), (2 * c, maps)], 1):
            self.add_module(f"e_conv{i}", conv(c_in, c_out))

    def curves(self, low: Tensor) -> Tensor:
        """(B, 3, h, w) in [0, 1] -> (B, maps, h, w) in (-1, 1)."""
        c1, c2, c3, c4, c5, c6, c7 = self.children()
        x1 = F.relu(c1(low))
        x2 = F.relu(c2(x1))
        x3 = F.relu(c3(x2))
        x4 = F.relu(c4(x3))
        x5 = F.relu(c5(torch.cat([x3, x4], 1)))
        x6 = F.relu(c6(torch.cat([x2, x5], 1)))
        return torch.tanh(c7(torch.cat([x1, x6], 1)))

    def forward(self, low: Tensor) -> Tensor:
        """RGB (B, 3, H, W) in [0, 1], any size -> the same: x <- x + r (x^2 - x), eight times."""
        seen, size = low.to(next(self.parameters()).dtype), low.shape[-2:]
        if self.reduce > 1:
            small = [max(1, side // self.reduce) for side in size]
            seen = F.interpolate(seen, small, mode="bilinear", align_corners=False)
        curves = self.curves(seen).to(low.dtype)
        if self.reduce > 1:
            curves = F.interpolate(curves, size, mode="bilinear", align_corners=True)
        maps = curves.split(3, dim=1)
        for n in range(ITERATIONS):
            low = low + maps[n % len(maps)] * (low * low - low)
        return low.clamp(0, 1)


def zero_dce(path: Path | None = None) -> PublishedZeroDCE:
    """Zero-DCE in eval mode; random weights without a file. Raises WeightsError."""
    return _filled(PublishedZeroDCE(), path)


def zero_dce_pp(path: Path | None = None) -> PublishedZeroDCE:
    """Zero-DCE++ in eval mode; random weights without a file. Raises WeightsError."""
    return _filled(PublishedZeroDCE(Separable, maps=3, reduce=12), path)


def _filled(model: PublishedZeroDCE, path: Path | None) -> PublishedZeroDCE:
    if path is not None:
        try:
            model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # a broken file brings out errors of many kinds in torch's reader
            raise WeightsError(f"{path} holds no weights of this network: {error}") from None
    return model.eval()
