"""Is the cloud node's memory flat while many edges send for long?

    nice python benchmarks/serving/soak.py            # an hour
    nice python benchmarks/serving/soak.py --bursts   # with large frames in every third round

Load of three priorities from a few dozen edges that all leave and come again every half minute or so; samples memory,
open files and threads of the node, the processes of its devices, what these share, and its nats-server. Prints the
growth from the second tenth of the run to the last and writes benchmarks/results/serving/soak.json with a plot
beside it.
"""

import argparse
import asyncio
import json
import statistics
import time

import matplotlib.pyplot as plt
import psutil
from real_node import PARTS, RESULTS, Cloud, device_pids, memory_of, node_and_source

from edge_node.load import LoadSettings, run
from edge_node.load.records import Ending
from edge_node.load.settings import Frames, Patience

EVERY_S = 2.0
ROUND_S = 30.0
BURST = "1600x1200"

Sample = dict[str, float]


def sample(node: Cloud, began_s: float) -> Sample:
    process = psutil.Process(node.pid)
    memory = memory_of(node.pid)
    return {
        "s": time.monotonic() - began_s,
        **{f"{part} MiB": memory[part] / 2**20 for part in (*PARTS, "all")},
        "files": process.num_fds(),
        "threads": process.num_threads(),
        "device files": sum(psutil.Process(pid).num_fds() for pid in device_pids(node.pid)),
    }


def growth(samples: list[Sample], name: str) -> float:
    """From the second tenth to the last, as a share."""
    tenth = max(1, len(samples) // 10)
    first, last = samples[tenth : 2 * tenth] or samples[:1], samples[-tenth:]
    before, after = (statistics.median(item[name] for item in part) for part in (first, last))
    return after / before - 1 if before else float(after > 0)


async def play(node: Cloud, given: argparse.Namespace, source: str) -> tuple[list[Sample], int, int]:
    """Samples, frames sent, and frames that did not come back lit."""
    began_s, samples, sent, lost, rounds = time.monotonic(), [], 0, 0, 0
    while time.monotonic() - began_s < given.minutes * 60:
        rounds += 1
        settings = LoadSettings(
            source=source,
            edges=given.edges,
            fps=given.fps,
            duration_s=ROUND_S,
            warm_up_s=0.5,
            cloud=node.address,
            name=f"soak{rounds % 3}",
            frames=Frames(size=BURST if given.bursts and rounds % 3 == 0 else given.size),
            patience=Patience(timeout_s=30),
        )
        load = asyncio.create_task(run(settings))
        while not load.done():
            await asyncio.sleep(EVERY_S)
            samples.append(sample(node, began_s))
            row = samples[-1]
            print(f"{row['s'] / 60:5.1f} min  {row['all MiB']:.1f} MiB, {sent} frames", end="\r", flush=True)
        report = load.result()
        sent += report.all.offered
        lost += report.all.offered - report.all.endings[Ending.ENHANCED]
    return samples, sent, lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="(default: 60)")
    parser.add_argument("--edges", type=int, default=32, help="(default: 32)")
    parser.add_argument("--fps", type=float, default=2, help="of each (default: 2)")
    parser.add_argument("--size", default="160x120", help="of a frame (default: 160x120)")
    parser.add_argument("--preset", default="none", help="network (default: none, to load the serving)")
    parser.add_argument("--bursts", action="store_true", help=f"every third round frames of {BURST}")
    given = parser.parse_args()
    with node_and_source(given.preset) as (node, source):
        samples, sent, lost = asyncio.run(play(node, given, source))
    names = [name for name in samples[0] if name != "s"]
    figures = {
        "minutes": round(samples[-1]["s"] / 60, 1),
        "frames": sent,
        "frames not enhanced": lost,
        "growth": {name: round(growth(samples, name), 4) for name in names},
        "last": {name: round(samples[-1][name], 1) for name in names},
    }
    print()
    print(json.dumps(figures, indent=1))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "soak.json").write_text(json.dumps(figures | {"samples": samples}) + "\n")
    figure, axes = plt.subplots(figsize=(8, 3.5), layout="constrained")
    for name in (f"{part} MiB" for part in (*PARTS, "all")):
        axes.plot([item["s"] / 60 for item in samples], [item[name] for item in samples], label=name)
    axes.set(xlabel="minutes", ylabel="MiB", ylim=(0, None), title=f"{sent:,} frames of {given.edges} edges")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(RESULTS / "soak.png", dpi=120)


if __name__ == "__main__":
    main()
