"""The flags that every training command has, and the settings that they make."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from cloud_node.laegan import PRESETS
from cloud_node.training.frozen import Aids
from cloud_node.training.recipes import DARK_STAGE, EDGE_FORMS, ETAM_FORMS, RECIPES, Recipe, RecipeError
from cloud_node.training.samples import Sampling
from cloud_node.training.settings import Settings
from cloud_node.training.terms import TERMS
from common.errors import DeviceError
from common.text_detection import DETECTORS

CROPS_OF = 32  # pixels; the detector takes multiples of it
LARGEST_SEED = 2**31 - 1
LOW_HELP = f"""\
Recipe default makes its low light of what is well lit. With --unpaired it has one stage more after 'pairs':
'unpaired', a sixth of the time, learns from --low without pairs, by
{", ".join(f"{name}={weight:g}" for name, weight in DARK_STAGE.terms.items())}.
A short one did harm: casts and patterns (docs/network.md).
--with, --without and --rate then still change 'pairs'. The rows of 'ablations' have no such stage."""


def add_options(p: argparse.ArgumentParser) -> None:
    """Add the groups of flags: photographs, network, recipe, length, machine."""
    data = p.add_argument_group("photographs", LOW_HELP)
    data.add_argument("--data", type=Path, metavar="DIR", help="folder with the pools, or with images of normal light")
    data.add_argument("--low", type=Path, metavar="DIR", action="append", default=[], help="really dark; repeatable")
    data.add_argument("--normal", type=Path, metavar="DIR", action="append", default=[], help="well lit; repeatable")
    data.add_argument("--fonts", type=Path, metavar="DIR", help="TrueType files for the text written on photographs")
    data.add_argument("--batch", type=int, default=8, help="crops in a step, of each process (default: 8)")
    data.add_argument("--crop", type=int, default=128, help="side of a crop, a multiple of 32 pixels (default: 128)")

    net = p.add_argument_group("network")
    net.add_argument("--preset", choices=list(PRESETS), default="fast", help="which network (default: fast)")
    net.add_argument("--from", dest="start", type=Path, metavar="FILE", help="start from these weights of the preset")
    net.add_argument("--attention", choices=("on", "off"), default="on", help="off: the ablation without A = 1 - L")
    net.add_argument(
        "--teacher", metavar="PRESET[:FILE]", help="distil: half of the target is this network's output (stage pairs)"
    )

    recipe = p.add_argument_group("recipe")
    recipe.add_argument("--recipe", choices=list(RECIPES), default="default", help="see below (default: default)")
    recipe.add_argument(
        "--with", dest="add", metavar="TERM=WEIGHT", type=_weight, action="append", default=[], help="add a term"
    )
    recipe.add_argument(
        "--without", dest="remove", metavar="TERM", choices=list(TERMS), action="append", default=[], help="remove one"
    )
    recipe.add_argument("--unpaired", action="store_true", help="recipe default: learn from --low, see above")
    recipe.add_argument("--etam", choices=ETAM_FORMS, help="form of the term etam (default: the recipe's)")
    recipe.add_argument("--edge-loss", choices=EDGE_FORMS, help="form of the term edge (default: the recipe's)")
    recipe.add_argument("--rate", type=float, help="highest learning rate of the last stage (default: the recipe's)")
    recipe.add_argument("--vgg", metavar="FILE|URL", help="VGG-16 weights for the sfp terms (default: the detector's)")
    recipe.add_argument("--detector", choices=list(DETECTORS), default="dbnet", help="finds text for etam and edge")
    recipe.add_argument("--detector-model", type=Path, metavar="FILE", help="dbnet: ONNX; east: its .pb, needed")

    length = p.add_argument_group("length")
    length.add_argument("--minutes", type=float, default=40.0, help="time for all stages (default: 40)")
    length.add_argument("--steps", type=int, default=0, help="of all stages, instead of minutes; repeats exactly")
    length.add_argument("--save-every", type=float, default=120.0, metavar="S", help="seconds (default: 120)")
    length.add_argument("--seed", type=int, default=0, help="decides every random draw (default: 0)")

    machine = p.add_argument_group("machine")
    machine.add_argument("--device", default="", help="cpu, cuda or cuda:1 (default: cuda if there is one, else cpu)")
    machine.add_argument(
        "--precision", choices=("bf16", "fp32"), default="bf16", help="of convolutions (default: bf16)"
    )
    machine.add_argument("--threads", type=int, default=2, help="CPU threads of the network (default: 2)")
    machine.add_argument("--workers", type=int, default=1, help="processes that make samples (default: 1)")


def check_options(p: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with the parser's error, exit code 2, where a number is out of its range."""
    if args.crop % CROPS_OF or args.crop < 2 * CROPS_OF:
        p.error(f"--crop must be a multiple of {CROPS_OF}, at least {2 * CROPS_OF}, not {args.crop}")
    if not 0 < args.minutes < float("inf") or args.steps < 0 or args.batch < 1:
        p.error("--minutes and --batch must be above 0, --steps at least 0")
    if not 0 <= args.seed <= LARGEST_SEED:
        p.error(f"--seed must be from 0 to {LARGEST_SEED}, not {args.seed}")
    if args.rate is not None and not 0 < args.rate < float("inf"):
        p.error(f"--rate must be a number above 0, not {args.rate:g}")
    if not args.save_every > 0:
        p.error(f"--save-every must be above 0 seconds, not {args.save_every:g}")
    if args.workers < 0 or args.threads < 1:
        p.error("--threads must be above 0, --workers at least 0")
    if args.out is not None and args.out.exists() and not args.out.is_dir():
        p.error(f"--out {args.out} is a file: give a folder, new or there already")
    if args.data is None and not args.normal:
        p.error("there is nothing to learn from: give --data DIR, or --low DIR and --normal DIR")
    if args.unpaired and not args.low:
        p.error("--unpaired learns from really dark photographs: give --low DIR")


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings that the flags make. RecipeError for terms that the recipe cannot have."""
    fonts = tuple(sorted(f for f in args.fonts.rglob("*.ttf") if "Math" not in f.name)) if args.fonts else ()
    recipe = recipe_of(args, args.add, args.remove)
    return Settings(
        preset=args.preset,
        recipe=recipe.with_dark_photographs() if args.unpaired and args.recipe == "default" else recipe,
        steps=args.steps,
        minutes=args.minutes,
        sampling=Sampling(batch=args.batch, crop=args.crop, seed=args.seed, fonts=fonts),
        aids=Aids(args.vgg, args.detector, args.detector_model, args.teacher),
        start=args.start,
        attention=args.attention == "on",
        bf16=args.precision == "bf16",
        save_every_s=args.save_every,
        workers=args.workers,
    )


def recipe_of(args: argparse.Namespace, add: Sequence[tuple[str, float]], remove: Sequence[str] = ()) -> Recipe:
    """The recipe that the flags name, with terms added to and removed from the last stage that the preset has."""
    recipe = RECIPES[args.recipe].of(PRESETS[args.preset])
    if not recipe.stages:
        raise RecipeError(f"recipe {args.recipe!r} has no stage for preset {args.preset!r}")
    recipe = recipe.changed(dict(add), remove)
    recipe = replace(recipe, etam=args.etam or recipe.etam, edge=args.edge_loss or recipe.edge)
    return recipe.with_rate(args.rate) if args.rate else recipe


def device_of(name: str) -> torch.device:
    """The device of that name; '' takes CUDA where it is, else the CPU. DeviceError for one that is not there."""
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        what = str(error).splitlines()[0]
        raise DeviceError(f"--device {name} cannot be used: {what}. Give cpu, or leave it out") from error
    return device


def _weight(text: str) -> tuple[str, float]:
    name, found, weight = text.partition("=")
    if name not in TERMS:
        raise argparse.ArgumentTypeError(f"there is no term {name!r}; choose of {', '.join(TERMS)}")
    try:
        return name, float(weight) if found else 1.0
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: TERM=WEIGHT is needed, like etam=0.5") from None
