"""Served frames/s with tracing and with metrics, against neither, by turns.

    python benchmarks/telemetry_rate.py                                   # fast, then none: about 7 minutes
    python benchmarks/telemetry_rate.py --rounds 2 --frames 8 --presets none    # a try

For each preset three cloud nodes run, and in each round three times one edge node that plays the demo's clip at one of
them as fast as its window lets it: without telemetry; with a trace of every frame on both sides (OTLP to a collector
in another process); with metrics on both sides (`--http`, `--metrics-port`) that are asked for once a second. Which
comes first changes from round to round, and each round's three are compared with each other alone, so that what else
the machine does meets all alike. Prints the geometric mean of the rounds' ratios with its 95 % interval (Student's t),
of frames/s and of the CPU time of both nodes a frame, and each process' CPU time; writes
benchmarks/results/telemetry_rate.json.
"""

import argparse
import contextlib
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
from scipy import stats

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from processes import Cloud, Process, edge_arguments, readings  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "telemetry_rate.json"
ARMS = ("off", "traces", "metrics")
FRAMES = {"fast": 24, "none": 240}  # of a round
WARM_UP = 6
PLAIN = ("--gate", "off", "--local", "off", "--detector", "none", "--no-keep-readings", "--loop")


@contextlib.contextmanager
def collector() -> Iterator[str]:
    """The address of one, in a process of its own."""
    command = [sys.executable, str(ROOT / "benchmarks" / "telemetry.py"), "--collect"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.stdin.close()


@contextlib.contextmanager
def asked(*addresses: str) -> Iterator[None]:
    """Metrics at these are asked for once a second."""
    over = threading.Event()

    def ask() -> None:
        while not over.wait(1.0):
            for address in addresses:
                with urllib.request.urlopen(f"{address}/metrics") as answer:
                    assert b"lamplight_" in answer.read()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join()


def cpu_s(cloud: Process, edge: Process) -> dict[str, float]:
    """Processor time of each process so far."""
    spent: dict[str, float] = {}
    for name, node in (("cloud node", psutil.Process(cloud.pid)), ("edge node", psutil.Process(edge.pid))):
        for process in (node, *node.children(recursive=True)):
            part = name if process == node else "nats" if "nats" in process.name() else f"{name}'s device"
            spent[part] = spent.get(part, 0.0) + sum(process.cpu_times()[:2])
    return spent


def measure(arm: str, node: Cloud, http: str, env: dict[str, str], frames: int, out: Path) -> dict[str, float]:
    """One edge node at one cloud node, for so many frames."""
    more = ("--metrics-port", "0") if arm == "metrics" else ()
    source = ROOT / "deploy" / "demo" / "night.mp4"
    edge = Process(*edge_arguments(node.address, source, out, *PLAIN, *more), env=env)
    try:
        with contextlib.ExitStack() as stack:
            if arm == "metrics":
                stack.enter_context(asked(http, edge.wait_for(r"(http://\S+)/metrics").group(1)))
            edge.wait_until(lambda: len(readings(out)) >= WARM_UP)
            before = cpu_s(node, edge), len(readings(out))
            edge.wait_until(lambda: len(readings(out)) >= WARM_UP + frames)
            after = cpu_s(node, edge), len(readings(out))
    finally:
        edge.end()
    lines = readings(out)[WARM_UP - 1 : WARM_UP + frames]
    assert all(line["outcome"] == "enhanced" and line["path"] == "cloud" for line in lines)
    ends_ns = sorted(line["captured_unix_ns"] + line["latency_ms"] * 1e6 for line in lines)
    parts = {name: (spent - before[0][name]) / (after[1] - before[1]) * 1e3 for name, spent in after[0].items()}
    return {
        "served_per_s": (len(lines) - 1) / (ends_ns[-1] - ends_ns[0]) * 1e9,
        "cpu_ms_per_frame": sum(parts.values()),
        **{f"{name}: cpu_ms_per_frame": spent for name, spent in parts.items()},
    }


def of_preset(preset: str, rounds: int, frames: int, endpoint: str, folder: Path) -> list[dict[str, dict[str, float]]]:
    """Each round's figures by arm."""
    traced = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_TRACES_SAMPLER": "always_on",
    }
    envs = {arm: traced if arm == "traces" else {} for arm in ARMS}
    nodes: dict[str, Cloud] = {}
    found = []
    try:
        for arm in ARMS:
            http = ("--http", "0") if arm == "metrics" else ()
            nodes[arm] = Cloud("--preset", preset, "--trace-slow-ms", "3600000", *http, env=envs[arm])
        said = re.search(r"health and status\D*(http://\S+)", nodes["metrics"].output)
        assert said is not None, nodes["metrics"].output
        for number in range(rounds):
            order = ARMS[number % 3 :] + ARMS[: number % 3]
            row = {
                arm: measure(arm, nodes[arm], said.group(1), envs[arm], frames, folder / f"{preset}-{number}-{arm}")
                for arm in order
            }
            words = (f"{arm} {row[arm]['served_per_s']:.2f}/s, {row[arm]['cpu_ms_per_frame']:.1f} ms" for arm in ARMS)
            print(f"{preset}, round {number}: {'; '.join(words)}", flush=True)
            found.append(row)
    finally:
        for node in nodes.values():
            node.end()
    return found


def paired(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean and its 95 % interval."""
    logs = [math.log(ratio) for ratio in ratios]
    half = (
        stats.t.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.inf
    )
    mean = statistics.fmean(logs)
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half) if half < 700 else math.inf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", default="fast,none", help="(default: fast,none)")
    parser.add_argument("--rounds", type=int, default=7, help="of each preset (default: 7)")
    parser.add_argument("--frames", type=int, default=0, help=f"of a round (default: {FRAMES})")
    given = parser.parse_args()
    for name in [name for name in os.environ if name.startswith(("OTEL_", "LAMPLIGHT_"))]:
        del os.environ[name]
    body = {}
    with collector() as endpoint, tempfile.TemporaryDirectory() as folder:
        for preset in given.presets.split(","):
            frames = given.frames or FRAMES.get(preset, 60)
            rounds = of_preset(preset, given.rounds, frames, endpoint, Path(folder))
            body[preset] = {"frames": frames, "rounds": rounds, "against_off": {}}
            for arm in ARMS[1:]:
                for what in ("served_per_s", "cpu_ms_per_frame"):
                    ratio, low, high = paired([row[arm][what] / row["off"][what] for row in rounds])
                    body[preset]["against_off"][f"{arm} {what}"] = [ratio, low, high]
                    print(f"{preset}, {arm} against off, {what}: {ratio:.3f} [{low:.3f}, {high:.3f}]", flush=True)
            body[preset]["cpu_ms_per_frame"] = parts = {
                arm: {
                    what.partition(":")[0]: statistics.median(row[arm][what] for row in rounds)
                    for what in rounds[0][arm]
                    if what.endswith(": cpu_ms_per_frame")
                }
                for arm in ARMS
            }
            for arm, spent in parts.items():
                print(f"{preset}, {arm}, CPU ms a frame:", ", ".join(f"{name} {ms:.2f}" for name, ms in spent.items()))
    RESULTS.write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()
