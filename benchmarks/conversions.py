"""CPU time of a frame in a device's process beside its network: unpacking, conversions by pixel format, JPEG.

    python benchmarks/conversions.py

A dark frame of 600x400, one thread. The ways take turns in one process, so that each finds the caches as the others
left them, and a change of load falls on all: compare ratios. Writes benchmarks/results/conversions.json.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "proto")]

from cloud_node import backends  # noqa: E402
from cloud_node.backends.tracing import tracing  # noqa: E402
from cloud_node.color import Form, tensor_of  # noqa: E402
from common import memory, packing  # noqa: E402
from common.packing import ImageFormat  # noqa: E402
from common.pixels import ColorRange, PixelFormat, RawImage, content_size  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "conversions.json"
WIDTH, HEIGHT = 600, 400
CPU = torch.device("cpu")


class Identity(torch.nn.Module):
    """A network that takes no time, and is called between the conversions like any other."""

    def forward(self, low: torch.Tensor) -> torch.Tensor:
        return low


def camera(pixel_format: PixelFormat) -> RawImage:
    """Dark noise, grey where there is chroma."""
    size, random = content_size(pixel_format, WIDTH, HEIGHT), np.random.default_rng(0)
    data = random.normal(20, 4, size).clip(0, 255).astype(np.uint8)
    if pixel_format is PixelFormat.YUYV:
        data[1::2] += 108
    elif pixel_format is not PixelFormat.RGB24:
        data[WIDTH * HEIGHT :] += 108
    return RawImage(data, WIDTH, HEIGHT, pixel_format, ColorRange.LIMITED)


def conversions(image: RawImage) -> dict[str, Callable[[], object]]:
    raw, form, nothing = tensor_of(image)[None], Form.of(image), backends.Nothing()
    plain = partial(backends.light, nothing, raw, form)
    with tracing():
        traced = torch.jit.trace(lambda raw: backends.light(nothing, raw, form), (raw,), check_trace=False)
    ways = {"torch": plain, "traced": partial(traced, raw)}
    for name, network in (("openvino", Identity()), ("openvino, preset none", nothing)):
        model = backends._model(name, network, network, CPU, 1)
        with model.ways[0].at_once():
            model.step(raw, form)
        assert model.ways[0].taken_over
        ways[name] = partial(model.step, raw, form)
    return ways


def rest(image: RawImage) -> dict[str, Callable[[], object]]:
    packed = packing.pack(image)
    planes = np.random.default_rng(0).normal(60, 8, (3, HEIGHT // 8, WIDTH // 8)).clip(0, 255).astype(np.uint8)
    apart = planes.repeat(8, axis=1).repeat(8, axis=2).transpose(1, 2, 0)
    together = np.ascontiguousarray(apart)
    return {
        "unpack": lambda: packing.unpack(packed),
        "of it zstd": lambda: packing._zstd.decompressor.decompress(packed.payload),
        "JPEG, interleaved": lambda: packing.encode(together, ImageFormat.JPEG),
        "JPEG, planes": lambda: packing.encode(apart, ImageFormat.JPEG),
    }


def in_turns(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median milliseconds of this thread's CPU time."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start_s = time.thread_time()
            run()
            taken[name].append((time.thread_time() - start_s) * 1e3)
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200, help="of each (default: 200)")
    repeats = parser.parse_args().repeats
    memory.tune_malloc()
    torch.set_num_threads(1)
    figures: dict[str, dict[str, float]] = {}
    with torch.inference_mode():
        for pixel_format in PixelFormat:
            ways = conversions(camera(pixel_format)) | rest(camera(pixel_format))
            figures[pixel_format.name] = in_turns(ways, repeats)
    print(f"CPU ms of a frame of {WIDTH}x{HEIGHT}, one thread")
    for part in figures["I420"]:
        print(f"{part:>22}  " + "  ".join(f"{name} {row[part]:5.2f}" for name, row in figures.items()))
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
