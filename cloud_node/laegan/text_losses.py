"""Losses that look after text, on RGB batches (B, 3, H, W) in [0, 1]; each gives one scalar tensor.

`pre` is the frame after the Zero-DCE stage, `output` the generator's, `mask` (B, 1, H, W) in [0, 1] the text that a
detector found on `pre` (`attention.text_mask`). What comes from `pre` is a target: no gradient flows into it.
Each runs in float32 also under autocast: Sobel edges and variances are small differences.

Each term of the paper stands beside a form without its defect. References: J Cloud Comp 12:160 (2023), sections
"Text attention mechanism" (ETAM) and "Edge attention map".
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, TypeVar, cast

import kornia
import torch
import torch.nn.functional as F
from torch import Tensor

from cloud_node.laegan.attention import TEXT_LEVEL, blur, check_mask, local_statistics, luma, text_attention

Loss = TypeVar("Loss", bound=Callable[..., Tensor])


def _full_precision(loss: Loss) -> Loss:
    @wraps(loss)
    def run(output: Tensor, pre: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if output.shape != pre.shape:
            raise ValueError(f"output {tuple(output.shape)} and pre {tuple(pre.shape)} must be of one shape")
        with torch.autocast(output.device.type, enabled=False):
            return loss(output.float(), pre.detach().float(), *args, **kwargs)

    return cast(Loss, run)


@_full_precision
def etam_loss_paper(output: Tensor, pre: Tensor, mask: Tensor, level: float = TEXT_LEVEL) -> Tensor:
    """L_TEXT = |I' - L'|_1 as printed: I' = 1 - Y(pre with its text boxes painted `level`), L' = 1 - Y(output).

    Mean over pixels. Its minimum inside a box is a flat grey of 200/255: it rewards wiping the text away. Kept for
    the preset `paper`; `etam_loss_contrast` lights text up and leaves it readable.
    """
    return F.l1_loss(1 - luma(output), text_attention(pre, mask, level))


@_full_precision
def etam_loss_contrast(
    output: Tensor,
    pre: Tensor,
    mask: Tensor,
    level: float = 0.5,
    sigma: float = 16.0,
    noise_sigma: float = 1.0,
    contrast: float = 1.0,
) -> Tensor:
    """ETAM that keeps the contrast of ink and ground. With m the mask, G the output, Z the pre-enhanced frame:

        L = sum m |mu(G) - max(level, mu(Z))| / sum m  +  contrast * sum m max(0, s(Z) - s(G)) / sum m

    mu and s are the mean and the standard deviation of the luminance around a pixel, within the text alone
    (`attention.local_statistics`). The first part brings text as a whole to `level`, and leaves what is brighter;
    the second, one-sided, lets contrast grow and not shrink. 0 where there is no text.

    Args:
        level: luminance that dark text shall reach, 0..1; 0.5..0.784 (the paper's 200 of 255) make sense.
        sigma: of the window, in pixels; about the height of a line. Much smaller, and the first part evens out what
            distinguishes a letter from a gap.
        noise_sigma: both frames are blurred by this many pixels before s is taken, so that noise does not count as
            contrast to be kept; 0 counts it.
        contrast: weight of the second part.
    """
    check_mask(mask, output)
    y_output, y_pre = luma(output), luma(pre)
    reached, _, place = local_statistics(y_output, mask, sigma)
    before, _, _ = local_statistics(y_pre, mask, sigma)
    _, have, _ = local_statistics(blur(y_output, noise_sigma), mask, sigma)
    _, had, _ = local_statistics(blur(y_pre, noise_sigma), mask, sigma)
    brightness = (reached - before.clamp(min=level)).abs()
    return _masked_mean(brightness + contrast * F.relu(had - have), place)


@_full_precision
def edge_loss_paper(output: Tensor, pre: Tensor) -> Tensor:
    """L_EDGE = |E' - O'|_2 as printed: mean squared difference of the Sobel magnitudes of the two luminances.

    `pre` is noisy and so is its edge map, everywhere in the frame: the term asks for the noise back.
    """
    return F.mse_loss(_sobel(luma(output)), _sobel(luma(pre)))


def noise_level(y: Tensor) -> Tensor:
    """Standard deviation of the noise in luminances (B, 1, H, W): (B,).

    Median magnitude of a difference of Laplacians, which is blind to flat patches and straight edges.
    Source: Immerkaer, Computer Vision and Image Understanding 64(2), 1996; the median in place of the mean.
    """
    kernel = y.new_tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])  # its squares sum to 36
    response = F.conv2d(F.pad(y, (1, 1, 1, 1), mode="replicate"), kernel.expand(1, 1, 3, 3))
    return response.abs().flatten(1).median(dim=1).values / (6 * 0.6745)


def _bilateral(y: Tensor) -> Tensor:
    # 2.5: on receipts with noise of 0.013..0.067, clean text costs less than noisy and than blurred text; 2 lets
    # strong noise through, 3 and 4 blur strokes.
    reach = (2.5 * noise_level(y)).clamp(0.02, 0.5)
    return kornia.filters.bilateral_blur(y, (5, 5), reach, (1.5, 1.5), border_type="replicate")


def _median(y: Tensor) -> Tensor:
    return kornia.filters.median_blur(y, (3, 3), border_type="replicate")


DENOISERS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "bilateral": _bilateral,
    "median": _median,
    "gaussian": lambda y: blur(y, 1.0),
    "none": lambda y: y,
}


@_full_precision
def edge_loss_masked(
    output: Tensor,
    pre: Tensor,
    mask: Tensor,
    denoise: str = "bilateral",
    floor: float = 0.1,
    keep: float = 1.0,
) -> Tensor:
    """Edges of text shall be those of the denoised pre-enhanced frame, or sharper. With M = mask + floor:

        L = sum M (rho(O - E) + keep * max(0, E - O)) / sum M,   rho(d) = sqrt(d^2 + 1e-6)
        E = Sobel magnitude of D(Y(pre)),   O = Sobel magnitude of Y(output)

    Args:
        mask: (B, 1, H, W) in [0, 1]; soft borders do well (`attention.blur`).
        denoise: D, one of DENOISERS. 'bilateral' measures the noise and keeps strokes; 'median' and 'gaussian' wear
            them down, and the term then asks for blurred text.
        floor: how much pixels outside text count.
        keep: weight of the one-sided part, under which an edge costs more to lose than to sharpen.

    Raises:
        ValueError: for an unknown filter, or shapes that do not fit (as every loss here).
    """
    if denoise not in DENOISERS:
        raise ValueError(f"there is no filter {denoise!r} for edges; choose one of: {', '.join(DENOISERS)}")
    check_mask(mask, output)
    wanted, have = _sobel(DENOISERS[denoise](luma(pre))), _sobel(luma(output))
    cost = torch.sqrt((have - wanted) ** 2 + 1e-6) + keep * F.relu(wanted - have)
    return _masked_mean(cost, mask + floor)


def _sobel(y: Tensor) -> Tensor:
    return kornia.filters.sobel(y, normalized=True, eps=1e-6)


def _masked_mean(value: Tensor, mask: Tensor) -> Tensor:
    return (value * mask).sum() / mask.sum().clamp(min=1)
