import kornia
import numpy as np
import pytest
import torch

from cloud_node.laegan.attention import (
    LUMA,
    blur,
    local_statistics,
    luma,
    luminance_attention,
    paint_text,
    sobel_sharpness,
    text_attention,
    text_mask,
)


def test_attention_is_one_minus_luma() -> None:
    rgb = torch.rand(2, 3, 5, 7)
    expected = 1 - sum(weight * rgb[:, i] for i, weight in enumerate(LUMA))
    torch.testing.assert_close(luminance_attention(rgb), expected[:, None])
    torch.testing.assert_close(luma(rgb), 1 - expected[:, None])


def test_attention_of_black_and_white() -> None:
    assert luminance_attention(torch.zeros(1, 3, 2, 2)).min() == 1
    assert luminance_attention(torch.ones(1, 3, 2, 2)).max() < 1e-6


def test_sharpness_is_per_frame_and_falls_with_blur() -> None:
    frames = torch.rand(3, 3, 32, 32)
    blurred = kornia.filters.gaussian_blur2d(frames, (5, 5), (1.5, 1.5))
    assert sobel_sharpness(frames).shape == (3,)
    assert (sobel_sharpness(blurred) < sobel_sharpness(frames)).all()
    assert sobel_sharpness(torch.full((1, 3, 8, 8), 0.4)).max() < 1e-5
    torch.testing.assert_close(sobel_sharpness(frames)[1:2], sobel_sharpness(frames[1:2]))


def test_sharpness_of_a_step_edge() -> None:
    """A vertical step of height 1: the normalised Sobel kernel answers 1/2 in the two columns beside it."""
    frame = torch.zeros(1, 3, 8, 8)
    frame[..., 4:] = 1
    torch.testing.assert_close(sobel_sharpness(frame), torch.tensor([0.5 * 2 / 8]), atol=1e-5, rtol=0)


def test_mask_of_a_box_and_a_polygon() -> None:
    mask = text_mask([(2, 1, 4, 2), [(6, 0), (9, 3), (6, 3)]], 4, 10)
    expected = np.zeros((4, 10), np.float32)
    expected[1:3, 2:5] = 1
    for row in range(4):
        expected[row, 6 : 7 + row] = 1
    assert mask.dtype == np.float32
    np.testing.assert_array_equal(mask, expected)


def test_mask_of_a_turned_box_has_its_area() -> None:
    turn = np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    corners = np.array([(-40, -10), (40, -10), (40, 10), (-40, 10)]) @ turn.T + 60
    assert text_mask([[tuple(c) for c in corners]], 120, 120).sum() == pytest.approx(80 * 20, rel=0.08)


def test_mask_is_cut_at_the_frame() -> None:
    assert text_mask([(-50, -50, 500, 500)], 6, 8).min() == 1
    assert text_mask([(20, 20, 30, 30), (-9, -9, -1, -1)], 6, 8).max() == 0
    assert text_mask([], 6, 8).shape == (6, 8)


@pytest.mark.parametrize("outline", [[(0, 0), (1, 1)], (1, 2, 3), (0, 0, float("nan"), 4), [(0, 0, 0)] * 3])
def test_what_is_no_outline(outline) -> None:
    with pytest.raises(ValueError, match="outline 1"):
        text_mask([(0, 0, 1, 1), outline], 4, 4)


def test_text_attention_is_that_of_painted_boxes() -> None:
    rgb, mask = torch.rand(2, 3, 8, 9), torch.zeros(2, 1, 8, 9)
    mask[1, :, 2:5, 3:7] = 1
    painted = paint_text(rgb, mask)
    assert torch.equal(painted[0], rgb[0])
    assert (painted[1, :, 2:5, 3:7] * 255).round().unique().tolist() == [200.0]
    attention = text_attention(rgb, mask)
    torch.testing.assert_close(attention[1, :, 2:5, 3:7], torch.full((1, 3, 4), 55 / 255))
    outside = mask == 0
    torch.testing.assert_close(attention[outside], luminance_attention(rgb)[outside])


def test_a_mask_without_its_channel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 8, 9\) must be \(3, 1, 8, 9\)"):
        text_attention(torch.rand(3, 3, 8, 9), torch.ones(3, 8, 9))


@pytest.mark.parametrize(("sigma", "cell"), [(3.0, 1), (6.0, 1), (12.0, 3)])
def test_local_statistics_see_the_text_alone(sigma: float, cell: int) -> None:
    luminance, mask = torch.ones(1, 1, 40, 61), torch.zeros(1, 1, 40, 61)
    mask[..., 12:30, 12:48] = 1
    luminance[..., 12:30, 12:48] = 0.2
    luminance[..., 12:30, 12:48:2] = 0.6  # stripes: mean 0.4, standard deviation 0.2
    mean, deviation, place = local_statistics(luminance, mask, sigma)
    assert mean.shape == deviation.shape == place.shape == (1, 1, -(-40 // cell), -(-61 // cell))
    assert (mean[place == 1] - 0.4).abs().max() < 0.03
    assert (deviation[place == 1] - 0.2).abs().max() < 0.01
    assert place.unique().tolist() == [0.0, 1.0]  # the box lies on the cells


def test_local_statistics_against_a_plain_window() -> None:
    """Cells change little: the same as a Gaussian over all pixels, sampled at the middle of each cell."""
    torch.manual_seed(0)
    luminance, mask = torch.rand(1, 1, 60, 84), (torch.rand(1, 1, 60, 84) > 0.3).float()
    luminance = luminance * torch.linspace(0.2, 1, 84)
    mean, deviation, _ = local_statistics(luminance, mask, 12.0)
    weight = blur(mask, 12.0)
    plain = blur(mask * luminance, 12.0) / weight
    spread = (blur(mask * luminance**2, 12.0) / weight - plain**2).sqrt()
    inside = (..., slice(6, -6), slice(6, -6))  # what lies beyond the frame is one pixel there, a cell here
    torch.testing.assert_close(mean[inside], plain[..., 1::3, 1::3][inside], atol=0.02, rtol=0)
    torch.testing.assert_close(deviation[inside], spread[..., 1::3, 1::3][inside], atol=0.02, rtol=0)
