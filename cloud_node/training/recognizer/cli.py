"""`python -m cloud_node.training recognizer`: from photographs to weights over the recogniser of rapidocr's wheel."""

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from cloud_node.laegan import WeightsError as NetworkError
from cloud_node.training.images import DataError
from cloud_node.training.recognizer.distill import Course, teach
from cloud_node.training.recognizer.prepare import Amount, prepare
from cloud_node.training.recognizer.student import Average, Student
from common.errors import SettingsError, WeightsError
from common.onnx_models import wheel_model
from common.onnx_overlay import write_overlay

SAY_EVERY, SAVE_EVERY = 20, 100  # steps
EPILOG = """\
The lines are made once for a seed and a set of fonts, and kept in OUT/lines: pages of receipts_sroie and plates_ro
under --data (each seventh receipt and what is kept for evaluation are left out), and pages written in --fonts, darkened
and lit up by `fast`. The student reads them dark and lit up, and learns what the recogniser of the wheel reads of the
same lines in the light. A run that was broken off finds its lines again; its steps begin anew.

OUT/dark.npz has the averaged weights so far all the time: `python -m edge_node --recognizer OUT/dark.npz`. Fonts with
Chinese letters, such as Debian's fonts-wqy-microhei, keep it from forgetting them.

example:
  python -m cloud_node.training recognizer --data DATA --fonts /usr/share/fonts --out runs/recognizer --minutes 40
"""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m cloud_node.training recognizer",
        description="Teach the text recogniser to read in the dark what it reads in the light.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    plan, amount = Course(), Amount()
    p.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder that holds receipts_sroie")
    p.add_argument("--fonts", type=Path, metavar="DIR", action="append", default=[], help="TrueType files; repeatable")
    p.add_argument("--out", type=Path, default=Path("runs/recognizer"), metavar="DIR", help="default: %(default)s")
    p.add_argument("--times", type=int, default=amount.times, help="a photograph is darkened (default: %(default)s)")
    p.add_argument("--written", type=int, default=amount.written, help="pages in --fonts (default: %(default)s)")
    p.add_argument("--steps", type=int, default=plan.steps, help="default: %(default)s")
    p.add_argument("--minutes", type=float, default=math.inf, help="of training, after which it ends in any case")
    p.add_argument("--batch", type=int, default=plan.batch, help="lines in a step (default: %(default)s)")
    p.add_argument("--rate", type=float, default=plan.rate, help="highest learning rate (default: %(default)s)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=1, help="of the CPU (default: %(default)s)")
    return p


def main(arguments: list[str]) -> int:
    """Exit code 0; 2 for flags or data that cannot be used, 1 for a network that cannot, 130 for one stopped."""
    p = parser()
    args = p.parse_args(arguments)
    for name in ("times", "steps", "minutes", "batch", "rate", "threads"):
        if not getattr(args, name) > 0:
            p.error(f"--{name} {getattr(args, name)} must be above 0")
    if args.written < 0 or args.seed < 0:
        p.error("--written and --seed must be 0 or more")
    torch.set_num_threads(args.threads)
    try:
        lines = prepare(args.data, args.fonts, args.out / "lines", Amount(args.times, args.written), args.seed)
        if not lines:
            raise DataError(f"no text was found in the photographs of {args.data}")
        print(f"{len(lines)} lines")
        base = wheel_model("rec", "training the recogniser")
        course = Course(args.steps, args.minutes, args.batch, args.rate, seed=args.seed)
        final = teach(Student(base), lines, course, saving(args.out / "dark.npz", base.read_bytes()))
        write_overlay(args.out / "dark.npz", base.read_bytes(), final.weights())
    except (DataError, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (WeightsError, NetworkError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; what was saved last is in {args.out}", file=sys.stderr)
        return 130
    print(f"wrote {args.out / 'dark.npz'}")
    return 0


def saving(path: Path, base: bytes) -> Callable[[int, float, Average], None]:
    """Says how it goes, and writes the averaged weights now and then."""
    losses: list[float] = []
    start = time.monotonic()

    def after(step: int, loss: float, average: Average) -> None:
        losses.append(loss)
        if step % SAY_EVERY == 0:
            recent = sum(losses[-SAY_EVERY:]) / SAY_EVERY
            print(f"step {step}, {(time.monotonic() - start) / 60:.1f} minutes: {recent:.4f} nats", flush=True)
        if step % SAVE_EVERY == 0:
            write_overlay(path, base, average.weights())

    return after
