"""What does choosing a batch cost while thousands of frames wait?

    python benchmarks/scheduler.py

Keeps 4,096 frames of 1,000 edges waiting (three priorities, three frame sizes, half of them with a deadline) and takes
batch after batch; what was taken is submitted anew, not timed with it. Prints the CPU time of each call,
p50 / p99 / most, for several batch sizes, and writes benchmarks/results/scheduler.json.
"""

import argparse
import gc
import json
import random
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from cloud_node.scheduler import Scheduler, Ticket

RESULTS = Path(__file__).parent / "results" / "scheduler.json"
SIZES = ((600, 400), (1280, 720), (1616, 1080))
BATCHES = (1, 8, 32)
MS = 1_000_000


def measure(waiting: int, edges: int, batch_frames: int, rounds: int) -> dict[str, dict[str, float]]:
    """CPU microseconds of each call: {"select": {"p50": ..., "p99": ..., "max": ...}, ...}."""
    chance = random.Random(1)
    scheduler: Scheduler[int] = Scheduler(batch_frames * 1616 * 1080, batch_frames, 2_000 * MS)
    spent_ns: dict[str, list[int]] = defaultdict(list)

    def timed(name, call, *arguments):
        start_ns = time.thread_time_ns()
        answer = call(*arguments)
        spent_ns[name].append(time.thread_time_ns() - start_ns)
        return answer

    def frame(now_ns: int) -> Ticket[int]:
        width, height = chance.choice(SIZES)
        return Ticket(
            edge=f"edge-{chance.randrange(edges)}",
            priority=chance.choices((1, 2, 3), (10, 60, 30))[0],
            bucket=(width, height),
            pixels=width * height,
            arrived_ns=now_ns,
            job=0,
            expires_ns=now_ns + chance.randrange(5_000, 60_000) * MS if chance.random() < 0.5 else 0,
        )

    gc.disable()
    for number in range(rounds):
        now_ns = number * 20 * MS
        while len(scheduler) < waiting:
            timed("submit", scheduler.submit, frame(now_ns))
        timed("preview", scheduler.preview, now_ns)
        timed("lesser", next, scheduler.lesser(frame(now_ns)), None)
        timed("pixels_ahead", scheduler.pixels_ahead, 2)
        timed("select", scheduler.select, now_ns)
    gc.enable()
    micros = {name: np.array(values) / 1e3 for name, values in spent_ns.items()}
    return {
        name: {"p50": float(np.median(of)), "p99": float(np.quantile(of, 0.99)), "max": float(of.max())}
        for name, of in micros.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", type=int, default=4_096, help="frames (default: 4096)")
    parser.add_argument("--edges", type=int, default=1_000, help="(default: 1000)")
    parser.add_argument("--rounds", type=int, default=2_000, help="batches of each size (default: 2000)")
    given = parser.parse_args()
    report: dict[str, object] = {"waiting": given.waiting, "edges": given.edges}
    print(f"{given.waiting} frames of {given.edges} edges wait; CPU microseconds a call, p50 / p99 / most")
    for frames in BATCHES:
        report[f"batches of {frames}"] = table = measure(given.waiting, given.edges, frames, given.rounds)
        for name, row in table.items():
            print(f"{frames:>3} a batch  {name:>12}  {row['p50']:8.1f} /{row['p99']:8.1f} /{row['max']:8.1f}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
