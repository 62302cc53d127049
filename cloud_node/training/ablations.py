"""The paper's Table 2 in one command: the same training with one part more or less, each from the same start."""

import argparse
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from cloud_node.training.distributed import Group
from cloud_node.training.loop import Trainer, TrainingError
from cloud_node.training.options import add_options, recipe_of
from cloud_node.training.recipes import DARK_STAGE, RecipeError
from cloud_node.training.running import run
from cloud_node.training.settings import Settings
from cloud_node.training.sources import Sources

ADVERSARIAL: Final = ("adversarial_global", "adversarial_local", "sfp_global", "sfp_local")
ADDED: Final = ("edge", *ADVERSARIAL)
WEIGHTS: Final[Mapping[str, float]] = DARK_STAGE.terms
MARKS: Final = ("", "-nc")  # of weights, see `loop`
EPILOG = f"""\
rows:
  base             the recipe with text attention, the form that keeps contrast
  no-attention     without the self-regularised attention A = 1 - L
  no-etam          without text attention
  etam-paper       text attention as printed, not in the form that keeps contrast
  with-edge        Sobel edges, masked by the text and pre-smoothed
  with-adversarial both discriminators and self-feature preservation

Each is trained with the same seed for the same --steps or --minutes from --from, and left as OUT/ROW.safetensors
(ROW-nc.safetensors where a photograph is not for commercial use); a row that is there is not trained again. An added
term weighs {", ".join(f"{n} {WEIGHTS[n]:g}" for n in ADDED)};
--with TERM=WEIGHT changes that.

example:
  python -m cloud_node.training ablations --data DATA --from runs/fast/fast.safetensors --out runs/ablation --minutes 10
  python -m cloud_node.evaluation --data DATA --out out --ablation runs/ablation
"""


def rows(args: argparse.Namespace, settings: Settings) -> dict[str, Settings]:
    """The settings of each row by its name. RecipeError where the recipe cannot have one of the parts."""
    weights = {**WEIGHTS, **dict(args.add)}

    def made(*terms: str, without: tuple[str, ...] = (), etam: str = "contrast") -> Settings:
        recipe = recipe_of(args, [(term, weights[term]) for term in terms], [*args.remove, *without])
        return replace(settings, recipe=replace(recipe, etam=etam, edge="masked"))

    return {
        "base": made(),
        "no-attention": replace(made(), attention=False),
        "no-etam": made(without=("etam",)),
        "etam-paper": made(etam="paper"),
        "with-edge": made("edge"),
        "with-adversarial": made(*ADVERSARIAL),
    }


ROWS: Final = ("base", "no-attention", "no-etam", "etam-paper", "with-edge", "with-adversarial")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m cloud_node.training ablations",
        epilog=EPILOG,
        description="Train the rows of the ablation table, each from the same start.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="the rows' weights go here")
    p.add_argument("--only", choices=ROWS, action="append", default=[], help="train this row only; repeatable")
    add_options(p)
    return p


def train(args: argparse.Namespace, settings: Settings, sources: Sources, group: Group) -> None:
    """Train the rows one after the other; each has its own checkpoint, so that a stopped command goes on."""
    if unknown := [name for name, _ in args.add if name not in ADDED]:
        raise RecipeError(f"--with {unknown[0]}: no row adds it; only {', '.join(ADDED)} are added")
    if "etam" in args.remove or args.etam or args.edge_loss:
        raise RecipeError("the rows decide on --etam, --edge-loss and --without etam: choose rows with --only")
    wanted = {name: row for name, row in rows(args, settings).items() if name in (args.only or ROWS)}
    for name, row in wanted.items():
        if any((args.out / f"{name}{mark}.safetensors").exists() for mark in MARKS):
            continue
        if group.rank == 0:
            print(f"row {name}")
        weights = run(Trainer(row, sources, args.out / "runs" / name, group))
        if group.rank == 0:
            done = args.out / f"{name}{MARKS[weights.stem.endswith(MARKS[1])]}.safetensors"
            fresh = done.with_suffix(".new")
            try:
                shutil.copyfile(weights, fresh)
                fresh.replace(done)
            except OSError as error:
                raise TrainingError(f"{done} cannot be written: {error}; the weights are {weights}") from error
