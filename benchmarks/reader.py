"""The detector's size: what is found, and what a frame costs, at different sides.

    python benchmarks/reader.py --data DATA [--cache FOLDER]     # receipts_sroie under DATA

Held-out receipts in 8 to 20 and 40 to 120 times less light, lit by `fast`, and bright: whole (long side 1280) and as
frames of 600x400 cut from them. H-mean at IoU 0.5 with 95 % bootstrap intervals over receipts; differences to the side
of 736 are paired. CPU time is of one thread, with all before and after the network, the least of five tries on each of
six frames, all sides by turns. `--cache` keeps the lit pictures, which take most of the time. Writes
benchmarks/results/reader.json and a plot.
"""

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
from reading_scenes import BRIGHT, LIT, Scenes, progress, receipts_parser, windows

from cloud_node.evaluation.bootstrap import difference, estimate, hmean
from cloud_node.evaluation.detection import count
from common.text_detection import DBNet

RESULTS = Path(__file__).resolve().parent / "results" / "reader"
SIDES = (384, 416, 448, 480, 544, 736)
FULL = 736
MAX_SIDES = (960, 1280)
UNCLIP = (1.1, 1.2, 1.3, 1.4, 1.6)
NO_BOUND = 2048  # no receipt is as large
FRAMES = 6


def found(detector: DBNet, frames: Sequence[tuple[np.ndarray, Any]]) -> np.ndarray:
    """(found, right, truth) over the frames of one receipt."""
    rows = [count(detector.detect(rgb), truth) for rgb, truth in frames]
    return np.array([(row.found, row.right, row.truth) for row in rows]).sum(axis=0)


def cpu_ms(detectors: dict[int, DBNet], frames: Sequence[np.ndarray]) -> dict[str, float]:
    """Of one frame, at each side."""
    taken: dict[int, list[float]] = defaultdict(list)
    for frame in frames:
        for side, detector in detectors.items():
            tries = []
            for _ in range(5):
                start = time.thread_time()
                detector.detect(frame)
                tries.append(time.thread_time() - start)
            taken[side].append(min(tries) * 1e3)
    return {str(side): round(float(np.mean(values)), 1) for side, values in taken.items()}


def table(rows: dict[Any, list[np.ndarray]], full: Any) -> dict[str, Any]:
    arrays = {key: np.asarray(values, float) for key, values in rows.items()}
    made = {}
    for key, values in arrays.items():
        whole, less = estimate(values, hmean), difference(values, arrays[full], hmean)
        made[str(key)] = {
            "h_mean": round(whole.value, 4), "interval": [round(whole.low, 4), round(whole.high, 4)],
            "against_full": [round(x, 4) for x in (less.value, less.low, less.high)],
        }  # fmt: skip
    return made


def measure(scenes: Scenes) -> dict[str, Any]:
    sides = {side: DBNet(limit_side=side, threads=1) for side in SIDES}
    longest = {side: DBNet(limit_side=480, max_side=side, threads=1) for side in MAX_SIDES}
    grown = {ratio: DBNet(limit_side=480, unclip_ratio=ratio, threads=1) for ratio in UNCLIP}
    cut: dict[Any, list[np.ndarray]] = defaultdict(list)
    whole: dict[Any, list[np.ndarray]] = defaultdict(list)
    bright: dict[Any, list[np.ndarray]] = defaultdict(list)
    large: dict[Any, list[np.ndarray]] = defaultdict(list)
    unclip: dict[Any, list[np.ndarray]] = defaultdict(list)
    kept: list[np.ndarray] = []
    for scene in progress(scenes):
        frames = list(windows(scene, LIT))
        picture = [(scene.pictures[LIT], scene.truth)]
        kept += [frames[0][0]][: FRAMES - len(kept)]
        for side, detector in sides.items():
            cut[side].append(found(detector, frames))
        for side in (480, FULL):
            whole[side].append(found(sides[side], picture))
        large[NO_BOUND].append(whole[480][-1])
        for side, detector in longest.items():
            large[side].append(found(detector, picture))
        if scene.darkness == next(iter(scenes.darkness)):
            clear = list(windows(scene, BRIGHT))
            for side in (416, 480, FULL):
                bright[side].append(found(sides[side], clear))
            for ratio, detector in grown.items():
                unclip[ratio].append(found(detector, clear))
    return {
        "receipts": len(scenes.paths),
        "frames of 600x400, enhanced": table(cut, FULL),
        "frames of 600x400, bright": table(bright, FULL),
        "whole receipts, enhanced": table(whole, FULL),
        "whole receipts, enhanced, by --detector-max-side": table(large, NO_BOUND),
        "unclip ratio, frames of 600x400, bright": table(unclip, 1.3),
        "cpu ms of a 600x400 frame": cpu_ms(sides, kept),
    }


def plot(results: dict[str, Any]) -> None:
    times, rows = results["cpu ms of a 600x400 frame"], results["frames of 600x400, enhanced"]
    figure, axes = plt.subplots(figsize=(7, 4.2))
    x, y = [times[side] for side in rows], [row["h_mean"] for row in rows.values()]
    lost = [row["against_full"] for row in rows.values()]
    axes.errorbar(x, [v for v, _, _ in lost], yerr=[[v - low for v, low, _ in lost], [high - v for v, _, high in lost]],
                  fmt="o-", capsize=3)  # fmt: skip
    for side, ms, value, h in zip(rows, x, lost, y, strict=True):
        axes.annotate(f"{side}\n{h:.3f}", (ms, value[0]), xytext=(4, 8), textcoords="offset points", fontsize=8)
    axes.axhline(-0.01, color="grey", linestyle=":", label="0.01 below 736")
    axes.axvline(100, color="grey", linestyle="--", label="10 frames/s")
    axes.set(xlabel="CPU time of a 600x400 frame, ms, one thread", ylabel="H-mean against side 736, paired",
             title="--detector-side: receipts lit by fast, 600x400")  # fmt: skip
    axes.legend(loc="lower right")
    figure.savefig(RESULTS.with_suffix(".png"), dpi=90, bbox_inches="tight")


def main() -> None:
    given = receipts_parser(__doc__).parse_args()
    cv2.setNumThreads(1)
    results = measure(Scenes(given.data, given.limit, cache=given.cache))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    plot(results)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
