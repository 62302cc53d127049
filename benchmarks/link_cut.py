"""How soon do live readings come back after a link was cut, and after a cloud node was killed?

    python benchmarks/link_cut.py [--cuts 2,6,20,60]

Makes a link laboratory (tests/links/): an edge node (20 Mbit/s, 20 ms round trip), two cloud nodes without a network
and a NATS server. The edge plays dark pictures at 5 frames/s. For each cut: seconds from the link's return to the first
reading of a frame that was captured after it. In the end the node in use is killed: seconds to the first reading of a
frame captured after that. Then every frame must have its reading, once. Writes benchmarks/results/link_cut.json.
"""

import argparse
import json
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests" / "links"), str(ROOT), str(ROOT / "proto")]
os.environ["PYTHONPATH"] = f"{ROOT}:{ROOT / 'proto'}"

from laboratory import Laboratory, Shape  # noqa: E402
from processes import Process, dark_photos, edge_arguments, readings  # noqa: E402
from two_clouds import two_clouds  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "link_cut.json"
STEADY_S = 4.0
HANG_S = 60.0


def back_after(output: Path, since_unix_ns: int) -> float:
    """Wait for a reading of a frame captured since then; returns the seconds that it took."""
    while (time.time_ns() - since_unix_ns) / 1e9 < HANG_S:
        if any(line["captured_unix_ns"] >= since_unix_ns for line in readings(output)[-20:]):
            return (time.time_ns() - since_unix_ns) / 1e9
        time.sleep(0.02)
    raise SystemExit("no reading came back")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", default="2,6,20,60", help="seconds (default: 2,6,20,60)")
    given = parser.parse_args()
    with (
        Laboratory() as laboratory,
        tempfile.TemporaryDirectory() as folder,
        two_clouds(laboratory, Path(folder)) as nodes,
    ):
        edge_host = laboratory.host("edge", Shape(rate_mbit=20, delay_ms=10))
        photos, out = dark_photos(Path(folder, "photos")), Path(folder, "out")
        play = edge_arguments(",".join(nodes), photos, out, "--loop", "--fps", "5", "--retry-s", "600", "--insecure")
        edge = Process(*play, "--detector", "none", prefix=edge_host.prefix)
        found: dict[str, float] = {}
        try:
            edge.wait_until(lambda: len(readings(out)) > 10)
            for cut_s in map(float, given.cuts.split(",")):
                edge_host.cut()
                time.sleep(cut_s)
                since = time.time_ns()
                edge_host.restore()
                found[f"cut for {cut_s:g} s"] = back_after(out, since)
                print(f"cut for {cut_s:g} s: back after {found[f'cut for {cut_s:g} s']:.2f} s", flush=True)
                time.sleep(STEADY_S)
            in_use = re.findall(r"connected to (\S+): none", edge.output)[-1]
            since = time.time_ns()
            nodes[in_use].end(signal.SIGKILL)
            found["node killed"] = back_after(out, since)
            print(f"node killed: back after {found['node killed']:.2f} s")
            edge.end(signal.SIGTERM)
        finally:
            edge.end(signal.SIGKILL)
        lines = readings(out)
        assert sorted(line["sequence"] for line in lines) == list(range(len(lines))), "each once, and none missing"
        lost = [line["reason"] for line in lines if line["outcome"] != "enhanced"]
        print(f"{len(lines)} frames, one reading each; not enhanced: {lost or 'none'}")
    RESULTS.write_text(json.dumps({"seconds": found, "frames": len(lines), "not_enhanced": lost}, indent=1) + "\n")


if __name__ == "__main__":
    main()
