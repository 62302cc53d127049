"""The command line of the training."""

import argparse
import sys
from pathlib import Path

import torch

from cloud_node.laegan import PRESETS
from cloud_node.training.loop import Settings, Trainer, TrainingError
from cloud_node.training.pools import SHARES, DataError, training_pools
from cloud_node.training.samples import Sampling

EPILOG = f"""\
The data folder holds pools by name ({", ".join(SHARES)}); a folder of plain images is one pool. Photographs in
the scikit-image package join in. What the split rule keeps for evaluation is never read.

Two stages follow each other: 'zero-dce' (the exposure curve, without reference) and 'agm' (AGM-Net, towards the
clean photograph). Run the same command again to resume from OUT/checkpoint.pt. The weights so far are in
OUT/PRESET.safetensors all the time: `python -m cloud_node.training.check --weights OUT/fast.safetensors --data DIR`
measures them.

example:
  nice -n 5 python -m cloud_node.training --preset fast --data DATA --out runs/fast --minutes 40
"""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m cloud_node.training",
        epilog=EPILOG,
        description="Train LAE-GAN's generator on photographs darkened on the fly.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--preset", choices=list(PRESETS), default="fast", help="which network (default: fast)")
    p.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with the pools, or with images")
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="checkpoint and weights go here")
    p.add_argument("--minutes", type=float, default=40.0, help="time for both stages (default: 40)")
    p.add_argument("--steps", type=int, default=0, help="steps of both stages, instead of minutes; repeats exactly")
    p.add_argument("--batch", type=int, default=8, help="crops in a step (default: 8)")
    p.add_argument("--crop", type=int, default=144, help="side of a crop in pixels, a multiple of 16 (default: 144)")
    p.add_argument("--rate", type=float, default=Settings.rate, help=f"learning rate (default: {Settings.rate})")
    p.add_argument("--seed", type=int, default=0, help="decides every random draw (default: 0)")
    p.add_argument("--threads", type=int, default=2, help="CPU threads of the network (default: 2)")
    p.add_argument("--workers", type=int, default=1, help="processes that make samples (default: 1)")
    p.add_argument("--fonts", type=Path, metavar="DIR", help="TrueType files for the text written on photographs")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0; 2 for data that cannot be used, 1 for a training that cannot go on."""
    p = parser()
    args = p.parse_args(arguments)
    if args.crop % 16 or args.crop < 64:
        p.error(f"--crop must be a multiple of 16, at least 64, not {args.crop}")
    if args.minutes <= 0 or args.steps < 0 or args.batch < 1:
        p.error("--minutes and --batch must be above 0, --steps at least 0")
    torch.set_num_threads(args.threads)
    fonts = tuple(sorted(f for f in args.fonts.rglob("*.ttf") if "Math" not in f.name)) if args.fonts else ()
    settings = Settings(
        preset=args.preset,
        minutes=args.minutes,
        steps=args.steps,
        rate=args.rate,
        workers=args.workers,
        sampling=Sampling(batch=args.batch, crop=args.crop, seed=args.seed, fonts=fonts),
    )
    try:
        pools = training_pools(args.data)
        print("training on", ", ".join(f"{pool.name}: {len(pool.photos)} photographs" for pool in pools))
        trainer = Trainer(settings, pools, args.out)
        if trainer.progress.step or trainer.progress.stage:
            print(f"resuming stage {trainer.progress.stage + 1} at step {trainer.progress.step}")
        print(f"weights: {trainer.run()}")
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        trainer.save()
        print(f"\nstopped; the same command goes on from {trainer.checkpoint}", file=sys.stderr)
        return 130
    return 0
