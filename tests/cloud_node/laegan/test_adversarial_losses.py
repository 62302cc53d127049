import pytest
import torch

from cloud_node.laegan import adversarial_losses as A
from cloud_node.laegan.discriminators import PatchDiscriminator


def test_relativistic_formulas() -> None:
    real, fake = torch.randn(4, 1, 3, 3), torch.randn(2, 1, 5, 5)
    r, f = real.mean(), fake.mean()
    expected = ((real - f - 1) ** 2).mean() + ((fake - r) ** 2).mean()
    torch.testing.assert_close(A.relativistic_discriminator_loss(real, fake), expected)
    expected = ((fake - r - 1) ** 2).mean() + ((real - f) ** 2).mean()
    torch.testing.assert_close(A.relativistic_generator_loss(real, fake), expected)


def test_only_the_difference_counts_in_the_relativistic_form() -> None:
    real, fake = torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4)
    torch.testing.assert_close(
        A.relativistic_generator_loss(real + 5, fake + 5), A.relativistic_generator_loss(real, fake)
    )


@pytest.mark.parametrize("lead", [-8.0, -1.0, 0.0, 0.4, 8.0])
def test_slopes_do_not_fade_however_far_off(lead: float) -> None:
    """The fake looks `lead` more real than the real. The generator goes to 1/2, the discriminator to -1/2.

    With the printed sigma both slopes at leads of 8 and -8 would be below 0.001.
    """
    real = torch.zeros(2, 1, 3, 3)
    fake = torch.full((2, 1, 3, 3), lead, requires_grad=True)
    (generator,) = torch.autograd.grad(A.relativistic_generator_loss(real, fake), fake)
    (discriminator,) = torch.autograd.grad(A.relativistic_discriminator_loss(real, fake), fake)
    assert float(generator.sum()) == pytest.approx(4 * (lead - 0.5), abs=1e-5)
    assert float(discriminator.sum()) == pytest.approx(4 * (lead + 0.5), abs=1e-5)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_gradients_are_finite_on_constant_images(level: float) -> None:
    model = PatchDiscriminator(2, width=4)
    fake = torch.full((2, 3, 16, 16), level, requires_grad=True)
    real = torch.full((2, 3, 16, 16), 1 - level)
    total = A.relativistic_generator_loss(model(real), model(fake))
    total = total + A.relativistic_discriminator_loss(model(real), model(fake))
    total.backward()
    for gradient in (fake.grad, *(p.grad for p in model.parameters())):
        assert gradient is not None and torch.isfinite(gradient).all()
