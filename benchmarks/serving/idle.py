"""What an idle node adds: the time that a lone frame spends in the cloud node beside the network.

    python benchmarks/serving/idle.py

From the stage times in the results: ingress, scheduler, engine and publisher, less the network's part of the engine.
"""

import argparse

from bench import bench, main, parser, write
from systems import SYSTEMS


def measure(given: argparse.Namespace) -> dict[str, object]:
    with bench(given) as made:
        with made.serving(SYSTEMS["ours"]) as server:
            done = made.drive(server, {"rates": [given.fps]})["trials"][0]
    figures = {
        "preset": given.preset,
        "size": given.size,
        "fps": given.fps,
        "frames": done["all"]["due"],
        "beside_network_ms": done["beside_network_ms"],
        "stages_ms": done["stages_ms"],
        "latency_p50_ms": done["all"]["p50_ms"],
    }
    write("idle", figures)
    show(figures)
    return figures


def show(figures: dict) -> None:
    print(
        f"\npreset {figures['preset']}, {figures['size']}, {figures['frames']} lone frames: "
        f"{figures['beside_network_ms']:.2f} ms in the node beside the network (median)"
    )
    print("  " + "  ".join(f"{name} {ms:.2f}" for name, ms in figures["stages_ms"].items()))


def options() -> argparse.ArgumentParser:
    made = parser(__doc__, preset="fast", edges=1, seconds=60.0)
    made.add_argument("--fps", type=float, default=2.0, help="low, so that none waits for another (default: 2)")
    return made


if __name__ == "__main__":
    main(measure, options().parse_args())
