"""Every term of a training's loss: a small function of what one step knows. `recipes` weighs them.

spatial, exposure, colour, smoothness: the curve, without reference. charbonnier, gradient, tone: towards the clean
frame. reading, preserving: the text detector shall see in the output what it sees in the clean frame; words: and
the recogniser shall read there what it reads here. etam, edge, sfp_*, adversarial_*: the paper's, without pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from cloud_node.laegan import losses as L
from cloud_node.laegan import text_losses as T
from cloud_node.laegan.attention import luma
from cloud_node.laegan.ctc import cut, lines_of
from cloud_node.laegan.discriminators import random_crops
from cloud_node.training.critics import Critics
from cloud_node.training.frozen import Frozen, channels_last
from cloud_node.training.recipes import Recipe

FINE_LAYERS = 2  # of the detector's backbone, strides 4 and 8: strokes, not layout
UNLIKELY = 1e-2  # probability spread over all letters: no single step outweighs the others
TEACHER_SHARE = 0.5  # of the target; the rest is the clean frame
Known = TypeVar("Known")


@dataclass
class Step:
    """What one step knows; frames are (B, 3, S, S) in [0, 1], `output` not clamped. None is what its stage lacks."""

    recipe: Recipe
    frozen: Frozen
    low: Tensor
    pre: Tensor  # after the curve
    output: Tensor
    alpha: Tensor | None = None  # the curve's maps, where they learn
    clean: Tensor | None = None  # the target of pairs
    text: Tensor | None = None  # the number of the line of text that a pixel lies in, (B, 1, S, S), 0 for none
    real: Tensor | None = None  # normal light, of other photographs
    critics: Critics | None = None
    seed: int = 0  # of the random crops
    bf16: bool = False  # the frozen networks run in bfloat16

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.low.device.type, torch.bfloat16, enabled=self.bf16)

    @cached_property
    def weight(self) -> Tensor:
        """What a pixel counts, (B, 1, S, S): text more than the rest."""
        return 1 + self.recipe.text * (known(self.text) > 0)

    @cached_property
    def sight(self) -> tuple[tuple[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]:
        """What the detector sees, (probability, features), in the output and in the clean frame.

        Of the first half of the batch: the detector costs more than a small generator.
        """
        half = slice(0, (len(self.output) + 1) // 2)
        twin = known(self.frozen.twin)
        with self.autocast():
            seen = twin.both(channels_last(self.output[half].clamp(0, 1)))
            with torch.no_grad():
                wanted = twin.both(channels_last(known(self.clean)[half]))
        return seen, wanted

    @cached_property
    def mask(self) -> Tensor:
        """The text that the detector finds in the pre-enhanced frames, (B, 1, S, S), 0 or 1."""
        with self.autocast():
            return self.frozen.text(self.pre)

    @cached_property
    def crops(self) -> tuple[Tensor, Tensor]:
        """The same random crops of output and low frames, (B * 5, 3, 32, 32) each."""
        output, low = self._cropped(0, self.output, self.low)
        return output, low

    @cached_property
    def real_crops(self) -> Tensor:
        return self._cropped(1, known(self.real))[0]

    def _cropped(self, stream: int, *frames: Tensor) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(2 * self.seed + stream)
        return random_crops(*frames, size=self.recipe.crop_side, count=self.recipe.crops, generator=generator)

    def played(self, term: str) -> tuple[Tensor, Tensor]:
        """The real and the fake frames or crops that the critic of an adversarial term looks at."""
        if term == "adversarial_global":
            return known(self.real), self.output
        return self.real_crops, self.crops[0]


def known(value: Known | None) -> Known:
    """The value of something that the stage has: a recipe gives no term to a stage without what the term needs."""
    assert value is not None
    return value


def spatial(step: Step) -> Tensor:
    return L.spatial_loss(step.output, step.low)


def exposure(step: Step) -> Tensor:
    recipe = step.recipe
    region = step.low.shape[-1] // recipe.exposure_regions if recipe.exposure_regions else 16
    brighter = step.low if recipe.bright_stays else torch.zeros_like(step.low)
    return L.exposure_loss(step.output, brighter, recipe.exposure_level, region)


def colour(step: Step) -> Tensor:
    return L.colour_loss(step.output)


def smoothness(step: Step) -> Tensor:
    return L.smoothness_loss(known(step.alpha))


def charbonnier(step: Step) -> Tensor:
    return L.charbonnier(step.output, known(step.clean), step.weight)


def gradient(step: Step) -> Tensor:
    return L.gradient_loss(step.output, known(step.clean), step.weight)


def tone(step: Step) -> Tensor:
    return L.tone_loss(step.output, known(step.clean))


def reading(step: Step) -> Tensor:
    """Mean difference of the detector's text probability."""
    (seen, _), (wanted, _) = step.sight
    return (seen.float() - wanted.float()).abs().mean()


def preserving(step: Step) -> Tensor:
    """Mean difference of the detector's fine features, against their size."""
    (_, seen), (_, wanted) = step.sight
    pairs = zip(seen[:FINE_LAYERS], wanted[:FINE_LAYERS], strict=True)
    return sum((a.float() - b.float()).abs().mean() / b.float().abs().mean() for a, b in pairs)  # type: ignore[return-value]


def words(step: Step) -> Tensor:
    """How far what the recogniser reads in the output is from what it reads in the clean frame: divergence, in nats.

    A step's mean, of a few lines drawn at random: a line costs as much as a small frame.
    """
    lines = list(lines_of(known(step.text)))
    if not lines:
        return step.output.sum() * 0
    order = torch.randperm(len(lines), generator=torch.Generator().manual_seed(2 * step.seed))
    chosen = [lines[i] for i in order[: step.recipe.lines].tolist()]
    twin = known(step.frozen.recognizer)
    with step.autocast():
        with torch.no_grad():
            wanted = twin(cut(known(step.clean), chosen)).float()
        read = twin(cut(step.output.clamp(0, 1), chosen)).float()
    floor = UNLIKELY / wanted.shape[-1]
    return (wanted * ((wanted + floor).log() - (read + floor).log())).sum(dim=-1).mean()


def etam(step: Step) -> Tensor:
    form = T.etam_loss_paper if step.recipe.etam == "paper" else T.etam_loss_contrast
    return form(step.output, step.pre, step.mask)


def edge(step: Step) -> Tensor:
    if step.recipe.edge == "paper":
        return T.edge_loss_paper(step.output, step.pre)
    return T.edge_loss_masked(step.output, step.pre, step.mask)


def sfp_global(step: Step) -> Tensor:
    return _preserved(step, step.output, step.low)


def sfp_local(step: Step) -> Tensor:
    return _preserved(step, *step.crops)


def _preserved(step: Step, output: Tensor, low: Tensor) -> Tensor:
    features = known(step.frozen.features)
    with step.autocast():
        with torch.no_grad():
            wanted = features(channels_last(low))
        return L.self_feature_preservation(features(channels_last(output.clamp(0, 1))), wanted)


def adversarial_global(step: Step) -> Tensor:
    return _played(step, "adversarial_global")


def adversarial_local(step: Step) -> Tensor:
    return _played(step, "adversarial_local")


def _played(step: Step, term: str) -> Tensor:
    real, fake = step.played(term)
    with step.autocast():
        return known(step.critics).generator_loss(term, real, fake)


TERMS: Final[dict[str, Callable[[Step], Tensor]]] = {
    function.__name__: function
    for function in (
        *(spatial, exposure, colour, smoothness),
        *(charbonnier, gradient, reading, preserving, words, tone),
        *(etam, edge, sfp_global, sfp_local, adversarial_global, adversarial_local),
    )
}


def meet(clean: Tensor, pre: Tensor, regions: int = 4) -> Tensor:
    """The clean frame (B, 3, H, W) with its brightness brought to that of the pre-enhanced one, region by region.

    Exposure is the curve's decision. A target that contradicts it, like a white page where the curve made a grey
    one, teaches the body to guess exposures; what it learns from pages is wrong for streets, and it learns little
    else in a short training. Colours stay the clean frame's.
    """
    have, want = (F.adaptive_avg_pool2d(luma(image), regions) + 0.02 for image in (clean, pre))
    factor = F.interpolate((want / have).clamp(0.4, 1.6), clean.shape[-2:], mode="bilinear")
    return (clean * factor).clamp(0, 1)


def taught(clean: Tensor, teacher: Tensor) -> Tensor:
    """The target of distillation: half the teacher's output, half the clean frame, both (B, 3, H, W)."""
    return TEACHER_SHARE * teacher + (1 - TEACHER_SHARE) * clean
