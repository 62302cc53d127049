"""What generator and discriminators play against each other for; each function gives one scalar tensor.

`real` and `fake` are a discriminator's raw answers C(x), of any shape; means go over samples and patches.

References: J Cloud Comp 12:160 (2023), section "Loss function" (L_D and L_G, after Jolicoeur-Martineau 2018 and
Mao et al. 2017).
"""

from torch import Tensor


def relativistic_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """L_D = E_r[(C(x_r) - E_f C(x_f) - 1)^2] + E_f[(C(x_f) - E_r C(x_r) - 0)^2]: the real shall look more real.

    The paper prints a sigma around each difference. It is left out, as in EnlightenGAN's code, whose paper prints
    the same formula: a sigmoid under a square has no slope where the answer is most wrong, so a discriminator that
    is far off would not learn, and the generator would get no gradient from one that is far ahead. Without it the
    goals 1 and 0 meet half way: the least is 1/2, where the real looks 1/2 more real. Goals 1 and -1 would differ
    in the scale of C alone.

    >>> relativistic_discriminator_loss(torch.full((2,), 0.5), torch.zeros(2)).item()
    0.5
    """
    real, fake = real.float(), fake.float()
    return ((real - fake.mean() - 1) ** 2).mean() + ((fake - real.mean()) ** 2).mean()


def relativistic_generator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """L_G = E_f[(C(x_f) - E_r C(x_r) - 1)^2] + E_r[(C(x_r) - E_f C(x_f) - 0)^2]: the fake shall look more real.

    The discriminator's loss with the roles exchanged; no sigma, for the same reason. `real` may be computed
    without gradients: it does not depend on the generator.
    """
    return relativistic_discriminator_loss(fake, real)
