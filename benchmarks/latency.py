"""Where a frame's time goes outside network and detector, capture to reading, on loopback.

    python benchmarks/latency.py

Starts a cloud node and an edge node as two processes, plays 600x400 frames one at a time, and prints p50, p95 and p99
of each stage and of everything but the network (`engine/enhance`) and the detector (`reader`). Writes
benchmarks/results/latency.json.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from processes import Cloud, Process, edge_arguments, readings  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "latency.json"
WARM_UP = 10


def percentiles(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=str(ROOT / "deploy/demo/night.mp4"), help="video or folder to play")
    parser.add_argument("--frames", type=int, default=150, help="(default: 150)")
    parser.add_argument("--fps", default="2", help="low enough that frames do not wait for each other (default: 2)")
    parser.add_argument("--threads", default="1", help="of the network, so that a core is left (default: 1)")
    parser.add_argument("--result-format", default="jpeg", help="(default: jpeg)")
    given = parser.parse_args()
    node = Cloud("--threads", given.threads)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        edge = Process(
            *edge_arguments(node.address, given.source, out, "--loop", "--limit", str(given.frames + WARM_UP)),
            *("--fps", given.fps, "--detector", "none", "--result-format", given.result_format),
        )
        try:
            if edge.wait():
                sys.exit(edge.output)
            found = readings(out)[WARM_UP:]
        finally:
            node.end()
    stages = [stage for stage in found[0]["stages_ms"] if "/" not in stage]
    table = {stage: percentiles([line["stages_ms"].get(stage, 0.0) for line in found]) for stage in stages}
    network = [line["stages_ms"]["engine/enhance"] for line in found]
    table["network alone"] = percentiles(network)
    beside = [line["latency_ms"] - ms - line["stages_ms"]["reader"] for line, ms in zip(found, network, strict=True)]
    table["everything but network and detector"] = percentiles(beside)
    print(f"{len(found)} frames, milliseconds")
    for name, row in table.items():
        print(f"{name:>38}  p50 {row['p50']:7.2f}  p95 {row['p95']:7.2f}  p99 {row['p99']:7.2f}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"frames": len(found), "ms": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
