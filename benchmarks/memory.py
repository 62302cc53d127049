"""Is memory flat over many frames?

    python benchmarks/memory.py --frames 10000

Starts a cloud node and an edge node without a detector as two processes, sends small real frames through both, and
samples the memory (RSS) of the node, the processes of its devices, what they share, its nats-server, and the edge.
Prints the growth from the second tenth of the run to the last, writes benchmarks/results/memory.json, and a plot beside
it.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import psutil
from rich.progress import Progress

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from node_memory import PARTS, memory_of  # noqa: E402
from processes import Cloud, Process, dark_sign, edge_arguments  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
WORDS = ("STATION", "EXIT 12", "MAIN ROAD", "PARKING", "NORTH", "TAXI", "BUS 44", "HOTEL")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000, help="(default: 10000)")
    parser.add_argument("--size", default="160x120", help="small, so that the network is quick (default: 160x120)")
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    node = Cloud()
    samples: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder, Progress() as progress:
        photos, out = Path(folder) / "photos", Path(folder) / "out"
        photos.mkdir()
        for word in WORDS:
            dark_sign(word, (width, height)).save(photos / f"{word}.png")
        edge = Process(
            *edge_arguments(node.address, photos, out, "--loop", "--limit", str(given.frames), "--detector", "none")
        )
        edge_process = psutil.Process(edge.pid)
        task, done = progress.add_task("frames", total=given.frames), 0
        try:
            while done < given.frames and edge_process.is_running() and edge_process.status() != "zombie":
                time.sleep(1.0)
                file = out / "readings.jsonl"
                done = file.read_bytes().count(b"\n") if file.exists() else 0
                progress.update(task, completed=done)
                try:
                    row = {"frames": done, "edge": edge_process.memory_info().rss}
                except psutil.NoSuchProcess:
                    break
                samples.append(row | memory_of(node.pid))
            if edge.wait():
                sys.exit(edge.output)
        finally:
            node.end()
    report = {"frames": given.frames, "size": given.size}
    samples = [row for row in samples if row["frames"] and row["edge"]]  # an edge that has ended counts 0
    print(f"{given.frames} frames of {given.size}, MiB")
    for part in (*PARTS, "all", "edge"):
        mib = [row[part] / 2**20 for row in samples]
        tenth = max(1, len(mib) // 10)
        early, late = statistics.median(mib[tenth : 2 * tenth + 1]), statistics.median(mib[-tenth:])
        growth = late / early - 1 if early else 0.0
        report[part] = {"early_mib": early, "late_mib": late, "growth": growth, "peak_mib": max(mib)}
        print(f"{part:>8}: {early:7.1f} early, {late:7.1f} late ({growth:+.1%}), peak {max(mib):7.1f}")
        plt.plot([row["frames"] for row in samples], mib, label=part)
    plt.xlabel("frames")
    plt.ylabel("memory, MiB")
    plt.ylim(bottom=0)
    plt.legend()
    RESULTS.mkdir(exist_ok=True)
    plt.savefig(RESULTS / "memory.png", dpi=80, bbox_inches="tight")
    (RESULTS / "memory.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
