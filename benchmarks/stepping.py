"""What stepping down costs the reader: text found after the cloud's preset `fast`, by the step of the frame.

    python benchmarks/stepping.py --data DATA          # receipts_sroie under DATA; half an hour on one core

Receipts that training never saw, in 8 to 20 and in 40 to 120 times less light, as a phone delivers them (4:2:0); each
is packed by every step of the ladder of docs/link.md, unpacked, lit up and read in the camera's size. H-mean by the
ICDAR 2015 protocol, its difference from the lossless step with a paired bootstrap interval, and the share of the bytes.
Writes benchmarks/results/stepping.json.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import torch
from bursts import burst

from cloud_node.evaluation.bootstrap import difference, estimate, hmean
from cloud_node.evaluation.cases import DARKNESS, dark_receipts, read_image, thinned
from cloud_node.evaluation.detection import count
from cloud_node.laegan import load
from common.color import to_rgb
from common.packing import unpack
from common.text_detection import DBNet
from edge_node.smaller import restored
from edge_node.stepping import Measure, ladder, pack

RESULTS = Path(__file__).resolve().parent / "results" / "stepping.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds receipts_sroie")
    parser.add_argument("--limit", type=int, default=0, help="receipts, evenly spread (default: all)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    network, detector = load("fast"), DBNet(threads=1)
    steps, results = ladder({Measure.BOUNDED, Measure.SIZE}), {}
    for name, ratio in DARKNESS.items():
        counts, sizes = defaultdict(list), defaultdict(list)
        cases = thinned(dark_receipts(name, given.data).cases, given.limit)
        for seed, case in enumerate(cases):
            bright = read_image(given.data / "receipts_sroie" / "images" / case.name)
            frame, truth = burst(bright, seed, ratio, 1).frames[0], case.read().truth
            for step in steps:
                packed = pack(frame, step)
                lit = restored(enhanced(network, to_rgb(unpack(packed))), (frame.width, frame.height))
                found = count(detector.detect(lit), truth)
                counts[str(step)].append((found.found, found.right, found.truth))
                sizes[str(step)].append(len(packed.payload))
            print(f"{name}: {seed + 1} of {len(cases)}", flush=True)
        results[name] = {"receipts": len(cases), "steps": table(counts, sizes)}
        print(json.dumps(results[name], indent=1), flush=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def enhanced(network: torch.nn.Module, rgb: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        lit = network(torch.from_numpy(rgb.copy()).movedim(-1, 0)[None] / 255)
    return (lit[0].movedim(0, -1).numpy() * 255 + 0.5).clip(0, 255).astype(np.uint8)


def table(counts: dict[str, list], sizes: dict[str, list]) -> dict[str, dict[str, object]]:
    rows = {step: np.array(values, float) for step, values in counts.items()}
    out: dict[str, dict[str, object]] = {}
    for step, values in rows.items():
        change = difference(values, rows["lossless"], hmean)
        out[step] = {
            "h-mean": round(estimate(values, hmean).value, 3),
            "against lossless": [round(number, 3) for number in (change.value, change.low, change.high)],
            "bytes": round(float(np.sum(sizes[step]) / np.sum(sizes["lossless"])), 3),
        }
    return out


if __name__ == "__main__":
    main()
