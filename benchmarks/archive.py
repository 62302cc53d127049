"""The archive job, as it ships, against the engine alone on the same images, decoded beforehand.

    python benchmarks/archive.py                     # CPU, or the first GPU; some minutes on two cores

Images are drawn here (600x400 JPEG, dark). The engine has all processors in both; alone it has the batch size with
which it is fastest, the job has the flags' defaults. Runs alternate, and the figures are ratios of medians; beside the
rates the CPU time of an image, which tells the same of full processors and is not moved by what else a machine does.
Writes benchmarks/results/archive.json.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from cloud_node.archive.cli import limits_of, parse
from cloud_node.archive.files import Archive
from cloud_node.archive.job import enhance_here
from cloud_node.archive.pipeline import Limits
from cloud_node.engine import Engine, choose_devices
from cloud_node.enhance import read
from common.pixels import RawImage

RESULTS = Path(__file__).resolve().parent / "results" / "archive.json"
SIZE, BATCHES = (600, 400), (1, 2, 4, 8, 16, 32)


def draw(folder: Path, count: int) -> None:
    photo = Image.fromarray(data.astronaut()).resize(SIZE)
    for number in range(count):
        rng = np.random.default_rng(number)
        dark = np.asarray(photo) / rng.uniform(8, 20) + rng.normal(0, 1, (SIZE[1], SIZE[0], 3))
        Image.fromarray(dark.clip(0, 255).astype(np.uint8)).save(folder / f"{number:04}.jpg", quality=92)


def alone(engine: Engine, images: Sequence[RawImage], batch: int) -> tuple[float, float]:
    """Images a second of the engine, a batch being submitted while the one before is computed; CPU seconds of one."""
    start_s, spent_s, before = time.perf_counter(), time.process_time(), None
    for first in range(0, len(images), batch):
        pending = engine.submit(images[first : first + batch])
        if before is not None:
            before.result()
        before = pending
    if before is not None:
        before.result()
    return len(images) / (time.perf_counter() - start_s), (time.process_time() - spent_s) / len(images)


def job(engine: Engine, source: Path, target: Path, limits: Limits) -> tuple[float, float]:
    archive = Archive(source, target)
    with archive.alone():
        start_s, spent_s = time.perf_counter(), time.process_time()
        done = sum(1 for done in enhance_here(archive, [lambda: engine], limits) if not done.reason)
        return done / (time.perf_counter() - start_s), (time.process_time() - spent_s) / done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="")
    given = parser.parse_args()
    [device], _ = choose_devices(None, given.device)
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "night"
        source.mkdir()
        draw(source, given.images)
        images = [read(path) for path in sorted(source.iterdir())]
        shipped = parse([str(source), name])
        limits, engine = limits_of(shipped), Engine(device, shipped.preset)
        for batch in BATCHES:  # each size once, not counted: some backends compile by size
            engine.enhance(images[:batch])
        trials = {batch: alone(engine, images[: max(64, batch)], batch)[0] for batch in BATCHES}
        best = max(trials, key=lambda batch: trials[batch])
        print("engine alone by batch:", {batch: round(rate, 1) for batch, rate in trials.items()}, flush=True)
        job(engine, source, Path(name) / "warm-up", limits)
        runs: dict[str, list[tuple[float, float]]] = {"engine": [], "job": []}
        for run in range(given.runs):
            runs["engine"].append(alone(engine, images, best))
            runs["job"].append(job(engine, source, Path(name) / f"lit-{run}", limits))
            for who, values in runs.items():
                print(f"{who}: {values[-1][0]:.1f} images/s, {values[-1][1] * 1e3:.0f} ms of CPU each", flush=True)
    middle = {name: statistics.median(rate for rate, _ in values) for name, values in runs.items()}
    spent = {name: statistics.median(cpu for _, cpu in values) for name, values in runs.items()}
    figures = {
        "device": str(device),
        "preset": shipped.preset,
        "images": given.images,
        "batch of the engine alone": best,
        "engine alone, images/s": round(middle["engine"], 2),
        "job, images/s": round(middle["job"], 2),
        "job / engine": round(middle["job"] / middle["engine"], 3),
        "engine / job, CPU time of an image": round(spent["engine"] / spent["job"], 3),
        "load of the machine at the end": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(figures, indent=1))
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
