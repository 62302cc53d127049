"""Break things on purpose, and see whether every promise is kept.

    python tests/faults/run.py --minutes 10 --seed 7 --faults 100 --output DIR

Two cloud nodes without a network, a NATS cluster of three with replicated streams and three edges, as real processes on
hosts of their own (tests/links/), each with a link of its own. A seeded plan kills with -9, cuts and slows links, stops
with SIGSTOP, fills disks and sets clocks wrong. Then it waits until all has settled, judges what is on the disks, and
writes trial.json, timeline.png and the logs to DIR. Ends with 1 when a promise was broken. Needs root (docs/faults.md).
"""

import argparse
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests" / "links"), str(ROOT), str(ROOT / "proto")]

from laboratory import NotPossible  # noqa: E402
from picture import draw, title  # noqa: E402
from plan import plan  # noqa: E402
from rich.console import Console  # noqa: E402
from town import Town  # noqa: E402
from trial import run  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="of faults (default: 10)")
    parser.add_argument("--seed", type=int, default=7, help="the same plan for the same number (default: 7)")
    parser.add_argument("--faults", type=int, default=100, help="how many (default: 100)")
    parser.add_argument("--output", type=Path, default=Path("faults"), help="folder (default: faults/)")
    for what, count in (("clouds", 2), ("brokers", 3), ("edges", 3)):
        parser.add_argument(f"--{what}", type=int, default=count, help=f"how many (default: {count})")
    parser.add_argument("--fps", type=int, default=2, help="frames/s of each camera (default: 2)")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    if any(given.output.iterdir()):
        parser.error(f"{given.output} is not empty: name another folder")
    console, start_s = Console(), time.monotonic()
    done = 0

    def say(words: str) -> None:
        nonlocal done
        done += words in {str(fault) for fault in faults}
        console.print(f"[dim]{time.monotonic() - start_s:6.1f} s  {done:3d}/{len(faults)}[/]  {words}", highlight=False)

    faults = []
    try:
        with Town(given.output, given.clouds, given.brokers, given.edges, given.fps) as town:
            faults += plan(given.seed, given.minutes * 60, given.faults, list(town.members))
            trial = run(town, faults, given.minutes * 60, say)
            draw(trial, town.edges, list(town.members), given.output / "timeline.png")
            fell = {name: member.exits for name, member in town.members.items() if member.exits}
    except NotPossible as error:
        console.print(f"no laboratory on this machine: {error}")
        return 2
    (given.output / "trial.json").write_text(json.dumps({**trial.as_json(), "fell": fell}, indent=1) + "\n")
    console.print(title(trial))
    for problem in trial.problems:
        console.print(f"[red]{problem}")
    slow = sorted(trial.recoveries, key=lambda item: -item[2])
    for what, edge, seconds in slow[:5]:
        console.print(f"slowest to recover: {edge}, {seconds:.1f} s after {what}")
    for name, codes in fell.items():
        console.print(f"{name} ended by itself {len(codes)} times, with {sorted(set(codes))}")
    return int(bool(trial.problems))


if __name__ == "__main__":
    sys.exit(main())
