"""Three times the load that a system can serve, all of it secondary but one edge with essential frames.

    python benchmarks/serving/overload.py

For our node and the peers: the essential edge's p99 alone and under that load, whether the other edges get even shares
although every second one sends three times as much as its neighbour, and whether one of them starves. Triton's queue
has priorities and gets them; LitServe and Ray Serve have none.
"""

import argparse

from bench import Bench, bench, main, parser, say, write
from systems import PEERS, System, settled, with_settings

from common.frame import Priority

OVERLOAD = 3.0
ESSENTIAL_SHARE = 0.1  # of what the system can serve
UNEVEN = (0.5, 1.5)  # of an even share of the offered load, in turns


def measure(given: argparse.Namespace) -> dict[str, object]:
    figures: dict[str, object] = {"preset": given.preset, "size": given.size, "edges": given.edges, "systems": {}}
    with bench(given) as made:
        for name in given.systems or ["ours", *PEERS]:
            # A real network on a CPU gains nothing from a batch, and each size of a batch is compiled for itself.
            system = with_settings(name, batch=1, wait_ms=0.0)
            with made.serving(system) as server:
                plan = {"find": {"start": 10.0, "precision": 1.3 if given.quick else 1.1, "tries": 1}}
                most = made.drive(server, plan, seconds=min(4.0, made.seconds))["most_fps"]
            settled()
            figures["systems"][name] = {"title": system.title, "most_fps": most, **overload(made, system, most)}
            settled()
    write("overload", figures)
    show(figures)
    return figures


def overload(made: Bench, system: System, most: float) -> dict[str, object]:
    """The essential edge alone, then with the others, on a server started anew."""
    essential = {"edge": "essential", "fps": max(0.5, ESSENTIAL_SHARE * most), "priority": int(Priority.ESSENTIAL)}
    even = (OVERLOAD * most - essential["fps"]) / made.edges
    names = [f"secondary-{number}" for number in range(made.edges)]
    others = [
        {"edge": edge, "fps": even * UNEVEN[at % 2], "priority": int(Priority.SECONDARY)}
        for at, edge in enumerate(names)
    ]
    with made.serving(system) as server:
        say(f"{system.title}: one essential edge alone, {essential['fps']:.1f} frames/s")
        alone = made.drive(server, {"loads": [essential]})["trials"][0]
        say(f"{system.title}: with {made.edges} others, {OVERLOAD:g} times {most:.1f} frames/s in all")
        loaded = made.drive(server, {"loads": [essential, *others]})["trials"][0]
    shares = [loaded["edges"][edge]["served"] for edge in names]
    mean = sum(shares) / len(shares)
    return {
        "offered_fps": loaded["offered_fps"],
        "served_fps": loaded["served_fps"],
        "alone_p99_ms": alone["edges"]["essential"]["p99_ms"],
        "loaded_p50_ms": loaded["edges"]["essential"]["p50_ms"],
        "loaded_p99_ms": loaded["edges"]["essential"]["p99_ms"],
        "essential_frames": loaded["edges"]["essential"]["due"],
        "essential_lost": loaded["edges"]["essential"]["lost"],
        "batch_ms": loaded["stages_ms"].get("engine", 0.0),
        "batch_size": loaded["batch_size"],
        "secondary_served": shares,
        "uneven": max(abs(share / mean - 1) for share in shares) if mean else 1.0,
        "most_over_least": max(shares) / max(1, min(shares)),
        "starved": sum(share == 0 for share in shares),
        "rejected": loaded["rejected"],
        "failed": loaded["failed"],
    }


def show(figures: dict) -> None:
    print(f"\npreset {figures['preset']}, {figures['size']}: 3x the load, 1 essential edge, {figures['edges']} others")
    head = ("most/s", "alone p99", "loaded p99", "one batch", "ms over", "uneven", "max/min", "starved")
    print(f"{'':>20}" + "".join(f"{word:>12}" for word in head))
    for row in figures["systems"].values():
        over = row["loaded_p99_ms"] - row["alone_p99_ms"] - row["batch_ms"]
        print(
            f"{row['title']:>20}{row['most_fps']:>12.1f}{row['alone_p99_ms']:>12.1f}{row['loaded_p99_ms']:>12.1f}"
            f"{row['batch_ms']:>12.1f}{max(0.0, over):>12.1f}{row['uneven']:>11.1%}"
            f"{row['most_over_least']:>12.2f}{row['starved']:>12}"
        )


def options() -> argparse.ArgumentParser:
    made = parser(__doc__, preset="edge", edges=8, seconds=40.0)
    made.add_argument("--systems", nargs="*", choices=["ours", *PEERS], help="(default: ours and the peers)")
    return made


if __name__ == "__main__":
    main(measure, options().parse_args())
