"""The two discriminators with their optimizers: what the generator plays against."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cloud_node.laegan.adversarial_losses import relativistic_discriminator_loss, relativistic_generator_loss
from cloud_node.laegan.discriminators import GLOBAL_LAYERS, LOCAL_LAYERS, PatchDiscriminator
from cloud_node.training.frozen import placed

LAYERS = {"adversarial_global": GLOBAL_LAYERS, "adversarial_local": LOCAL_LAYERS}
BETAS = (0.5, 0.999)


class Critics:
    """A PatchGAN with its own Adam for each adversarial term in `terms`.

    Discriminator and generator play the relativistic LSGAN of `adversarial_losses`.
    """

    def __init__(self, terms: Iterable[str], rate: float, width: int, device: torch.device):
        self.rate = rate
        self.networks: dict[str, nn.Module] = {
            term: placed(PatchDiscriminator(LAYERS[term], width), device) for term in sorted(terms)
        }
        self.optimizers = {
            term: torch.optim.Adam(network.parameters(), lr=rate, betas=BETAS)
            for term, network in self.networks.items()
        }

    def generator_loss(self, term: str, real: Tensor, fake: Tensor) -> Tensor:
        """How far the fakes (B, 3, H, W) are from looking more real than the real; no gradient to the critic."""
        network = self.networks[term].requires_grad_(False)
        with torch.no_grad():
            answer = network(real)
        loss = relativistic_generator_loss(answer, network(fake))
        network.requires_grad_(True)
        return loss

    def loss(self, term: str, real: Tensor, fake: Tensor) -> Tensor:
        """The critic's own: how far the real are from looking more real than the fakes; none to the generator."""
        network = self.networks[term]
        return relativistic_discriminator_loss(network(real), network(fake.detach()))

    def state_dict(self) -> dict[str, Any]:
        return {
            term: {"network": network.state_dict(), "optimizer": self.optimizers[term].state_dict()}
            for term, network in self.networks.items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for term, network in self.networks.items():
            network.load_state_dict(state[term]["network"])
            self.optimizers[term].load_state_dict(state[term]["optimizer"])
