from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from cloud_node.laegan import text_losses as T
from cloud_node.laegan.attention import blur, luma, text_mask

BOX = (8, 10, 103, 33)
Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def edge_paper(output: torch.Tensor, pre: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return T.edge_loss_paper(output, pre)


LOSSES: list[Loss] = [T.etam_loss_paper, T.etam_loss_contrast, edge_paper, T.edge_loss_masked]


@pytest.fixture
def mask() -> torch.Tensor:
    return torch.from_numpy(text_mask([BOX], 44, 112))[None, None]


@pytest.fixture
def text() -> torch.Tensor:
    """Dark ink, 0.1, on dark ground, 0.35, in the box; 0.2 around it."""
    image = Image.new("L", (112, 44), 51)
    draw = ImageDraw.Draw(image)
    draw.rectangle(BOX, fill=89)
    draw.text((12, 11), "EXIT 24", fill=26, font=ImageFont.load_default(20))
    return torch.from_numpy(np.asarray(image, np.float32) / 255).expand(1, 3, -1, -1).clone()


def noise(like: torch.Tensor, deviation: float) -> torch.Tensor:
    return deviation * torch.randn(like.shape, generator=torch.Generator().manual_seed(0))


def deviation_in_box(rgb: torch.Tensor, mask: torch.Tensor) -> float:
    return float(luma(rgb)[mask > 0.5].std())


def contrast(output: torch.Tensor, pre: torch.Tensor, mask: torch.Tensor, **settings: float) -> torch.Tensor:
    """With a window as high as the line."""
    return T.etam_loss_contrast(output, pre, mask, **{"sigma": 24.0, **settings})


def descend(loss: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor, steps: int = 80) -> torch.Tensor:
    """What an output that is free in every pixel becomes under a loss."""
    output = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([output], 0.02)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / steps)
        optimizer.zero_grad()
        loss(output).backward()
        optimizer.step()
    return output.detach()


def test_the_papers_etam_is_least_for_a_flat_box(text: torch.Tensor, mask: torch.Tensor) -> None:
    """Its defect: the best output has no text."""
    flat = torch.where(mask > 0.5, torch.tensor(200 / 255), text)
    lit = torch.where(mask > 0.5, text * 1.9, text)
    assert T.etam_loss_paper(flat, text, mask) < 1e-6
    assert T.etam_loss_paper(lit, text, mask) > 0.05
    best = descend(lambda output: T.etam_loss_paper(output, text, mask), text)
    assert deviation_in_box(best, mask) < 0.1 * deviation_in_box(text, mask)


def test_the_contrast_form_keeps_the_text(text: torch.Tensor, mask: torch.Tensor) -> None:
    flat = torch.where(mask > 0.5, torch.tensor(0.5), text)
    lit = torch.where(mask > 0.5, text + (0.5 - luma(text)[mask > 0.5].mean()), text)
    assert contrast(lit, text, mask) < 0.5 * contrast(flat, text, mask)
    assert contrast(lit, text, mask) < 0.1 * contrast(text, text, mask)
    best = descend(lambda output: contrast(output, text, mask), text)
    was, now = luma(text)[mask > 0.5], luma(best)[mask > 0.5]
    assert float(now.mean()) == pytest.approx(0.5, abs=0.05)
    assert float(now.std()) > 0.95 * float(was.std())
    assert float(torch.corrcoef(torch.stack([now, was]))[0, 1]) > 0.95  # the same letters
    assert torch.equal(best[..., :5, :], text[..., :5, :])  # nothing is asked away from the box


def test_contrast_may_grow_and_bright_text_may_stay(text: torch.Tensor, mask: torch.Tensor) -> None:
    bright = text * 1.4 + 0.45
    assert contrast(bright, bright, mask) < 1e-6
    mean = luma(bright)[mask > 0.5].mean()
    stronger, weaker = mean + 1.3 * (bright - mean), mean + 0.7 * (bright - mean)
    assert contrast(stronger, bright, mask) < 0.5 * contrast(weaker, bright, mask)
    assert contrast(mean.expand_as(text), bright, mask) > 2 * contrast(weaker, bright, mask)


def test_noise_is_no_contrast_to_be_kept(text: torch.Tensor, mask: torch.Tensor) -> None:
    noisy = text + noise(text, 0.08)
    counted, blurred = (contrast(text, noisy, mask, noise_sigma=s, level=0.0) for s in (0.0, 1.0))
    assert blurred < 0.6 * counted


def test_without_text_nothing_is_asked(text: torch.Tensor) -> None:
    output = text.clone().requires_grad_()
    loss = T.etam_loss_contrast(output, text, torch.zeros(1, 1, 44, 112))
    loss.backward()
    assert loss == 0 and torch.equal(output.grad, torch.zeros_like(output))


def test_the_papers_edges_want_the_noise_back(text: torch.Tensor, mask: torch.Tensor) -> None:
    noisy = text + noise(text, 0.04)
    assert T.edge_loss_paper(noisy, noisy) == 0
    assert T.edge_loss_paper(text, noisy) > 1e-4


@pytest.mark.parametrize("deviation", [0.02, 0.06])
def test_masked_edges_prefer_the_clean_output(text: torch.Tensor, mask: torch.Tensor, deviation: float) -> None:
    noisy, weight = text * 2 + noise(text, deviation), blur(mask, 2.0)
    clean = T.edge_loss_masked(text * 2, noisy, weight)
    assert clean < T.edge_loss_masked(noisy, noisy, weight)
    for sigma in (1.0, 2.0):
        assert clean < T.edge_loss_masked(blur(text * 2, sigma), noisy, weight)


def test_other_filters_smooth_the_target(text: torch.Tensor, mask: torch.Tensor) -> None:
    noisy = text + noise(text, 0.05)
    raw = T.edge_loss_masked(text, noisy, mask, "none")
    for denoise in ("bilateral", "median"):
        assert T.edge_loss_masked(text, noisy, mask, denoise) < raw


def test_noise_level_sees_noise_and_not_letters(text: torch.Tensor) -> None:
    for deviation in (0.02, 0.06):
        noisy = luma(text) + deviation * torch.randn(4, 1, 44, 112, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(T.noise_level(noisy), torch.full((4,), deviation), rtol=0.15, atol=0)
    assert T.noise_level(luma(text)).max() < 1e-6


def test_an_edge_costs_more_to_lose_than_to_sharpen(text: torch.Tensor, mask: torch.Tensor) -> None:
    mean = text.mean()
    sharper, duller = mean + 1.3 * (text - mean), mean + 0.7 * (text - mean)
    two_sided = [T.edge_loss_masked(output, text, mask, "none", keep=0.0) for output in (sharper, duller)]
    torch.testing.assert_close(two_sided[0], two_sided[1], rtol=0.02, atol=0)
    one_sided = [T.edge_loss_masked(output, text, mask, "none", keep=1.0) for output in (sharper, duller)]
    torch.testing.assert_close(one_sided[0], two_sided[0])
    assert one_sided[1] > 1.8 * one_sided[0]


def test_edges_outside_text_count_as_the_floor_says(text: torch.Tensor, mask: torch.Tensor) -> None:
    output = text.clone()
    output[..., 40:, 20:60:3] = 1.0
    costs = [float(T.edge_loss_masked(output, text, mask, "none", floor)) for floor in (0.0, 0.1, 1.0)]
    assert costs[0] < 0.0011 < costs[1] < costs[2]


def test_an_unknown_filter_and_shapes_that_do_not_fit(text: torch.Tensor, mask: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="'sharpen' for edges; choose one of: bilateral"):
        T.edge_loss_masked(text, text, mask, "sharpen")
    for loss in (T.etam_loss_paper, T.etam_loss_contrast, T.edge_loss_masked):
        with pytest.raises(ValueError, match="text mask"):
            loss(text, text, mask[0])
    with pytest.raises(ValueError, match="one shape"):
        T.edge_loss_paper(text, text[..., 1:])


@pytest.mark.parametrize("loss", LOSSES)
def test_terms_fall_as_the_output_follows_them(loss: Loss, text: torch.Tensor, mask: torch.Tensor) -> None:
    start = blur(text, 1.5)
    before = loss(start, text, mask)
    assert loss(descend(lambda output: loss(output, text, mask), start, 30), text, mask) < 0.5 * before


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("size", [(32, 48), (5, 3), (1, 1)])
def test_gradients_are_finite_on_constant_images(loss: Loss, level: float, size: tuple[int, int]) -> None:
    for other in (0.0, level, 1.0):
        for text in (torch.ones(2, 1, *size), torch.zeros(2, 1, *size)):
            output = torch.full((2, 3, *size), level, requires_grad=True)
            loss(output, torch.full((2, 3, *size), other), text).backward()
            assert torch.isfinite(output.grad).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_mixed_precision_changes_nothing_and_pre_gets_no_gradient(
    loss: Loss, text: torch.Tensor, mask: torch.Tensor
) -> None:
    pre = text.clone().requires_grad_()
    output = (text * 0.8).requires_grad_()
    expected = loss(output, pre, mask)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(output, pre, mask) == expected
    expected.backward()
    assert pre.grad is None and output.grad is not None and output.grad.abs().sum() > 0
