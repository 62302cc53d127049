import kornia
import torch

from cloud_node.laegan.attention import LUMA, luma, luminance_attention, sobel_sharpness


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
