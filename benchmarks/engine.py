"""The engine alone: its ways to run a network, its batches, and how close it comes to what the device can do.

    python benchmarks/engine.py                      # the CPU: backends, batches, its own cost, a frame of 8K
    python benchmarks/engine.py --device cuda:0 --presets fast,reference,edge

A preset that has no trained weights yet runs on random ones: its speed is the same.
Backends run in turns within one run, so that a change of load falls on all of them: compare ratios. Their quality is
the difference from fp32 in levels of 255, on a dark photograph. Writes benchmarks/results/engine.json, what is not
measured this time stays as it was.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from skimage import data

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "proto")]

from benchmarks.roofline import load_of, speed_of  # noqa: E402
from cloud_node import backends, laegan  # noqa: E402
from cloud_node.color import Form, tensor_of  # noqa: E402
from cloud_node.engine import Engine  # noqa: E402
from cloud_node.laegan.presets import PRESETS  # noqa: E402
from common.pixels import PixelFormat, RawImage, content_size  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "engine.json"
SIZES = ((600, 400), (1280, 720), (1616, 1080))
BATCHES = {"cuda": (1, 2, 4, 8, 16, 32), "cpu": (1, 2, 4)}  # a CPU gains nothing from more
ROOFLINE_BATCH = 16


def night(width: int, height: int) -> RawImage:
    """A dark, noisy photograph."""
    photo = np.tile(data.astronaut(), (math.ceil(height / 512), math.ceil(width / 512), 1))[:height, :width]
    noise = np.random.default_rng(0).standard_normal(photo.shape, np.float32)
    return RawImage.from_rgb((photo / 12 + noise).clip(0, 255).astype(np.uint8))


def camera(width: int, height: int) -> RawImage:
    """A dark frame as a camera gives it, I420."""
    size = content_size(PixelFormat.I420, width, height)
    values = np.random.default_rng(0).integers(0, 40, size, np.uint8)
    values[width * height :] = 128
    return RawImage(values, width, height, PixelFormat.I420)


def in_turns(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median milliseconds of this process's CPU time of each; on a busy machine they say more than a clock on the wall,
    and with one thread they are the same on an idle one.
    """
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start_s = time.process_time()
            run()
            taken[name].append((time.process_time() - start_s) * 1e3)
    return {name: statistics.median(times) for name, times in taken.items()}


def compare_backends(threads: int, sizes: tuple[tuple[int, int], ...], repeats: int, compiled: bool) -> dict:
    names = [name for name in backends.BACKENDS if compiled or name != "compiled"]
    engines = {name: Engine(torch.device("cpu"), "fast", threads=threads, backend=name) for name in names}
    table: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        runtime = OnnxRuntime(Path(folder) / "fast.onnx", threads)
        for width, height in sizes:
            image, frame = night(width, height), None
            runs: dict[str, Callable[[], object]] = {}
            quality: dict[str, tuple[float, float]] = {}
            for name, engine in engines.items():
                engine.prepare([image])
                lit = engine.enhance([image])[0].rgb.astype(int)
                frame = lit if frame is None else frame  # fp32 comes first
                quality[name] = (float(np.abs(lit - frame).max()), float(np.abs(lit - frame).mean()))
                runs[name] = lambda engine=engine, image=image: engine.enhance([image])
            lit = runtime(image).astype(int)
            quality["onnxruntime"] = (float(np.abs(lit - frame).max()), float(np.abs(lit - frame).mean()))
            runs["onnxruntime"] = lambda image=image: runtime(image)
            times = in_turns(runs, repeats)
            print(f"\n{width}x{height}, preset fast, {threads} thread(s)")
            print(f"{'backend':>12} {'ms':>8} {'to fp32':>8} {'largest':>8} {'mean difference, levels':>24}")
            table[f"{width}x{height}"] = {}
            for name, ms in times.items():
                most, mean = quality[name]
                print(f"{name:>12} {ms:8.1f} {ms / times['fp32']:8.2f} {most:8.0f} {mean:24.3f}")
                row = {"ms": ms, "ratio": ms / times["fp32"], "largest_levels": most, "mean_levels": mean}
                table[f"{width}x{height}"][name] = row
    return table


class OnnxRuntime:
    """The same work with the network's body on ONNX Runtime, to compare with; not a backend of the node, as it has no
    bfloat16 on x86, and the export asks for packages that a node does without.
    """

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        self._network = laegan.load("fast")
        example, free = torch.rand(1, 3, 64, 80), {0: "b", 2: "h", 3: "w"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(  # torch 2.13's newer exporter gives other values for this network
                self._network.body,
                (example, example),
                path,
                input_names=["pre", "low"],
                dynamic_axes={"pre": free, "low": free},
                dynamo=False,
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

        class Body(torch.nn.Module):
            def forward(self, pre: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
                [residual] = session.run(None, {"pre": pre.numpy(), "low": low.numpy()})
                return torch.from_numpy(residual)

        self._network.body = Body()

    @torch.inference_mode()
    def __call__(self, image: RawImage) -> np.ndarray:
        rgb, _ = backends.light(self._network, tensor_of(image)[None], Form.of(image))
        return rgb[0].numpy()


def own_cost(threads: int, repeats: int) -> dict:
    """What the engine takes beside the network, which does nothing here."""
    engine = Engine(torch.device("cpu"), "none", threads=threads)
    images = {"I420": camera(600, 400), "RGB24": night(600, 400)}
    times = in_turns({name: lambda image=image: engine.enhance([image]) for name, image in images.items()}, repeats)
    print("\nbeside the network, 600x400: " + ", ".join(f"{name} {ms:.2f} ms" for name, ms in times.items()))
    return times


def batches(engine: Engine, quick: bool) -> dict:
    """Frames a second by size and batch, two batches in flight."""
    table: dict = {}
    print(f"\n{engine.model} on {engine.device}, frames/s by batch")
    for width, height in SIZES[:1] if quick else SIZES:
        row = {}
        for count in BATCHES[engine.device.type][: 2 if quick else None]:
            images = [camera(width, height)] * count
            engine.prepare(images)
            row[str(count)] = count / seconds_a_batch(engine, images, 2 if quick else 20)
        table[f"{width}x{height}"] = row
        print(f"{width}x{height}: " + ", ".join(f"{count}: {rate:.1f}" for count, rate in row.items()))
    return table


def seconds_a_batch(engine: Engine, images: list[RawImage], most: int, budget_s: float = 10.0) -> float:
    """With the next batch submitted before the last is taken."""
    start_s, done = time.perf_counter(), 0
    pending = engine.submit(images)
    while done < most and (done < 2 or time.perf_counter() - start_s < budget_s):
        following = engine.submit(images)
        pending.result()
        pending, done = following, done + 1
    pending.result()
    return (time.perf_counter() - start_s) / (done + 1)


def gpu(engine: Engine) -> dict:
    """The time of a frame against the roofline, and what the copies cost, in batches of 16."""
    [model], device = engine._models.values(), engine.device
    dtype = next(model.network.parameters()).dtype
    speed = speed_of(device, dtype)
    print(f"\n{engine.model}: {speed.operations / 1e12:.1f} Top/s in products, {speed.bytes / 1e9:.0f} GB/s in copies")
    table: dict = {}
    for width, height in SIZES:
        images = [camera(width, height)] * ROOFLINE_BATCH
        engine.prepare(images)
        whole_s = seconds_a_batch(engine, images, 50) / ROOFLINE_BATCH
        raw, form = torch.stack([tensor_of(image) for image in images]).to(device), Form.of(images[0])
        with torch.inference_mode(), torch.cuda.stream(engine._lanes._compute):
            computed_s = computing_s(lambda raw=raw, form=form: model.step(raw, form)) / ROOFLINE_BATCH
        least_s = speed.seconds(load_of(model.network, width, height, dtype.itemsize))
        row = {
            "frame_ms": whole_s * 1e3,
            "computing_ms": computed_s * 1e3,
            "copies_share": max(0.0, 1 - computed_s / whole_s),
            "roofline_ms": least_s * 1e3,
            "times_roofline": computed_s / least_s,
        }
        table[f"{width}x{height}"] = row
        print(
            f"{width}x{height}: {row['frame_ms']:.3f} ms a frame, {row['computing_ms']:.3f} of them computing (copies "
            f"{row['copies_share']:.1%}), roofline {row['roofline_ms']:.3f} ms: {row['times_roofline']:.1f} times it"
        )
    return table


def computing_s(run: Callable[[], object], repeats: int = 30) -> float:
    """Seconds of a step on the current stream."""
    for _ in range(3):
        run()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repeats):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / repeats


def eight_k() -> None:
    """In a process of its own: a frame of 8K, and the most memory that it took."""
    engine = Engine(torch.device("cpu"), "fast", threads=1)
    engine.enhance([night(64, 64)])
    image = camera(7680, 4320)
    before = peak_mib()
    start_s = time.perf_counter()
    assert engine.enhance([image])[0].finite
    print(json.dumps({"before_mib": before, "peak_mib": peak_mib(), "s": time.perf_counter() - start_s}))


def peak_mib() -> float:
    """The most memory that this process had; Linux. (`getrusage` counts what its parent had before it.)"""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def weights_of(preset: str) -> Path | None:
    """Random ones for a preset that has none."""
    if preset == backends.NONE or (laegan.weights_files.COMMITTED / f"{preset}.safetensors").exists():
        return None
    path = Path(tempfile.mkdtemp()) / f"{preset}.safetensors"
    torch.manual_seed(0)
    laegan.save(laegan.create(preset), preset, path, f"{preset}-untrained", 0)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0 (default: cpu)")
    parser.add_argument("--presets", default="fast", help="with commas (default: fast)")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU (default: 1)")
    parser.add_argument("--compiled", action="store_true", help="torch.compile among the backends: takes minutes")
    parser.add_argument("--quick", action="store_true", help="one size, two batches, few repeats")
    parser.add_argument("--eight-k", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.eight_k:
        return eight_k()
    device, quick = torch.device(given.device), given.quick
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    report: dict = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    mine = report.setdefault(f"{name}, {given.threads} thread(s)" if device.type == "cpu" else name, {})
    mine["torch"] = torch.__version__

    def keep(part: str, figures: dict) -> None:
        mine[part] = figures
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(report, indent=1) + "\n")

    if device.type == "cpu":
        sizes = SIZES[:1] if quick else (SIZES[0], SIZES[-1])
        keep("backends", compare_backends(given.threads, sizes, 3 if quick else 9, given.compiled))
        keep("own_ms", own_cost(given.threads, 50 if quick else 200))
        if not quick:
            child = subprocess.run([sys.executable, __file__, "--eight-k"], check=True, capture_output=True, text=True)
            keep("7680x4320", json.loads(child.stdout.splitlines()[-1]))
            print(f"\n7680x4320 in tiles: {mine['7680x4320']}")
    for preset in given.presets.split(","):
        if preset not in (*PRESETS, backends.NONE):
            parser.error(f"--presets {preset}: there are {', '.join(PRESETS)}")
        engine = Engine(device, preset, weights_of(preset), threads=given.threads)
        keep("frames_per_s", mine.get("frames_per_s", {}) | {preset: batches(engine, quick)})
        if device.type == "cuda" and preset != backends.NONE:
            keep("roofline", mine.get("roofline", {}) | {preset: gpu(engine)})


def cpu_name() -> str:
    return str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or f"{os.cpu_count()} cores")


if __name__ == "__main__":
    main()
