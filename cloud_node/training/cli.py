"""The command line of the training."""

import argparse
import sys
import textwrap
from pathlib import Path

import torch

from cloud_node import laegan
from cloud_node.training import ablations, export
from cloud_node.training.distributed import Group, joined
from cloud_node.training.loop import Stopped, Trainer, TrainingError
from cloud_node.training.options import add_options, check_options, device_of, settings_of
from cloud_node.training.pools import SHARES, DataError
from cloud_node.training.recipes import RECIPES, RecipeError
from cloud_node.training.recognizer import cli as recognizer
from cloud_node.training.running import run
from cloud_node.training.settings import Settings, fitting
from cloud_node.training.sources import Sources, open_sources
from cloud_node.training.terms import TERMS
from common.errors import DeviceError, SettingsError, WeightsError


def wrapped(text: str) -> str:
    return textwrap.fill(text, 110, initial_indent="  ", subsequent_indent="    ")


RECIPE_LINES = "\n".join(
    wrapped(f"{recipe.name}: " + "; then ".join(f"{s.name} ({', '.join(s.terms)})" for s in recipe.stages))
    for recipe in RECIPES.values()
)
EPILOG = f"""\
photographs: --data holds pools by name ({", ".join(SHARES)}), or plain images as one pool.
What the split rule keeps for evaluation is never read. --low and --normal read plain folders, LOL and SID; no scene
may stand in both. Synthetic low light is made of what is well lit.

recipes:
{RECIPE_LINES}
  'zero-dce' is left out where the preset's curve is solved and not learned, or comes with --from. 'paper' never sees
  pairs. --with and --without change the last stage's terms:
{wrapped(", ".join(TERMS))}

Run the same command again to go on from OUT/checkpoint.pt, exactly. The averaged weights so far are in
OUT/PRESET.safetensors all the time (PRESET-nc.safetensors where a photograph is not for commercial use), and OUT/
tensorboard holds the curves of all terms and grids of the same samples: `tensorboard --logdir OUT`.

examples:
  # the committed weights of preset fast
  python -m cloud_node.training --preset fast --data DATA --fonts /usr/share/fonts --out runs/fast --minutes 66
  # the student that runs on the edge device, taught by them
  python -m cloud_node.training --preset edge --teacher fast --data DATA --out runs/edge --minutes 60
  # the paper's training, without pairs, on LOL
  python -m cloud_node.training --preset paper --recipe paper --low LOL --normal LOL --out runs/paper --steps 20000
  # four GPUs
  torchrun --nproc-per-node 4 -m cloud_node.training --preset reference --data DATA --out runs/reference
  # for ONNX Runtime on the edge device
  python -m cloud_node.training export --weights runs/edge/edge.safetensors --out edge.onnx
  # the text recogniser, taught to read in the dark
  python -m cloud_node.training recognizer --data DATA --fonts /usr/share/fonts --out runs/recognizer --minutes 40
  # the rows of the paper's Table 2
  python -m cloud_node.training ablations --data DATA --from runs/fast/fast.safetensors --out runs/ablation --minutes 10
"""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m cloud_node.training",
        usage="%(prog)s [ablations|export|recognizer] [--out DIR] (--data DIR | --low DIR --normal DIR) [options]",
        epilog=EPILOG,
        description="Train LAE-GAN on photographs darkened on the fly, or on low and normal light unpaired.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--out", type=Path, metavar="DIR", help="checkpoint and weights go here (default: runs/PRESET)")
    add_options(p)
    return p


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0; 2 for flags or data that cannot be used, 1 for a training that cannot go on, 130 for one stopped."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["export"]:
        return export.main(given[1:])
    if given[:1] == ["recognizer"]:
        return recognizer.main(given[1:])
    if given[:1] == ["ablations"]:
        p, work = ablations.parser(), ablations.train
    else:
        p, work = parser(), train
    args = p.parse_args(given[1:] if work is ablations.train else given)
    check_options(p, args)
    args.out = args.out or Path("runs") / args.preset
    torch.set_num_threads(args.threads)
    try:
        settings = settings_of(args)
        with joined(device_of(args.device)) as group:
            sources = open_sources(args.data, args.low, args.normal)
            if group.rank == 0:
                print("training on", sources.describe())
                if args.low and all(stage.name == "pairs" for stage in fitting(settings).stages):
                    print("the dark photographs of --low are not learned from: that takes --unpaired or --recipe paper")
            work(args, settings, sources, group)
    except (DataError, RecipeError, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (TrainingError, laegan.WeightsError, WeightsError, DeviceError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Stopped:
        print(f"stopped and saved; the same command goes on from {args.out}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print(f"stopped at once; what was saved last is in {args.out}", file=sys.stderr)
        return 130
    return 0


def train(args: argparse.Namespace, settings: Settings, sources: Sources, group: Group) -> None:
    """One training."""
    run(Trainer(settings, sources, args.out, group))
