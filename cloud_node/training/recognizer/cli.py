"""`python -m cloud_node.training recognizer`: from photographs to weights over the recogniser of rapidocr's wheel."""

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cloud_node.laegan import WeightsError as NetworkError
from cloud_node.training.images import DataError
from cloud_node.training.recognizer.distill import Course, Loss, teach
from cloud_node.training.recognizer.prepare import Amount, prepare, reminders
from cloud_node.training.recognizer.student import Average, Student
from common.errors import SettingsError, WeightsError
from common.onnx_models import wheel_model
from common.onnx_overlay import read_overlay, write_overlay
from common.text_recognition import DARK, TAUGHT

SAY_EVERY, SAVE_EVERY = 20, 100  # steps
EPILOG = """\
The lines are made once for a seed and a set of fonts, and kept in OUT/lines: pages of receipts_sroie and plates_ro
under --data (each seventh receipt and what is kept for evaluation are left out), and pages written in --fonts, darkened
and lit up by `fast`. The student reads them dark and lit up, and learns what the recogniser of the wheel reads of the
same lines in the light. Beside them it is reminded of bright lines in all letters of --fonts, of which it is to tell
no letter otherwise than before. A run that was broken off finds its lines again; its steps begin anew, from the weights
of --start where they are given.

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
    p.add_argument(
        "--reminders",
        type=int,
        default=amount.reminders,
        help="pages in --fonts that stay bright (default: %(default)s)",
    )
    p.add_argument("--start", metavar="dark|FILE", help="weights to go on from, the packaged ones or a run's dark.npz")
    p.add_argument("--steps", type=int, default=plan.steps, help="default: %(default)s")
    p.add_argument("--minutes", type=float, default=math.inf, help="of training, after which it ends in any case")
    p.add_argument("--batch", type=int, default=plan.batch, help="dark or lit lines in a step (default: %(default)s)")
    p.add_argument("--rate", type=float, default=plan.rate, help="highest learning rate (default: %(default)s)")
    p.add_argument("--keep", type=float, default=plan.keep, help="weight of the reminders (default: %(default)s)")
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
    for name in ("written", "reminders", "keep", "seed"):
        if not 0 <= getattr(args, name) < math.inf:
            p.error(f"--{name} {getattr(args, name)} must be 0 or more")
    torch.set_num_threads(args.threads)
    try:
        base = wheel_model("rec", "training the recogniser")
        amount = Amount(args.times, args.written, reminders=args.reminders)
        student, teacher = started(base, args.start), Student(base)
        lines = prepare(args.data, args.fonts, args.out / "lines", amount, args.seed)
        if not lines:
            raise DataError(f"no text was found in the photographs of {args.data}")
        kept = reminders(args.data, args.fonts, amount, args.seed)
        print(f"{len(lines)} lines, and {len(kept)} more to be reminded of")
        course = Course(args.steps, args.minutes, args.batch, keep=args.keep, rate=args.rate, seed=args.seed)
        after = saving(args.out / "dark.npz", base.read_bytes())
        final = teach(student, teacher, lines, kept, course, after)
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


def started(base: Path, start: str | None) -> Student:
    """The network of the file, moved to the weights that `--start` names. Raises WeightsError: no such ones."""
    student = Student(base)
    if start:
        overlay = read_overlay(TAUGHT if start == DARK else Path(start))
        overlay.over(base.read_bytes())  # raises where they belong to another file
        student.begin_from(overlay.differences)
    return student


def saving(path: Path, base: bytes) -> Callable[[int, Loss, Average], None]:
    """Says how it goes, and writes the averaged weights now and then."""
    losses: list[Loss] = []
    start = time.monotonic()

    def after(step: int, loss: Loss, average: Average) -> None:
        losses.append(loss)
        if step % SAY_EVERY == 0:
            lessons, kept = np.mean(losses[-SAY_EVERY:], axis=0)
            minutes = (time.monotonic() - start) / 60
            print(f"step {step}, {minutes:.1f} minutes: {lessons:.4f} nats, {kept:.4f} forgotten", flush=True)
        if step % SAVE_EVERY == 0:
            write_overlay(path, base, average.weights())

    return after
