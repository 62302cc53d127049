"""Frames a second of preset `edge` on ONNX Runtime, on one core, against the cloud's `fast` and against the detector.

    python benchmarks/local_enhancer.py

A dark 600x400 frame, bytes in, bytes out. Writes benchmarks/results/local_enhancer.json.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cloud_node.laegan import load
from common.text_detection import DBNet
from edge_node.local_enhancer import LocalEnhancer

RESULTS = Path(__file__).resolve().parent / "results" / "local_enhancer.json"
SIZE = (400, 600)


def milliseconds(run: Callable[[], object], repeats: int) -> float:
    """Median over `repeats`, after three that are not counted."""
    taken = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        run()
        taken.append((time.perf_counter() - start) * 1e3)
    return statistics.median(taken[3:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30, help="(default: 30)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    frame = (np.random.default_rng(0).random((*SIZE, 3)) ** 2 * 60).astype(np.uint8)
    small, large, detector = LocalEnhancer(threads=1), load("fast"), DBNet(threads=1)
    tensor = torch.from_numpy(frame).movedim(-1, 0)[None].float() / 255

    def in_the_cloud() -> None:
        with torch.inference_mode():
            large(tensor)

    table = {
        "edge, ONNX Runtime": milliseconds(lambda: small.enhance(frame), given.repeats),
        "fast, torch fp32": milliseconds(in_the_cloud, max(3, given.repeats // 5)),
        "text detector": milliseconds(lambda: detector.detect(frame), max(3, given.repeats // 5)),
    }
    print(f"{SIZE[1]}x{SIZE[0]}, one core")
    for name, ms in table.items():
        print(f"{name:>20}  {ms:7.1f} ms  {1000 / ms:6.1f} frames/s")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"size": f"{SIZE[1]}x{SIZE[0]}", "ms": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
