"""The archive job against the engine alone: the same images, decoded beforehand, in batches of the same size.

    python benchmarks/archive.py                     # CPU, or the first GPU; about two minutes on two cores

Images are drawn here (600x400 JPEG, dark). The engine runs on all processors but one, as the job's files need some too,
or on the GPU. Runs alternate, and the figures are ratios of medians. Writes benchmarks/results/archive.json.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from cloud_node.archive.files import Archive
from cloud_node.archive.job import enhance_here
from cloud_node.archive.pipeline import Limits
from cloud_node.engine import Engine, choose_devices, processors
from cloud_node.enhance import read

RESULTS = Path(__file__).resolve().parent / "results" / "archive.json"
SIZE, BATCH = (600, 400), 8


def draw(folder: Path, count: int) -> None:
    photo = Image.fromarray(data.astronaut()).resize(SIZE)
    for number in range(count):
        rng = np.random.default_rng(number)
        dark = np.asarray(photo) / rng.uniform(8, 20) + rng.normal(0, 1, (SIZE[1], SIZE[0], 3))
        Image.fromarray(dark.clip(0, 255).astype(np.uint8)).save(folder / f"{number:04}.jpg", quality=92)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="")
    parser.add_argument("--preset", default="fast")
    given = parser.parse_args()
    [device], _ = choose_devices(None, given.device)
    engine = Engine(device, given.preset, threads=max(1, processors() - 1))
    limits = Limits(batch_pixels=BATCH * SIZE[0] * SIZE[1], batch_frames=BATCH)
    alone, job = [], []
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "night"
        source.mkdir()
        draw(source, given.images)
        images = [read(path) for path in sorted(source.iterdir())]
        engine.prepare(images[:BATCH])
        for run in range(given.runs):
            start_s = time.perf_counter()
            for first in range(0, len(images), BATCH):
                engine.enhance(images[first : first + BATCH])
            alone.append(len(images) / (time.perf_counter() - start_s))
            archive = Archive(source, Path(name) / f"lit-{run}")
            with archive.alone():
                start_s = time.perf_counter()
                done = sum(1 for done in enhance_here(archive, [lambda: engine], limits) if not done.reason)
                job.append(done / (time.perf_counter() - start_s))
            print(f"engine alone {alone[-1]:.1f}, job {job[-1]:.1f} images/s", flush=True)
    figures = {
        "device": str(device),
        "preset": given.preset,
        "images": given.images,
        "engine alone, images/s": round(statistics.median(alone), 2),
        "job, images/s": round(statistics.median(job), 2),
        "job / engine": round(statistics.median(job) / statistics.median(alone), 3),
    }
    print(json.dumps(figures, indent=1))
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
