"""What one training is told: everything but the photographs and the place of its results."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from cloud_node.laegan import PRESETS, weights_version
from cloud_node.training.checkpoint import TrainingError
from cloud_node.training.frozen import Aids
from cloud_node.training.recipes import RECIPES, Recipe
from cloud_node.training.samples import Sampling


@dataclass(frozen=True)
class Settings:
    preset: str = "fast"
    recipe: Recipe = RECIPES["default"]
    steps: int = 0  # of all stages together; 0: as many as `minutes` allow
    minutes: float = 40.0
    sampling: Sampling = field(default_factory=Sampling)
    aids: Aids = field(default_factory=Aids)
    start: Path | None = None  # weights to start from; the curve is then taken as it is
    attention: bool = True  # False: without A = 1 - L, the paper's ablation
    bf16: bool = True  # convolutions in bfloat16; curve, losses and parameters stay float32
    save_every_s: float = 120.0
    workers: int = 1  # processes that make samples; 0: in this one


def fitting(settings: Settings) -> Recipe:
    """The recipe without the stages that the network, or the weights it starts from, have no use for."""
    recipe = settings.recipe.of(PRESETS[settings.preset])
    if not recipe.stages:
        raise TrainingError(
            f"recipe {settings.recipe.name!r} as changed leaves nothing to train of preset {settings.preset!r}"
        )
    if settings.start and recipe.stages[-1].name != "zero-dce":
        recipe = replace(recipe, stages=tuple(stage for stage in recipe.stages if stage.name != "zero-dce"))
    if settings.aids.teacher and all(stage.name != "pairs" for stage in recipe.stages):
        raise TrainingError("--teacher gives a target, which only the stage 'pairs' has: take --recipe default")
    return recipe


def saw_non_commercial(settings: Settings) -> bool:
    """Whether weights that this training starts from or learns from are marked -nc themselves."""
    sources = [(settings.preset, str(settings.start))] if settings.start else []
    if settings.aids.teacher:
        preset, _, file = settings.aids.teacher.partition(":")
        sources.append((preset, file))
    return any("-nc" in weights_version(preset, Path(file) if file else None) for preset, file in sources)
