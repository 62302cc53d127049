"""Every figure of the comparison, in one command; about half an hour on two cores that do nothing else.

    python benchmarks/serving/setup_peers.py     # once: an environment for each peer
    python benchmarks/serving/run.py             # --quick: three minutes, to see that all works

Prints a table for each part, writes benchmarks/results/serving/*.json and throughput.png, and a summary with what was
asked for beside what was reached, benchmarks/results/serving.json.
"""

import argparse
import json
import os
import platform
import sys

import engine_share
import idle
import overload
import setup_peers
import throughput
from bench import RESULTS, main, say
from systems import PEERS, SYSTEMS

PARTS = {"throughput": throughput, "engine_share": engine_share, "overload": overload, "idle": idle}


def measure(given: argparse.Namespace) -> None:
    for peer in PEERS:
        setup_peers.python_of(peer)  # says what to do when one is missing
    figures, failed, load = {}, [], os.getloadavg()[0]
    for name in given.parts or PARTS:
        part = PARTS[name]
        words = ["--size", given.size, *(["--quick"] if given.quick else [])]
        if given.preset and name == "throughput":
            words += ["--preset", given.preset]
        if given.quick and name == "engine_share":
            words += ["--runs", "1"]
        try:
            figures[name] = part.measure(part.options().parse_args(words))
        except RuntimeError as error:
            failed.append(name)
            say(f"{name}: {error}")
    summary = summarise(figures)
    summary["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    summary |= {"quick": given.quick, "load_average_before": round(load, 2)}
    RESULTS.with_suffix(".json").write_text(json.dumps(summary, indent=1) + "\n")
    print("\nasked for and reached:")
    for row in summary["asked"]:
        print(f"  {'yes' if row['reached'] else 'NO ':>3}  {row['what']}: {row['figure']:.3g} ({row['wanted']})")
    if failed:
        sys.exit(f"without figures: {', '.join(failed)}")


def summarise(figures: dict[str, dict]) -> dict[str, object]:
    """What was asked for, with what was reached."""
    asked: list[dict[str, object]] = []

    def ask(what: str, figure: float, wanted: str, reached: bool) -> None:
        asked.append({"what": what, "figure": figure, "wanted": wanted, "reached": bool(reached)})

    if part := figures.get("throughput"):
        rows, best = part["systems"], part["best_peer_fps"]
        ours, limit = rows["ours"], rows["limit"]["most_fps"]
        ratio, share = ours["most_fps"] / best, ours["most_fps"] / limit
        ask("frames/s against the best peer", ratio, "at least 1.5", ratio >= 1.5)
        ask("frames/s against the limit", share, "at least 0.5", share >= 0.5)
        others = min(rows[name]["common"]["p99_ms"] for name in PEERS)
        ask("p99, ms", ours["common"]["p99_ms"], f"below {others:.3g}", ours["common"]["p99_ms"] < others)
    if part := figures.get("engine_share"):
        ask("served of the engine alone", part["share"], "at least 0.95", part["share"] >= 0.95)
    if part := figures.get("overload"):
        row = part["systems"]["ours"]
        most = row["alone_p99_ms"] + row["batch_ms"]
        ask("essential p99 under 3x, ms", row["loaded_p99_ms"], f"at most {most:.3g}", row["loaded_p99_ms"] <= most)
        ask("unevenness of equal edges", row["uneven"], "below 0.05", row["uneven"] < 0.05)
        ask("edges that starve", row["starved"], "0", row["starved"] == 0)
    if part := figures.get("idle"):
        ask("lone frame beside the network, ms", part["beside_network_ms"], "below 5", part["beside_network_ms"] < 5)
    peers = {name: (system.workers, system.batch, system.wait_ms) for name, system in SYSTEMS.items() if system.peer}
    return {"asked": asked, "peers_workers_batch_wait_ms": peers}


def options() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("parts", nargs="*", choices=[*PARTS, []], help="(default: all)")
    made.add_argument("--size", default="600x400", metavar="WxH", help="of a frame (default: 600x400)")
    made.add_argument("--preset", default="", help="of the network for throughput (default: none, serving alone)")
    made.add_argument("--quick", action="store_true", help="short runs, to see that all works; figures mean nothing")
    return made


if __name__ == "__main__":
    main(measure, options().parse_args())
