"""Measures one node, has the simulation reproduce it, and then simulates a fleet of a million edges.

    python benchmarks/scaling/run.py measure        # 5 minutes on two quiet cores; writes results/scaling_measured.json
    python benchmarks/scaling/run.py                # the simulation: results/scaling.json, docs/images/scaling.png

The simulation gets the very arrivals that were sent to the node, and refuses to go on to the fleet unless it is within
10 % of what was measured: median latency at each load below the device's, served frames/s beyond. Beyond a load of 0.8
a percent of the device's time moves the median by tens of percent.
"""

import argparse
import asyncio
import json
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np  # noqa: E402
from fleet import Failure, Fleet, Region  # noqa: E402
from fleet import simulate as simulate_fleet  # noqa: E402
from measure import WARM_UP_S, arrivals, broker_bytes, measure  # noqa: E402
from node import Device  # noqa: E402
from node import simulate as simulate_node  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
MEASURED, SIMULATED, PICTURE = (
    RESULTS / "scaling_measured.json",
    RESULTS / "scaling.json",
    ROOT / "docs/images/scaling.png",
)
CLOSE = 0.10
# What one node's processes carry on two cores whatever its network, as benchmarks/serving/throughput.py last found it;
# and what a connected edge costs it (docs/serving.md).
HOST_FPS = float(round(json.loads((RESULTS / "serving/throughput.json").read_text())["systems"]["ours"]["most_fps"]))
EDGE_BYTES = 82_000
EDGES, REGIONS, EDGE_FPS, SECONDS = 1_000_000, 5, 0.1, 120.0
FAILURES = (Failure(20, 30, 0, 0.1), Failure(60, 40, 1, 1.0))


def device_of(measured: dict) -> Device:
    """With batches as the node makes them: one frame each on a CPU, which gains nothing from more."""
    most = max(1, round(max(row["frames_per_batch"] for row in measured["rows"])))
    return Device(tuple(taken + measured["between_s"] for taken in measured["batch_s"][:most]), most)


def validate(measured: dict) -> list[dict]:
    """Measured beside simulated, load by load, with the same arrivals."""
    device, seconds, rows = device_of(measured), measured["seconds"], []
    for real in measured["rows"]:
        offered = real["offered_fps"]
        sent = arrivals(offered, seconds)
        made = simulate_node(device, measured["beside_s"], sent, WARM_UP_S + seconds, since_s=WARM_UP_S)
        key = "served_fps" if offered > device.most_fps else "p50_ms"
        rows.append(
            {
                "load": len(sent) / (WARM_UP_S + seconds) / device.most_fps,
                "measured": real,
                "simulated": made,
                "off": {key: made[key] / real[key] - 1},
            }
        )
    return rows


def bounds(fleet: Fleet, measured: dict, cost_per_hour: float) -> dict:
    """How many of each thing a million edges need, and what a million frames cost in nodes."""
    frames = fleet.edges * fleet.fps
    nodes = fleet.nodes * fleet.regions
    return {
        "frames/s": frames,
        "cloud nodes": nodes,
        "bound of a node": "its processes" if fleet.most_node_fps <= fleet.device.most_fps else "its device",
        "edges of a node": round(fleet.edges / nodes),
        "memory of a node's connections, MB": round(fleet.edges / nodes * EDGE_BYTES / 1e6, 1),
        "consumers in NATS": 3 * fleet.edges,
        "memory of consumers, GB in all": round(fleet.edges * measured["consumers_bytes"] / 1e9, 1),
        "cost of a million frames, in node-hours": round(nodes / frames * 1e6 / 3600, 3),
        "at the given price": round(nodes / frames * 1e6 / 3600 * cost_per_hour, 3),
    }


def draw(rows: list[dict], fleets: dict[str, list[Region]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.4), layout="constrained")
    loads = [row["load"] for row in rows if row["load"] <= 1]
    for key, color in (("p50_ms", "tab:blue"), ("p95_ms", "tab:orange")):
        chosen = [row for row in rows if row["load"] <= 1]
        left.plot(loads, [row["simulated"][key] for row in chosen], color=color, label=f"simulated {key[:3]}")
        left.plot(loads, [row["measured"][key] for row in chosen], "o", color=color, label=f"measured {key[:3]}")
    left.set(xlabel="load, share of the engine alone", ylabel="latency, ms", title="One node: simulated and measured")
    left.set_ylim(bottom=0)
    left.legend()
    for name, label in (("fleet", "30 % spare"), ("no spare", "5 % spare")):
        queues = np.mean([[queue for _, queue, _ in region.seconds] for region in fleets[name]], axis=0)
        smooth = np.convolve(queues, np.ones(5) / 5, "valid")  # at the ends a mean of five would need more seconds
        right.plot(np.arange(len(smooth)) + 2, smooth, label=label)
    right.axvspan(20, 50, color="tab:red", alpha=0.1)
    right.axvspan(60, 100, color="tab:red", alpha=0.2)
    right.set(xlabel="s", ylabel="frames that wait in a node, mean")
    right.set_title("A million edges: a tenth of region 0 away, then all of region 1")
    right.legend(loc="upper left")
    figure.savefig(PICTURE, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("measure", "simulate"), default="simulate")
    parser.add_argument(
        "--preset", default="edge", help="network to measure with (default: edge, so that it ends soon)"
    )
    parser.add_argument("--seconds", type=float, default=40.0, help="of each load (default: 40)")
    parser.add_argument("--price", type=float, default=1.0, help="of a node-hour (default: 1)")
    given = parser.parse_args()
    if given.what == "measure":
        figures = measure(given.preset, given.seconds)
        figures["consumers_bytes"] = asyncio.run(broker_bytes())
        MEASURED.write_text(json.dumps(figures, indent=1) + "\n")
        return
    measured = json.loads(MEASURED.read_text())
    rows = validate(measured)
    for row in rows:
        print(f"load {row['load']:.2f}: {row['off']}")
    worst = max(abs(value) for row in rows for value in row["off"].values())
    if worst > CLOSE:
        sys.exit(f"the simulation is {worst:.0%} off: it is not trusted with more")
    device = device_of(measured)
    out: dict = {"validation": rows, "fleets": {}}
    fleets = {}
    # Of a GPU nothing has been measured; but as fast as it may be, a node on two cores carries no more than HOST_FPS.
    unbounded = Device((1 / HOST_FPS,), 1)
    for name, of, spare in (("fleet", device, 0.3), ("no spare", device, 0.05), ("faster devices", unbounded, 0.3)):
        fleet = Fleet(EDGES, REGIONS, EDGE_FPS, of, measured["beside_s"], HOST_FPS, spare)
        fleets[name] = simulate_fleet(fleet, FAILURES, SECONDS)
        out["fleets"][name] = bounds(fleet, measured, given.price) | {
            "longest queue of a node": max(queue for region in fleets[name] for _, queue, _ in region.seconds),
            "p99, ms": latencies(fleets[name], None),
            "essential p99, ms": latencies(fleets[name], 0),
        }
        print(name, json.dumps(out["fleets"][name], indent=1))
    SIMULATED.write_text(json.dumps(out, indent=1) + "\n")
    draw(rows, fleets)


def latencies(regions: list[Region], priority: int | None) -> float:
    """p99 over all regions."""
    values = [
        value
        for region in regions
        for number, taken in region.node.latencies.items()
        if priority in (None, number)
        for value in taken
    ]
    return round(float(np.quantile(values, 0.99)) * 1e3, 1) if values else math.nan


if __name__ == "__main__":
    main()
