import pytest
import torch

from cloud_node.laegan.discriminators import GLOBAL_LAYERS, LOCAL_LAYERS, PatchDiscriminator, random_crops


@pytest.mark.parametrize(
    ("layers", "parameters", "size", "patches"),
    [(GLOBAL_LAYERS, 11_154_369, 320, 13), (LOCAL_LAYERS, 6_959_553, 32, 5)],
)
def test_sizes_are_enlightengans(layers: int, parameters: int, size: int, patches: int) -> None:
    model = PatchDiscriminator(layers)
    assert sum(p.numel() for p in model.parameters()) == parameters
    with torch.no_grad():
        assert model(torch.rand(1, 3, size, size)).shape == (1, 1, patches, patches)


def test_starts_small_and_unbounded() -> None:
    torch.manual_seed(0)
    model = PatchDiscriminator(4, width=16)
    kernels = [p for p in model.parameters() if p.ndim == 4]
    assert all(abs(float(kernel.detach().std(correction=0)) - 0.02) < 0.003 for kernel in kernels)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(20)
        answers = model(torch.rand(2, 3, 48, 40))
    assert answers.abs().max() > 1.5  # no sigmoid


def test_learns_to_tell_dark_from_bright() -> None:
    torch.manual_seed(0)
    model = PatchDiscriminator(2, width=8)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    dark, bright = torch.rand(8, 3, 16, 16) * 0.3, torch.rand(8, 3, 16, 16) * 0.3 + 0.6
    for _ in range(60):
        loss = ((model(bright) - 1) ** 2).mean() + (model(dark) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert float(model(bright).mean() - model(dark).mean()) > 0.5


def test_a_discriminator_of_nothing() -> None:
    with pytest.raises(ValueError, match="0 layers"):
        PatchDiscriminator(0)


def positions(height: int, width: int, batch: int = 3) -> torch.Tensor:
    """(B, 3, H, W) whose channels say sample, row and column."""
    sample, row, column = torch.meshgrid(torch.arange(batch), torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([sample, row, column], dim=1).float()


def test_crops_are_at_the_same_places_in_all_images() -> None:
    image = positions(20, 31)
    a, b = random_crops(image, image * 2, size=8, generator=torch.Generator().manual_seed(1))
    assert a.shape == (15, 3, 8, 8)
    torch.testing.assert_close(2 * a, b)
    assert a[:, 0].flatten(1).amax(1).tolist() == [0.0] * 5 + [1.0] * 5 + [2.0] * 5
    for crop in a:  # a window of the image, not a mix
        top, left = crop[1, 0, 0], crop[2, 0, 0]
        assert torch.equal(crop[1:], positions(8, 8, 1)[0, 1:] + torch.stack([top, left]).view(2, 1, 1))


def test_crops_reach_every_corner_and_repeat_with_the_seed() -> None:
    image = positions(9, 10, 1)
    (crops,) = random_crops(image, size=8, count=200, generator=torch.Generator().manual_seed(0))
    assert {(int(c[1, 0, 0]), int(c[2, 0, 0])) for c in crops} == {(y, x) for y in (0, 1) for x in (0, 1, 2)}
    (again,) = random_crops(image, size=8, count=200, generator=torch.Generator().manual_seed(0))
    assert torch.equal(crops, again)


def test_gradients_flow_through_crops() -> None:
    image = torch.rand(2, 3, 12, 12, requires_grad=True)
    random_crops(image, size=12, count=2)[0].sum().backward()
    assert torch.equal(image.grad, torch.full_like(image, 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 17}, "20x16 are smaller than the 17x17 crops"),
        ({"size": 0}, "1 or more"),
    ],
)
def test_crops_that_cannot_be_cut(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_crops(torch.rand(2, 3, 16, 20), **settings)


def test_crops_of_images_that_differ() -> None:
    with pytest.raises(ValueError, match="differ"):
        random_crops(torch.rand(2, 3, 16, 20), torch.rand(2, 3, 20, 16), size=8)
    with pytest.raises(ValueError, match="at least one"):
        random_crops(size=8)
