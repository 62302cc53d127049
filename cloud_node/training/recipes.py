"""What a training does, as data: its stages, what each term counts, and how the learning rate goes.

`default` is what new weights come from; the cards say what the committed ones saw. `paper` is LAE-GAN's training to the
letter (J Cloud Comp 12:160, 2023, section "Loss function": all six terms, each with weight 1, no pairs), to compare
with.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from cloud_node.laegan import GeneratorConfig
from cloud_node.training.schedule import Curve

CURVE_TERMS: Final = frozenset({"spatial", "exposure", "colour", "smoothness"})  # of the stage 'zero-dce'
PAIRED_TERMS: Final = frozenset({"charbonnier", "gradient", "reading", "preserving", "words", "tone"})  # need pairs
ADVERSARIAL_TERMS: Final = frozenset({"adversarial_global", "adversarial_local"})
PRESERVING_TERMS: Final = frozenset({"sfp_global", "sfp_local"})
TEXT_TERMS: Final = frozenset({"etam", "edge"})
UNPAIRED_TERMS: Final = TEXT_TERMS | PRESERVING_TERMS | ADVERSARIAL_TERMS
ETAM_FORMS: Final = ("contrast", "paper")
EDGE_FORMS: Final = ("masked", "paper")


class RecipeError(ValueError):
    """A recipe was asked for what it does not do; the message says what it can do."""


@dataclass(frozen=True)
class Stage:
    name: str  # 'zero-dce': the curve, without reference. 'pairs': the body. 'unpaired': the body, without pairs
    terms: Mapping[str, float]  # name -> weight, in the order in which they are added up
    rate: float  # highest learning rate of the stage's Adam
    share: float = 1.0  # of the steps or minutes, against the other stages' shares
    curve: Curve = "cosine"  # how the rate goes, see `schedule`
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 0.5  # largest norm of the gradient; infinity clips nothing

    @property
    def allowed(self) -> frozenset[str]:
        """The terms that can be switched on in this stage."""
        return {"zero-dce": CURVE_TERMS, "pairs": PAIRED_TERMS | UNPAIRED_TERMS}.get(self.name, UNPAIRED_TERMS)


@dataclass(frozen=True)
class Recipe:
    name: str
    stages: tuple[Stage, ...]
    etam: str = "contrast"  # one of ETAM_FORMS
    edge: str = "masked"  # one of EDGE_FORMS
    text: float = 1.0  # extra weight of a pixel inside a text box, in charbonnier and gradient
    exposure_level: float = 0.5  # mean of a lit region; 0.6 washes photographs out
    exposure_regions: int = 3  # regions along a side of the frame; 0: regions of 16 pixels, as published
    bright_stays: bool = True  # regions brighter than the level are left so; False pulls them down, as published
    averaging: float = 0.999  # of the exponential mean of the parameters, which is what gets saved
    discriminator_rate: float = 1e-4  # of each discriminator's own Adam; constant, then linear to zero
    discriminator_width: int = 64  # channels of its first layer
    crops: int = 5  # random regions of a frame that the local terms see
    crop_side: int = 32  # pixels
    lines: int = 2  # lines of text of a batch that the recogniser reads

    def of(self, cfg: GeneratorConfig) -> "Recipe":
        """Without the stages that a network has nothing for: a solved curve, or no body, has no parameters."""
        kept = [s for s in self.stages if (not cfg.exposure if s.name == "zero-dce" else cfg.width)]
        return replace(self, stages=tuple(kept))

    def changed(self, add: Mapping[str, float], remove: Iterable[str] = ()) -> "Recipe":
        """The recipe with terms added to its last stage, or their weights changed, and others removed from it.

        Raises RecipeError for a term that this stage cannot have, or one to be removed that it has not.
        """
        stage, terms = self.stages[-1], dict(self.stages[-1].terms)
        for name in remove:
            if name not in terms:
                raise RecipeError(
                    f"--without {name}: recipe {self.name!r} has only {', '.join(terms)} in its last stage"
                )
            del terms[name]
        for name, weight in add.items():
            if name not in stage.allowed:
                why = ": it never sees pairs" if stage.name == "unpaired" and name in PAIRED_TERMS else ""
                raise RecipeError(
                    f"--with {name}: stage {stage.name!r} of recipe {self.name!r} cannot have it{why}. "
                    f"It can have {', '.join(sorted(stage.allowed))}"
                )
            if not 0 < weight < float("inf"):
                raise RecipeError(f"--with {name}={weight:g}: a weight must be above 0; --without {name} removes it")
            terms[name] = weight
        if not terms:
            raise RecipeError(f"stage {stage.name!r} of recipe {self.name!r} is left without a term: nothing to learn")
        return replace(self, stages=(*self.stages[:-1], replace(stage, terms=MappingProxyType(terms))))

    def with_dark_photographs(self) -> "Recipe":
        """The recipe with DARK_STAGE after its 'pairs', to learn from really dark photographs, which have no pairs.

        A recipe that ends otherwise is left as it is: 'unpaired' learns from them already, and so does 'zero-dce'.
        """
        return replace(self, stages=(*self.stages, DARK_STAGE)) if self.stages[-1].name == "pairs" else self

    def with_rate(self, rate: float) -> "Recipe":
        """The recipe with another highest learning rate in its last stage."""
        return replace(self, stages=(*self.stages[:-1], replace(self.stages[-1], rate=rate)))

    def fingerprint(self) -> dict[str, str]:
        """What makes it this recipe, in words, to be compared with that of a checkpoint."""
        stages = "; ".join(f"{s.name}: " + ", ".join(f"{n}={w:g}" for n, w in s.terms.items()) for s in self.stages)
        return {"recipe": self.name, "terms": stages, "etam form": self.etam, "edge form": self.edge}


def _terms(**weights: float) -> Mapping[str, float]:
    return MappingProxyType(weights)


DARK_STAGE: Final = Stage(
    "unpaired",
    _terms(etam=0.2, edge=1.0, sfp_global=0.1, sfp_local=0.1, adversarial_global=0.05, adversarial_local=0.05),
    rate=1e-4,
    share=0.2,
    curve="linear",
)  # each term then makes a tenth to a half of the loss of a trained network


RECIPES: Final[dict[str, Recipe]] = {
    "default": Recipe(
        "default",
        (
            Stage("zero-dce", _terms(spatial=1, exposure=10, colour=2, smoothness=1600), rate=5e-4, share=0.1),
            Stage(
                "pairs",
                _terms(etam=0.2, reading=0.25, preserving=0.01, charbonnier=1.0, gradient=1.5, tone=0.5),
                rate=8e-4,
                share=0.9,
            ),
        ),
    ),
    "paper": Recipe(
        "paper",
        (
            Stage(
                "zero-dce",
                _terms(spatial=1, exposure=10, colour=5, smoothness=200),
                rate=1e-4,
                share=0.1,
                curve="constant",
                clip=0.1,
            ),
            Stage(
                "unpaired",
                _terms(etam=1, edge=1, sfp_global=1, sfp_local=1, adversarial_global=1, adversarial_local=1),
                rate=1e-4,
                share=0.9,
                curve="linear",
                betas=(0.5, 0.999),
                clip=float("inf"),
            ),
        ),
        etam="paper",
        edge="paper",
        exposure_level=0.6,
        exposure_regions=0,
        bright_stays=False,
    ),
}
