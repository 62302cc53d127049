"""The two discriminators of LAE-GAN, and the crops that the local one sees.

References: J Cloud Comp 12:160 (2023), section "Loss function": a global discriminator, and a local one on five
random regions. The paper does not print their layers; these are EnlightenGAN's (Jiang et al., TIP 2021), which it
names as its model: PatchGANs without normalisation.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from cloud_node.laegan.attention import check_mask

GLOBAL_LAYERS, LOCAL_LAYERS = 5, 4


class PatchDiscriminator(nn.Module):
    """C(x): how real each patch looks, unbounded; the losses want it raw, without a sigmoid.

    `layers` convolutions of stride 2, then two of stride 1; kernel 4, padding 2, LeakyReLU 0.2 between. The widths
    double from `width` up to 8 * width. 11.15 M parameters for 5 layers (global), 6.96 M for 4 (local).

    Args:
        layers: convolutions of stride 2, one or more.
        width: channels after the first.
        spectral: spectral normalisation of every convolution, for training on few images (Miyato et al., 2018).

    Raises:
        ValueError: for fewer than one layer or channel.
    """

    def __init__(self, layers: int, width: int = 64, spectral: bool = False):
        super().__init__()
        if layers < 1 or width < 1:
            raise ValueError(f"a discriminator of {layers} layers and width {width}: both must be 1 or more")
        widths = [3, *(width * min(2**i, 8) for i in range(layers + 1)), 1]
        stack: list[nn.Module] = []
        for i, (c_in, c_out) in enumerate(zip(widths, widths[1:], strict=False)):
            conv = nn.Conv2d(c_in, c_out, 4, stride=2 if i < layers else 1, padding=2)
            nn.init.normal_(conv.weight, std=0.02)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            stack += [spectral_norm(conv) if spectral else conv, nn.LeakyReLU(0.2)]
        self.stack = nn.Sequential(*stack[:-1])

    def forward(self, rgb: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 1, h, w): 13 x 13 for 320 x 320 and 5 layers, 5 x 5 for 32 x 32 and 4."""
        return self.stack(rgb * 2 - 1)


def random_crops(
    *images: Tensor,
    size: int,
    count: int = 5,
    generator: torch.Generator | None = None,
    text_mask: Tensor | None = None,
    from_text: int = 0,
) -> tuple[Tensor, ...]:
    """`count` square crops of every sample, at the same places in all images; gradients flow through.

    images: one or more (B, C, H, W), of the same B, H and W. text_mask: (B, 1, H, W), 0 outside text. The first
    `from_text` crops of a sample hold a pixel of text, drawn with the mask as its density and anywhere in the crop;
    a sample without text gets uniform crops instead. `generator` is one of the CPU.
    Returns for each image (B * count, C, size, size), the crops of a sample beside each other.
    Source: the paper's "Loss function" (five random regions); the share from text is ours.

    Raises:
        ValueError: images that differ in size or are smaller than the crop, a mask that does not fit, or
            `from_text` outside 0..count or without a mask.
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
    if not 0 <= from_text <= count:
        raise ValueError(f"from_text {from_text} must be 0..{count}, the number of crops")
    if from_text and text_mask is None:
        raise ValueError("crops from text need a text_mask")
    room = torch.tensor([height - size, width - size])
    corners = _uniform((batch, count, 2), room + 1, generator)
    if text_mask is not None and from_text:
        check_mask(text_mask, images[0])
        density = text_mask.detach().float().cpu().flatten(1)
        written = density.sum(dim=1) > 0
        if written.any():
            at = density[written].multinomial(from_text, replacement=True, generator=generator)
            pixels = torch.stack([at // width, at % width], dim=-1)  # (written, from_text, 2)
            shift = _uniform(tuple(pixels.shape), torch.tensor([size, size]), generator)
            corners[written, :from_text] = (pixels - shift).clamp(min=0).minimum(room)
    places = [(sample, top, left) for sample, row in enumerate(corners.tolist()) for top, left in row]
    return tuple(
        torch.stack([image[sample, :, top : top + size, left : left + size] for sample, top, left in places])
        for image in images
    )


def _uniform(shape: tuple[int, ...], end: Tensor, generator: torch.Generator | None) -> Tensor:
    """Integers from 0 to below `end`, which broadcasts over the last dimension."""
    return (torch.rand(shape, generator=generator, dtype=torch.float64) * end).long()
