"""What TLS and logins cost: served frames/s and processor time a frame, with an identity against without.

    python benchmarks/tls.py                      # the fast network
    python benchmarks/tls.py --preset none        # no network: the worst case

Two cloud nodes, one with an identity and one without, on loopback, each with its own NATS server; the load generator
gives them more frames than they can do, by turns, several times, so that what else the machine does meets both alike.
Prints each round and the median of the rounds' ratios, and writes benchmarks/results/tls-PRESET.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
sys.path.insert(0, str(ROOT))

from enrolled import authority, bundle  # noqa: E402
from processes import Cloud  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"


def cpu_s(pid: int) -> float:
    """Processor time of a cloud node and its NATS server so far."""
    node = psutil.Process(pid)
    return sum(sum(process.cpu_times()[:2]) for process in [node, *node.children(recursive=True)])


def measure(node: Cloud, given: argparse.Namespace, folder: Path, *more: str) -> dict[str, float]:
    """One round against one node."""
    out, before = folder / "load", cpu_s(node.pid)
    command = [
        *(sys.executable, "-m", "edge_node", "load", "--source", given.source, "--cloud", f"localhost:{node.port}"),
        *("--edges", str(given.edges), "--fps", str(given.fps), "--duration", str(given.seconds)),
        *("--warm-up", "2", "--timeout-s", "3", "--output", str(out), *more),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if not (out / "load.json").is_file():
        sys.exit(done.stdout + done.stderr)
    report = json.loads((out / "load.json").read_text())
    (out / "load.json").unlink()
    return {
        "served_per_s": report["all"]["served_per_s"],
        "node_cpu_ms_per_frame": 1e3 * (cpu_s(node.pid) - before) / max(1, report["total"]["enhanced"]),
    }


def words_of(row: dict[str, float]) -> str:
    return f"{row['served_per_s']:.1f} frames/s, {row['node_cpu_ms_per_frame']:.2f} ms CPU a frame"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="fast", help="fast, or none (default: fast)")
    parser.add_argument("--source", default=str(ROOT / "deploy/demo/night.mp4"), help="frames to send")
    parser.add_argument("--edges", type=int, default=4, help="(default: 4)")
    parser.add_argument("--fps", type=float, default=50, help="of each edge, more than can be served (default: 50)")
    parser.add_argument("--seconds", type=float, default=10, help="of a round (default: 10)")
    parser.add_argument("--rounds", type=int, default=5, help="with and without, by turns (default: 5)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = authority(folder)
        file = bundle(made, *(f"load-{index:04d}" for index in range(given.edges)))
        plain = Cloud("--preset", given.preset)
        secure = Cloud("--preset", given.preset, "--identity", str(made.node), "--nats-port", "0")
        rounds = []
        try:
            for index in range(given.rounds):
                arms = {"off": lambda: measure(plain, given, folder)}
                arms["on"] = lambda: measure(secure, given, folder, "--identity", str(file))
                order = ("off", "on") if index % 2 == 0 else ("on", "off")
                found = {arm: arms[arm]() for arm in order}
                rounds.append({arm: found[arm] for arm in ("off", "on")})
                words = (f"TLS {arm}: {words_of(row)}" for arm, row in rounds[-1].items())
                print(f"round {index}: {'; '.join(words)}", flush=True)
        finally:
            for node in (plain, secure):
                node.end()
    ratios = {name: statistics.median(one["on"][name] / one["off"][name] for one in rounds) for name in rounds[0]["on"]}
    print(f"{given.preset}: TLS on against off, median of {given.rounds} rounds: ", end="")
    print(f"{ratios['served_per_s']:.3f} of the frames/s, {ratios['node_cpu_ms_per_frame']:.3f} of the CPU a frame")
    body = {"settings": {**vars(given), "source": Path(given.source).name}, "ratios": ratios, "rounds": rounds}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"tls-{given.preset}.json").write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()
