"""Large frames in overlapping tiles, without seams: what the network takes from the whole frame is taken once.

Three things reach further than a convolution: the solved curve, which is computed for the whole frame; SKFF's pooled
means, which are those of a sample of windows spread over it; and the reflection at the border, which is added before
the cuts. Everything else depends on the pixels within `margin` around it, and that much each tile sees and throws away.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from cloud_node.laegan import LAEGAN, GeneratorConfig
from cloud_node.laegan.network import SKFF, one_image

# How far a body, or AGM-Net of such blocks, sees, in units of `cfg.multiple`.
MARGINS: Final = {"srb": 10, "plain": 7, "student": 6, "unet": 9}
CURVE_MARGIN: Final = 8  # pixels that DCE-Net sees
WINDOW: Final = 256  # pixels each way, of which the sample for SKFF consists
WINDOWS_ACROSS: Final = 6

Spot = tuple[slice, slice]  # rows and columns


@dataclass(frozen=True, slots=True)
class Cut:
    """A stretch along one axis, in pixels: [start, stop) is computed, [keep, keep_end) of the frame comes from it."""

    start: int
    stop: int
    keep: int
    keep_end: int


def margin(cfg: GeneratorConfig) -> int:
    """How far a pixel can be for the network to see it, in pixels; a multiple of `cfg.multiple`."""
    body = MARGINS[cfg.block if cfg.body == "agm" else cfg.body] * cfg.multiple if cfg.width else 0
    curve = 0 if cfg.exposure or cfg.curve_side else CURVE_MARGIN
    return body + cfg.multiple * math.ceil(curve / cfg.multiple)


def cuts(length: int, side: int, around: int, multiple: int) -> list[Cut]:
    """Cut an axis into stretches of at most about `side` pixels, `around` of them overlapping at each inner end.

    `length` and `around` are multiples of `multiple`, and so is every start and stop.
    """
    count = math.ceil(length / max(side - 2 * around, around, multiple))
    step = multiple * math.ceil(length / count / multiple)
    return [
        Cut(max(0, at - around), min(length, at + step + around), at, min(length, at + step))
        for at in range(0, length, step)
    ]


def light_in_tiles(network: LAEGAN, low: Tensor, tile_pixels: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """What `network(low)` gives, tile by tile.

    low: one frame, (1, 3, H, W) float32 in [0, 1], H and W at least 16. tile_pixels: that a tile has at most, with what
    overlaps; tiles cannot be smaller than three margins.
    Yields rows, columns and the lit (1, 3, h, w) in [0, 1] that belongs there.
    """
    cfg, (height, width) = network.cfg, low.shape[-2:]
    padded = network.pad(low)
    alpha = network.curve(padded) if cfg.exposure or cfg.curve_side else None

    def develop(spots: list[Spot]) -> Tensor:
        tiles = torch.cat([padded[..., rows, columns] for rows, columns in spots])
        if alpha is None:
            curve = network.curve(tiles)
        else:
            curve = torch.cat([alpha[..., rows, columns] for rows, columns in spots])
        return network.develop(tiles, curve)

    with one_image(network):
        if any(isinstance(module, SKFF) for module in network.modules()):
            develop(sample(padded.shape[-2], padded.shape[-1], cfg.multiple, tile_pixels))
        around, side = margin(cfg), math.isqrt(tile_pixels)
        for y in cuts(padded.shape[-2], side, around, cfg.multiple):
            for x in cuts(padded.shape[-1], side, around, cfg.multiple):
                lit = develop([(slice(y.start, y.stop), slice(x.start, x.stop))])
                bottom, right = min(y.keep_end, height), min(x.keep_end, width)
                kept = lit[..., y.keep - y.start : bottom - y.start, x.keep - x.start : right - x.start]
                yield slice(y.keep, bottom), slice(x.keep, right), kept.clamp(0, 1)


def sample(height: int, width: int, multiple: int, tile_pixels: int) -> list[Spot]:
    """Windows of one size, spread evenly over a frame whose sides are multiples of `multiple`; together they have no
    more pixels than a tile.
    """
    tall, wide = (min(WINDOW, side) for side in (height, width))
    across = max(1, min(WINDOWS_ACROSS, math.isqrt(tile_pixels // (tall * wide))))

    def starts(length: int, window: int) -> list[int]:
        return [multiple * ((length - window) * i // max(1, across - 1) // multiple) for i in range(across)]

    return [(slice(y, y + tall), slice(x, x + wide)) for y in starts(height, tall) for x in starts(width, wide)]
