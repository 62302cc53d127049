"""The reader on one core: frames a second at 600x400, milliseconds of a region, and that nothing is lost for it.

    python benchmarks/reader_time.py --data DATA [--cache FOLDER] [--limit 10]     # receipts_sroie under DATA

Held-out receipts in 8 to 20 and 40 to 120 times less light, lit by `fast` and cut into frames of 600x400, read as a
node reads them with its defaults, but on one thread. H-mean at IoU 0.5 with 95 % bootstrap intervals over receipts,
beside a detector that sees the full size (736) and one whose network is not rewritten (common/onnx_rewrite.py), both
differences paired. CPU time is that of the whole process, of detector and recogniser with all before and after their
networks, by turns on one frame of each receipt and darkness: the least of three tries of each, and the mean over the
frames, or over all their regions. Beside it: two threads that wait, as a node's do, and two that spin, and recognition
by the plain network alone. Writes benchmarks/results/reader_time.json.
"""

import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from reader import found, table
from reading_scenes import LIT, Scenes, progress, receipts_parser, windows

from common import onnx_models
from common.text_detection import DBNet
from common.text_recognition import DARK, CTCRecognizer
from common.text_recognition import PLAIN as PLAINLY
from edge_node.reader import Reader, create_reader
from edge_node.settings import Reading

RESULTS = Path(__file__).resolve().parent / "results" / "reader_time.json"
FULL = 736
TRIES = 3
DEFAULT, PLAIN, LARGE = "as a node reads", "network not rewritten", f"--detector-side {FULL}"
TWO, ALONE = "two threads", "--recognizer plain"


@contextmanager
def changed(name: str, value: Any) -> Iterator[None]:
    """common.onnx_models with another function of that name, for models that are loaded meanwhile."""
    kept = getattr(onnx_models, name)
    setattr(onnx_models, name, value)
    try:
        yield
    finally:
        setattr(onnx_models, name, kept)


def spinning(threads: int) -> Any:
    options = lean(threads)
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    return options


lean = onnx_models.lean_options
AS_IT_IS: Callable[[bytes], bytes] = bytes


def loaded(given: Reading, name: str = "", value: Any = None) -> Reader:
    reader = create_reader(given)
    if not name:
        reader.load()
        return reader
    with changed(name, value):
        reader.load()
    return reader


def cpu_ms(run: Callable[[np.ndarray], object], frame: np.ndarray) -> float:
    start = time.process_time()
    run(frame)
    return (time.process_time() - start) * 1e3


def by_turns(runs: dict[str, Callable[[np.ndarray], object]], frames: Sequence[np.ndarray]) -> dict[str, list[float]]:
    """CPU milliseconds of each frame, the least of some tries."""
    taken: dict[str, list[float]] = defaultdict(list)
    for frame in frames:
        tries = [{name: cpu_ms(run, frame) for name, run in runs.items()} for _ in range(TRIES)]
        for name in runs:
            taken[name].append(min(one[name] for one in tries))
    return taken


def times(frames: Sequence[np.ndarray]) -> dict[str, Any]:
    alone = Reading(recognize=False, detector_threads=1)
    readers = {
        DEFAULT: loaded(alone), PLAIN: loaded(alone, "faster", AS_IT_IS),
        LARGE: loaded(replace(alone, detector_side=type(alone.detector_side)(FULL))),
        TWO: loaded(replace(alone, detector_threads=2)),
    }  # fmt: skip
    detector = by_turns({name: reader.read for name, reader in readers.items()}, frames)
    recognizers = {
        name: CTCRecognizer(model, threads=1) for name, model in ((DEFAULT, DARK), (ALONE, PLAINLY), (PLAIN, DARK))
    }
    find = readers[DEFAULT].read
    regions = {frame.ctypes.data: find(frame) for frame in frames}
    for name, one in recognizers.items():
        with changed("faster", AS_IT_IS if name == PLAIN else onnx_models.faster):
            for frame in frames:  # all that is loaded at the first line it is needed for
                one.recognize(frame, regions[frame.ctypes.data])
    read = by_turns(
        {name: lambda rgb, one=one: one.recognize(rgb, regions[rgb.ctypes.data]) for name, one in recognizers.items()},
        frames,
    )
    count = sum(len(one) for one in regions.values())
    same = [
        [region.text for region in recognizers[name].recognize(frame, regions[frame.ctypes.data])]
        for name in (DEFAULT, PLAIN)
        for frame in frames
    ]
    # Last and alone: its threads spin on beside whatever runs next, and their time is the process's.
    spins = loaded(replace(alone, detector_threads=2), "lean_options", spinning)
    detector |= by_turns({f"{TWO} that spin": spins.read}, frames)
    made: dict[str, Any] = {"frames": len(frames), "regions": count, "load": [round(x, 1) for x in os.getloadavg()]}
    for name, values in detector.items():
        mean = float(np.mean(values))
        made[f"detector, {name}"] = {
            "cpu_ms": round(mean, 1), "frames_per_s_of_a_core": round(1000 / mean, 1),
            "against": round(float(np.median(np.divide(values, detector[DEFAULT]))), 3),
        }  # fmt: skip
    for name, values in read.items():
        made[f"recognition, {name}"] = {"cpu_ms_a_region": round(sum(values) / count, 2)}
    made["same text"] = same[: len(frames)] == same[len(frames) :]
    return made


def main() -> None:
    given = receipts_parser(__doc__).parse_args()
    cv2.setNumThreads(1)
    side = int(Reading().detector_side)
    detectors = {DEFAULT: DBNet(limit_side=side, threads=1), LARGE: DBNet(limit_side=FULL, threads=1)}
    detectors[PLAIN] = DBNet(limit_side=side, threads=1)
    with changed("faster", AS_IT_IS):
        detectors[PLAIN].load()
    rows: dict[Any, list[np.ndarray]] = defaultdict(list)
    kept: list[np.ndarray] = []
    scenes = Scenes(given.data, given.limit, cache=given.cache)
    for scene in progress(scenes):
        frames = list(windows(scene, LIT))
        kept.append(np.ascontiguousarray(frames[len(kept) % len(frames)][0]))  # from the head, the middle, the foot
        for name, detector in detectors.items():
            rows[name].append(found(detector, frames))
    results = {
        "receipts": len(scenes.paths),
        "h_mean, frames of 600x400, enhanced": table(rows, LARGE),
        "against the network not rewritten": table(rows, PLAIN)[DEFAULT]["against_full"],
        "600x400": times(kept),
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
