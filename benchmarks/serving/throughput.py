"""The highest rate that each system sustains, and the latency of all at one rate: 0.7 of the best peer's.

    python benchmarks/serving/throughput.py

Serving alone is measured: with the preset `none` the network is the identity, and the work behind each system is the
same: packed frame in, unpacked, converted, encoded, published to NATS, read by the edge. The limit is the same bytes
with no work between. All run on the same cores, the load and NATS included.
"""

import argparse
import statistics

import plot
from bench import Bench, bench, main, parser, say, write
from systems import PEERS, SYSTEMS, settled

SHARE_OF_BEST_PEER = 0.7
START_FPS = 60.0


def measure(given: argparse.Namespace) -> dict[str, object]:
    with bench(given) as made:
        figures = compare(made, given.systems or list(SYSTEMS), given.runs, given.quick)
    figures["size"] = given.size
    write("throughput", figures)
    plot.throughput(figures)
    show(figures)
    return figures


def compare(made: Bench, names: list[str], runs: int, quick: bool) -> dict[str, object]:
    """Systems in turns, `runs` times; the highest rate of a system is the median of its runs."""
    precision, tries = (1.3, 1) if quick else (1.04, 2)
    rows: dict[str, dict] = {name: {"title": SYSTEMS[name].title, "most": [], "trials": []} for name in names}
    for turn in range(runs):
        for name in names:
            say(f"highest rate, turn {turn + 1} of {runs}")
            with made.serving(SYSTEMS[name]) as server:
                plan = {"find": {"start": START_FPS, "precision": precision, "tries": tries}}
                found = made.drive(server, plan)
            rows[name]["most"].append(found["most_fps"])
            rows[name]["trials"] += [_short(trial) for trial in found["trials"]]
            settled()
    for row in rows.values():
        row["most_fps"] = statistics.median(row.pop("most"))
    best = max((rows[name]["most_fps"] for name in PEERS if name in rows), default=0.0)
    figures: dict[str, object] = {"preset": made.preset, "edges": made.edges, "systems": rows, "best_peer_fps": best}
    rate = SHARE_OF_BEST_PEER * best
    if not rate:
        return figures
    figures["common_fps"] = rate
    for name, row in rows.items():
        say(f"latency at {rate:.0f} frames/s")
        with made.serving(SYSTEMS[name]) as server:
            done = made.drive(server, {"rates": [rate]}, seconds=made.seconds * 3)
        trial = done["trials"][0]
        frames = rate * (made.seconds * 3 + made.warm_up_s)
        row["common"] = {
            **_short(trial),
            "stages_ms": trial["stages_ms"],
            "batch_size": trial["batch_size"],
            "server_cpu_ms_a_frame": done["server_cpu_s"] * 1e3 / frames,
            "driver_cpu_ms_a_frame": done["cpu_s"] * 1e3 / frames,  # with its start
        }
        settled()
    return figures


def _short(trial: dict) -> dict[str, object]:
    kept = ("offered_fps", "served_fps", "sustained", "rejected", "failed")
    return {**{key: trial[key] for key in kept}, **{key: trial["all"][key] for key in ("lost", "p50_ms", "p99_ms")}}


def show(figures: dict) -> None:
    rows, best, limit = figures["systems"], figures["best_peer_fps"], figures["systems"].get("limit")
    print(f"\npreset {figures['preset']}, {figures['size']}, {figures['edges']} edges, all on the same cores")
    at = f"at {figures.get('common_fps', 0):.0f}/s: p50"
    print(f"{'':>20} {'most/s':>8} {'of best peer':>13} {'of limit':>9} {at:>15} {'p99 ms':>8} {'CPU ms/frame':>13}")
    for row in rows.values():
        most, common = row["most_fps"], row.get("common", {})
        print(
            f"{row['title']:>20} {most:>8.0f} {most / best if best else 0:>12.2f}x"
            f" {most / limit['most_fps'] if limit and limit['most_fps'] else 0:>8.2f}x"
            f" {common.get('p50_ms', 0):>15.1f} {common.get('p99_ms', 0):>8.1f}"
            f" {common.get('server_cpu_ms_a_frame', 0):>13.2f}"
        )


def options() -> argparse.ArgumentParser:
    made = parser(__doc__, preset="none", edges=16, seconds=5.0)
    made.add_argument("--runs", type=int, default=1, help="turns; the median counts (default: 1)")
    made.add_argument("--systems", nargs="*", choices=[*SYSTEMS], help="(default: all)")
    return made


if __name__ == "__main__":
    main(measure, options().parse_args())
