import pytest
import torch

from cloud_node.laegan import losses as L


def test_perfect_output_costs_nothing() -> None:
    image = torch.rand(2, 3, 32, 32)
    assert L.charbonnier(image, image) < 2e-3
    assert L.gradient_loss(image, image) == 0
    assert L.tone_loss(image, image) == 0
    assert L.spatial_loss(image, image) == 0


def test_exposure_lifts_the_dark_and_leaves_the_bright() -> None:
    dark, bright = torch.full((1, 3, 32, 32), 0.1), torch.full((1, 3, 32, 32), 0.9)
    assert L.exposure_loss(dark, dark, 0.5) > 0.1
    assert L.exposure_loss(dark + 0.4, dark, 0.5) < 1e-10
    assert L.exposure_loss(bright, bright, 0.5) < 1e-10
    assert L.exposure_loss(bright - 0.4, bright, 0.5) > 0.1


def test_colour_loss_is_zero_for_grey_only() -> None:
    grey = torch.rand(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert L.colour_loss(grey) < 1e-5
    assert L.colour_loss(grey * torch.tensor([1.0, 0.5, 0.5]).view(1, 3, 1, 1)) > 0.01


def test_smoothness_is_zero_for_flat_maps_only() -> None:
    assert L.smoothness_loss(torch.full((1, 3, 8, 8), 0.3)) == 0
    assert L.smoothness_loss(torch.rand(1, 3, 8, 8)) > 0


def test_tone_does_not_see_noise_but_sees_exposure() -> None:
    image = torch.full((1, 3, 64, 64), 0.5)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)) * 0.1
    assert L.tone_loss(image + noise, image) < 0.02
    assert L.tone_loss(image + 0.1, image) > 0.09


def test_text_weight_counts() -> None:
    output, target = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    weight = torch.ones(1, 1, 16, 16)
    weight[..., :8, :] = 2
    torch.testing.assert_close(L.charbonnier(output, target, weight), 1.5 * L.charbonnier(output, target))


def test_losses_are_finite_at_the_corners_of_the_range() -> None:
    for level in (0.0, 1.0):
        image = torch.full((1, 3, 32, 32), level, requires_grad=True)
        total = L.spatial_loss(image, image.detach()) + L.exposure_loss(image, image.detach())
        total = total + L.colour_loss(image) + L.charbonnier(image, image.detach())
        total.backward()
        assert image.grad is not None and torch.isfinite(image.grad).all()


def test_features_that_differ_in_light_only_are_preserved() -> None:
    torch.manual_seed(0)
    features = torch.rand(2, 8, 6, 7)
    scale, shift = torch.rand(1, 8, 1, 1) + 0.5, torch.rand(2, 8, 1, 1)
    assert L.self_feature_preservation(features * scale + shift, features) < 1e-6
    assert L.self_feature_preservation(features.flip(-1), features) > 0.5
    assert L.self_feature_preservation(torch.rand(2, 8, 6, 7), features) > 0.5


def test_features_of_several_layers_are_averaged() -> None:
    a, b = [torch.rand(1, 4, 8, 8), torch.rand(1, 8, 4, 4)], [torch.rand(1, 4, 8, 8), torch.rand(1, 8, 4, 4)]
    each = [L.self_feature_preservation(one, other) for one, other in zip(a, b, strict=True)]
    torch.testing.assert_close(L.self_feature_preservation(a, b), sum(each) / 2)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([], [], "0 layers"),
        (torch.rand(1, 2, 4, 4), [torch.rand(1, 2, 4, 4)] * 2, "1 layers against 2"),
        (torch.rand(1, 2, 4, 4), torch.rand(1, 2, 4, 5), "against"),
        (torch.rand(1, 2, 1, 1), torch.rand(1, 2, 1, 1), "one pixel"),
    ],
)
def test_features_that_do_not_go_together(a, b, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        L.self_feature_preservation(a, b)


def test_feature_gradients_are_finite_where_features_are_dead() -> None:
    for other in (torch.zeros(1, 4, 5, 5), torch.rand(1, 4, 5, 5)):
        features = torch.zeros(1, 4, 5, 5, requires_grad=True)
        L.self_feature_preservation(features, other).backward()
        assert torch.isfinite(features.grad).all()


def test_shares_of_the_sum() -> None:
    terms = {"a": torch.tensor(2.0, requires_grad=True), "b": torch.tensor(6.0), "c": torch.tensor(0.0)}
    assert L.term_shares(terms) == {"a": 0.25, "b": 0.75, "c": 0.0}
    assert L.term_shares({"a": torch.tensor(0.0)}) == {"a": 0.0}
    assert L.term_shares({}) == {}
