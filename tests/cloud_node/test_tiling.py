import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage import data
from torch import Tensor

from cloud_node.engine import Engine
from cloud_node.laegan import LAEGAN, PRESETS, load
from cloud_node.laegan.network import one_image
from cloud_node.tiling import cuts, light_in_tiles, margin, sample
from common.pixels import RawImage

# Levels of 255 between a frame in tiles and in one, at most anywhere and on average. What remains is SKFF's choice by
# a sample of the frame instead of all of it; presets without SKFF differ by rounding alone.
# Measured with `fast`: at most 2.4 anywhere, and 0.411 on average.
TOLERANCE = {"fast": (3.0, 0.45), "reference": (3.0, 0.4), "paper": (3.0, 0.4)}
EXACT = (0.01, 0.001)


def night(height: int, width: int) -> Tensor:
    """A dark, noisy photograph of many things, with one lamp in it: (1, 3, H, W)."""
    photo = np.tile(data.astronaut(), (math.ceil(height / 512), math.ceil(width / 512), 1))[:height, :width] / 255
    y, x = np.mgrid[:height, :width]
    lamp = np.exp(-((y - height / 3) ** 2 + (x - width * 0.7) ** 2) / 800)[..., None]
    dark = (photo**2.2 / 14 + lamp).clip(0, 1) ** (1 / 2.2) + np.random.default_rng(0).normal(0, 0.01, photo.shape)
    return torch.from_numpy(dark.clip(0, 1)).permute(2, 0, 1)[None].float().contiguous()


def network_of(preset: str) -> LAEGAN:
    """Trained where it is, else narrow and new."""
    if preset in ("fast", "edge"):
        return load(preset)
    torch.manual_seed(0)
    network = LAEGAN(replace(PRESETS[preset], width=min(PRESETS[preset].width, 8))).eval()
    if network.body is not None:
        torch.nn.init.normal_(network.body.head.weight, std=0.05)
    return network


def assembled(network: LAEGAN, low: Tensor, tile_pixels: int) -> tuple[Tensor, list[int]]:
    """The frame put together, and the columns where tiles meet."""
    whole, borders = torch.full_like(low, float("nan")), set()
    for rows, columns, tile in light_in_tiles(network, low, tile_pixels):
        assert torch.isnan(whole[..., rows, columns]).all()  # each pixel once
        whole[..., rows, columns] = tile
        borders.add(columns.start)
    return whole, sorted(borders - {0})


@pytest.mark.parametrize("preset", PRESETS)
@torch.inference_mode()
def test_tiles_give_the_frame_and_no_seam(preset: str) -> None:
    network, most_mean = network_of(preset), TOLERANCE.get(preset, EXACT)
    around = margin(network.cfg)
    low = night(2 * around + 200, 4 * around + 205)  # more than one tile each way, and no multiple of anything
    whole, borders = assembled(network, low, (3 * around + 32) ** 2)
    assert len(borders) >= 2 and not torch.isnan(whole).any()
    difference = 255 * (whole - network(low))
    most, mean = most_mean
    assert difference.abs().max() <= most and difference.abs().mean() <= mean
    steps = (difference[..., 1:] - difference[..., :-1]).abs().mean(dim=(0, 1, 2))  # by column
    across = steps[[border - 1 for border in borders]].mean()
    assert across <= 1.5 * steps.mean() + EXACT[1]


@pytest.mark.parametrize("preset", PRESETS)
@torch.inference_mode()
def test_nothing_beyond_the_margin_is_seen(preset: str) -> None:
    """What is not a number spreads as far as the network sees."""
    network = network_of(preset)
    cfg, around = network.cfg, margin(network.cfg)
    side = cfg.multiple * math.ceil((2 * around + 64) / cfg.multiple)
    low = torch.rand(1, 3, side, side) * 0.1
    alpha = network.curve(low) if cfg.exposure or cfg.curve_side else None
    for phase in (0, cfg.multiple // 2, cfg.multiple - 1):
        middle = cfg.multiple * (side // cfg.multiple // 2) + phase
        hurt = low.clone()
        hurt[..., middle, middle] = float("nan")
        with one_image(network):
            network.develop(low, network.curve(low) if alpha is None else alpha)
            lit = network.develop(hurt, network.curve(hurt) if alpha is None else alpha)
        rows = torch.isnan(lit).any(dim=(0, 1, 3)).nonzero().flatten()
        assert len(rows) and middle - rows[0] <= around and rows[-1] - middle <= around


@given(st.integers(1, 300), st.integers(1, 2000), st.integers(0, 8), st.sampled_from([1, 4, 8, 16]))
def test_cuts_cover_an_axis_once(units: int, side: int, margins: int, multiple: int) -> None:
    length, around = units * multiple, margins * multiple
    pieces = cuts(length, side, around, multiple)
    assert [piece.keep for piece in pieces] == [0, *(piece.keep_end for piece in pieces[:-1])]
    assert pieces[-1].keep_end == length
    for piece in pieces:
        assert piece.start == max(0, piece.keep - around) and piece.stop == min(length, piece.keep_end + around)
        assert not (piece.start % multiple or piece.stop % multiple)
        assert piece.stop - piece.start <= max(side, 3 * around, multiple) + multiple


@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([1, 4, 8, 16]), st.integers(1, 10**7))
def test_a_sample_lies_within_the_frame(rows: int, columns: int, multiple: int, tile_pixels: int) -> None:
    height, width = rows * multiple, columns * multiple
    spots = sample(height, width, multiple, tile_pixels)
    sizes = {(y.stop - y.start, x.stop - x.start) for y, x in spots}
    assert len(sizes) == 1 and all(y.stop <= height and x.stop <= width for y, x in spots)
    assert len(spots) == 1 or len(spots) * math.prod(sizes.pop()) <= tile_pixels


@pytest.mark.parametrize("size", [(420, 530), (1200, 20), (30, 3)])
def test_the_engine_cuts_what_is_larger_than_a_tile(size: tuple[int, int]) -> None:
    whole = Engine(torch.device("cpu"), "edge", threads=1, backend="fp32")
    tiled = Engine(torch.device("cpu"), "edge", threads=1, backend="fp32", tile_pixels=1)
    image = RawImage.from_rgb((night(*size)[0].permute(1, 2, 0) * 255).byte().numpy())
    [one], [other] = whole.enhance([image]), tiled.enhance([image])
    assert np.abs(one.rgb.astype(int) - other.rgb).max() <= 1
    assert other.finite and other.sharpness_before == pytest.approx(one.sharpness_before, rel=1e-4)
    assert other.sharpness_after == pytest.approx(one.sharpness_after, rel=0.05)
