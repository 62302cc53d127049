"""The paper's complexity analysis, repeated: dark 1616x1080 frames of text, lit here or through a cloud.

    python benchmarks/complexity.py [--frames 50]

The paper (Complexity analysis) sends 50 such images of 0.5 to 1.5 MB: 3 to 5 s to its cloud and back, 0.15 s of network
on a GTX 3090, 5.12 s where a device does all by itself. Here frames go one by one over links of 2, 10 and 50 Mbit/s,
60 ms round trip (benchmarks/link.py: needs root), to a cloud node on one thread of this machine; "alone" is what one
thread takes for `edge` on ONNX Runtime, and for `fast`. Writes benchmarks/results/complexity.json.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from link import HEIGHT, RESULTS, ROOT, WIDTH
from local_enhancer import milliseconds
from processes import dark_sign

from cloud_node.laegan import load
from edge_node.local_enhancer import LocalEnhancer

OUT = ROOT / "benchmarks" / "results" / "complexity.json"
RATES = (2, 10, 50)
EVERY_S = 5.0  # one at a time: at 2 Mbit/s a lossless frame takes some 2.5 s
WAYS = {"lossless": (), "--deadline-ms 1000": ("--deadline-ms", "1000")}


def through_cloud(rate: int, frames: int, more: tuple[str, ...]) -> dict[str, float]:
    """What `link.py` wrote of its run."""
    given = ["--rate", str(rate), "--every", str(EVERY_S), "--seconds", str(EVERY_S * frames), "--no-bulk", *more]
    given += ["--preset", "fast"]
    subprocess.run([sys.executable, Path(__file__).with_name("link.py"), *given], check=True, stdout=sys.stderr)
    written: dict[str, dict[str, float]] = json.loads(RESULTS.read_text())
    return written[" ".join(given)]


def alone(repeats: int) -> dict[str, float]:
    """ms a frame on one thread."""
    torch.set_num_threads(1)
    frame = np.array(dark_sign("STATION", (WIDTH, HEIGHT)))
    tensor = torch.from_numpy(frame).movedim(-1, 0)[None].float() / 255
    small, large = LocalEnhancer(threads=1), load("fast")
    with torch.inference_mode():
        return {
            "edge": milliseconds(lambda: small.enhance(frame), repeats),
            "fast": milliseconds(lambda: large(tensor), repeats),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=50, help="for each row (default: 50)")
    parser.add_argument("--repeats", type=int, default=10, help="alone, on this machine (default: 10)")
    given = parser.parse_args()
    rows = []
    for rate in RATES:
        for way, more in WAYS.items():
            found = through_cloud(rate, given.frames, more)
            rows.append({"rate_mbit": rate, "way": way, **found})
    table = {"through_cloud": rows, "alone_ms": alone(given.repeats)}
    OUT.write_text(json.dumps(table, indent=1) + "\n")
    print("| link | sent | kB up, down | beside the network, p50, p95, s | network, s |")
    print("|---|---|---|---|---|")
    for row in rows:
        sizes = f"{row['up_bytes'] / 1e3:.0f}, {row['down_bytes'] / 1e3:.0f}"
        times = f"{row['p50_ms'] / 1e3:.2f}, {row['p95_ms'] / 1e3:.2f}"
        print(f"| {row['rate_mbit']} Mbit/s | {row['way']} | {sizes} | {times} | {row['network_p50_ms'] / 1e3:.2f} |")
    for network, ms in table["alone_ms"].items():
        print(f"alone, {network}: {ms / 1e3:.2f} s")


if __name__ == "__main__":
    main()
