"""How small and how fast are packed camera frames, next to WebP lossless and PNG?

    python benchmarks/packing.py DATA/dicm [FOLDER ...] [--limit 70]

Each photograph of a folder is scaled to 600x400 and converted by FFmpeg to I420 (limited range, BT.601), as a
camera or a video file gives it. Peers, by Pillow: WebP lossless (method 4) of the same planes stacked as one grey
image, WebP lossless and PNG of the RGB image. With a file luminance.csv beside the folder only the photographs
that it calls dark are taken. Prints sums of bytes, and medians of CPU time, which a busy machine stretches less than
the clock; writes benchmarks/results/packing.json.
"""

import argparse
import csv
import io
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from PIL import Image

from common.memory import tune_malloc
from common.packing import pack, to_rgb, unpack
from common.pixels import Bytes, ColorMatrix, ColorRange, PixelFormat, RawImage

WIDTH, HEIGHT = 600, 400
REPEATS, WARM_UP = 21, 3
RESULTS = Path(__file__).parent / "results" / "packing.json"


def photographs(folder: Path, limit: int) -> list[Path]:
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    listed = folder.parent / "luminance.csv"
    if listed.is_file():
        with open(listed) as file:
            dark = {row["image"] for row in csv.DictReader(file) if row["dark"] == "1"}
        paths = [path for path in paths if path.name in dark]
    return paths[:limit]


def camera_frame(path: Path) -> tuple[Bytes, RawImage]:
    """A photograph as (H, W, 3) RGB and as the I420 planes of a camera."""
    with Image.open(path) as image:
        rgb = np.asarray(image.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG")
    planes = [
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].reshape(-1)
        for plane in frame.planes
    ]
    raw = RawImage(np.concatenate(planes), WIDTH, HEIGHT, PixelFormat.I420, ColorRange.LIMITED, ColorMatrix.BT601)
    return rgb, raw


def stacked(raw: RawImage) -> Bytes:
    """Y on top, U and V side by side below it, as one grey image."""
    y, u, v = (plane[:, :, 0] for plane in raw.planes)
    return np.vstack([y, np.hstack([u, v])])


def pillow(pixels: Bytes, image_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_format, **options)
    return file.getvalue()


def cpu_ms(work: Callable[[], object], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        started = time.thread_time_ns()
        work()
        times.append((time.thread_time_ns() - started) / 1e6)
    return times


def measure(paths: list[Path]) -> dict:
    frames = [camera_frame(path) for path in paths]
    for rgb, raw in frames[:WARM_UP]:
        pack(raw), to_rgb(unpack(pack(raw))), pillow(rgb, "WEBP", lossless=True, method=0)
    names = ("packed", "webp_grey", "webp_rgb", "png_rgb")
    sizes, encode, decode = Counter(), {name: [] for name in names}, {name: [] for name in names}
    filters, unpack_best, to_rgb_ms = Counter(), [], []
    for rgb, raw in frames:
        packed, planes = pack(raw), stacked(raw)
        if not np.array_equal(unpack(packed).data, raw.data):
            sys.exit("unpacking did not give the planes back")
        filters[packed.filter.name] += 1
        ways: dict[str, tuple[Callable[[], bytes], int]] = {
            "packed": (lambda raw=raw: pack(raw).payload, REPEATS),
            "webp_grey": (lambda planes=planes: pillow(planes, "WEBP", lossless=True, method=4), 1),
            "webp_rgb": (lambda rgb=rgb: pillow(rgb, "WEBP", lossless=True, method=4), 1),
            "png_rgb": (lambda rgb=rgb: pillow(rgb, "PNG", compress_level=1), 3),
        }
        for name, (work, repeats) in ways.items():
            content = work()
            sizes[name] += len(content)
            encode[name].append(statistics.median(cpu_ms(work, repeats)))
            if name == "packed":
                times = cpu_ms(lambda packed=packed: unpack(packed), REPEATS)
                unpack_best.append(min(times))
            else:
                times = cpu_ms(lambda content=content: Image.open(io.BytesIO(content)).load(), 3)
            decode[name].append(statistics.median(times))
        to_rgb_ms.append(min(cpu_ms(lambda raw=raw: to_rgb(raw), REPEATS)))
    return {
        "frames": len(frames),
        "raw_bytes": sum(raw.data.size for _, raw in frames),
        "bytes": dict(sizes),
        "filters": dict(filters),
        "encode_ms": {name: statistics.median(times) for name, times in encode.items()},
        "decode_ms": {name: statistics.median(times) for name, times in decode.items()},
        "unpack_best_ms": statistics.median(unpack_best),
        "to_rgb_best_ms": statistics.median(to_rgb_ms),
        "packed_to_webp_grey": sizes["packed"] / sizes["webp_grey"],
        "packed_to_webp_rgb": sizes["packed"] / sizes["webp_rgb"],
    }


def show(folder: Path, result: dict) -> None:
    packed = result["bytes"]["packed"]
    print(f"\n{folder}: {result['frames']} frames {WIDTH}x{HEIGHT} I420, filters {result['filters']}")
    print(f"{'':12}{'kB/frame':>10}{'packed is':>12}{'encode ms':>12}{'packed is':>12}{'decode ms':>12}")
    for name, size in result["bytes"].items():
        encode, decode = result["encode_ms"][name], result["decode_ms"][name]
        faster = result["encode_ms"]["packed"] / encode
        print(
            f"{name:12}{size / result['frames'] / 1e3:10.1f}{packed / size:12.3f}"
            f"{encode:12.2f}{'1/%.1f' % (1 / faster):>12}{decode:12.2f}"
        )
    print(f"raw planes are packed to {packed / result['raw_bytes']:.3f}")
    print(f"best of {REPEATS}: unpack {result['unpack_best_ms']:.2f} ms, to_rgb {result['to_rgb_best_ms']:.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="photographs, JPEG or PNG")
    parser.add_argument("--limit", type=int, default=70, help="photographs per folder")
    arguments = parser.parse_args()
    tune_malloc()  # as both nodes do
    results = {}
    for folder in arguments.folders:
        paths = photographs(folder, arguments.limit) if folder.is_dir() else []
        if not paths:
            sys.exit(f"no photographs in {folder}: give a folder with JPEG or PNG files")
        name = folder.parent.name if folder.name == "images" else folder.name
        results[name] = measure(paths)
        show(folder, results[name])
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
