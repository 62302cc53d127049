"""The two discriminators of LAE-GAN, and the crops that the local one sees.

References: J Cloud Comp 12:160 (2023), section "Loss function": a global discriminator, and a local one on five
random regions. The paper does not print their layers; these are EnlightenGAN's (Jiang et al., TIP 2021), which it
names as its model: PatchGANs without normalisation.
"""

import torch
from torch import Tensor, nn

GLOBAL_LAYERS, LOCAL_LAYERS = 5, 4


class PatchDiscriminator(nn.Module):
    """C(x): how real each patch looks, unbounded; the losses want it raw, without a sigmoid.

    `layers` convolutions of stride 2, then two of stride 1; kernel 4, padding 2, LeakyReLU 0.2 between. The widths
    double from `width` up to 8 * width. 11.15 M parameters for 5 layers (global), 6.96 M for 4 (local).

    Args:
        layers: convolutions of stride 2, one or more.
        width: channels after the first.

    Raises:
        ValueError: for fewer than one layer or channel.
    """

    def __init__(self, layers: int, width: int = 64):
        super().__init__()
        if layers < 1 or width < 1:
            raise ValueError(f"a discriminator of {layers} layers and width {width}: both must be 1 or more")
        widths = [3, *(width * min(2**i, 8) for i in range(layers + 1)), 1]
        stack: list[nn.Module] = []
        for i, (c_in, c_out) in enumerate(zip(widths, widths[1:], strict=False)):
            conv = nn.Conv2d(c_in, c_out, 4, stride=2 if i < layers else 1, padding=2)
            nn.init.normal_(conv.weight, std=0.02)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            stack += [conv, nn.LeakyReLU(0.2)]
        self.stack = nn.Sequential(*stack[:-1])

    def forward(self, rgb: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 1, h, w): 13 x 13 for 320 x 320 and 5 layers, 5 x 5 for 32 x 32 and 4."""
        return self.stack(rgb * 2 - 1)


def random_crops(
    *images: Tensor,
    size: int,
    count: int = 5,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, ...]:
    """`count` square crops of every sample, at the same places in all images; gradients flow through.

    images: one or more (B, C, H, W), of the same B, H and W. `generator` is one of the CPU.
    Returns for each image (B * count, C, size, size), the crops of a sample beside each other.
    Source: the paper's "Loss function" (five random regions).

    Raises:
        ValueError: images that differ in size or are smaller than the crop.
    """
    if not images:
        raise ValueError("random_crops needs at least one image batch")
    batch, _, height, width = images[0].shape
    for image in images[1:]:
        if image.shape[0] != batch or image.shape[2:] != images[0].shape[2:]:
            raise ValueError(f"images to crop alike differ: {tuple(images[0].shape)} and {tuple(image.shape)}")
    if size < 1 or count < 1:
        raise ValueError(f"{count} crops of {size} pixels: both must be 1 or more")
    if min(height, width) < size:
        raise ValueError(f"images of {width}x{height} are smaller than the {size}x{size} crops: ask for smaller crops")
    room = torch.tensor([height - size, width - size])
    drawn = torch.rand((batch, count, 2), generator=generator, dtype=torch.float64)
    corners = (drawn * (room + 1)).long()
    places = [(sample, top, left) for sample, row in enumerate(corners.tolist()) for top, left in row]
    return tuple(
        torch.stack([image[sample, :, top : top + size, left : left + size] for sample, top, left in places])
        for image in images
    )
