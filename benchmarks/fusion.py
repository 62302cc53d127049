"""Fusion in time on bursts with known truth: text found after the enhancer, PSNR, bytes, ghosts, cost.

    python benchmarks/fusion.py --data DATA                  # receipts_sroie under DATA; 10 to 20 minutes
    python benchmarks/fusion.py --picture docs/images/fusion.jpg   # the picture of docs/fusion.md, from text drawn here

Receipts that training never saw, in 8 to 20 and in 40 to 120 times less light, on a phone's sensor of which each frame
is a JPEG; the camera stands still, or sways by up to 3 pixels, and a sheet of text moves through. Writes
benchmarks/results/fusion.json.
"""

import argparse
import json
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from bursts import Burst, burst, sheet_of
from fusion_alignment import SWAY, measure_alignments
from fusion_picture import draw

from cloud_node.evaluation.cases import DARKNESS, dark_receipts, read_image, thinned
from cloud_node.evaluation.detection import count
from cloud_node.evaluation.metrics import luma
from cloud_node.laegan import load
from common.color import to_rgb
from common.packing import pack
from common.pixels import PixelFormat, RawImage
from common.text_detection import DBNet
from edge_node.fusion import Fuser, planes_of
from edge_node.local_enhancer import LocalEnhancer

RESULTS = Path(__file__).resolve().parent / "results" / "fusion.json"
FRAMES = (1, 2, 4, 8, 16)
STROKE = 1.2  # sigma in pixels: errors finer than a stroke are noise, not ghosts


class Enhancers:
    def __init__(self) -> None:
        self._cloud, self._edge = load("fast"), LocalEnhancer(threads=1)
        self._detector = DBNet(threads=1)

    def cloud(self, rgb: np.ndarray) -> np.ndarray:
        """`fast`, from uint8 or from float levels."""
        with torch.inference_mode():
            lit = self._cloud(torch.from_numpy(rgb.astype(np.float32)).movedim(-1, 0)[None] / 255)
        return (lit[0].movedim(0, -1).numpy() * 255 + 0.5).clip(0, 255).astype(np.uint8)

    def edge(self, rgb: np.ndarray) -> np.ndarray:
        return self._edge.enhance(rgb)

    def counts(self, lit: np.ndarray, truth: Any) -> np.ndarray:
        found = count(self._detector.detect(lit), truth)
        return np.array([found.found, found.right, found.truth])


def fused(frames: list[RawImage], number: int) -> tuple[RawImage, Fuser]:
    fuser = Fuser(number)
    for frame in frames[-number:]:
        out = fuser.add(frame)
    return out, fuser


def at_offset(image: np.ndarray, fuser: Fuser) -> np.ndarray:
    """The image where the fused one stands: up to half a pixel from the newest frame."""
    matrix = np.array([[1, 0, fuser.offset[0]], [0, 1, fuser.offset[1]]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, matrix, image.shape[1::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


def ghost(luma: np.ndarray, clean: np.ndarray, where: np.ndarray) -> float:
    """RMS error in levels where something moved, as coarse as the strokes of letters."""
    error = cv2.GaussianBlur(luma.astype(np.float32) - clean.astype(np.float32), (0, 0), STROKE)
    return float(np.sqrt(np.mean(error[where] ** 2)))


def measure_scene(scene: Burst, truth: Any, enhancers: Enhancers, numbers: tuple[int, ...]) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for number in numbers:
        out, fuser = fused(scene.frames, number)
        rgb = to_rgb(out)
        rows[str(number)] = {
            "cloud": enhancers.counts(enhancers.cloud(rgb), truth),
            "edge": enhancers.counts(enhancers.edge(rgb), truth),
            "psnr": psnr(rgb, at_offset(scene.clean, fuser)),
            "bytes": len(pack(out).payload),
            "merged": fuser.merged,
        }
    return rows


def measure_moving(scene: Burst, numbers: tuple[int, ...]) -> dict[str, Any]:
    """Errors where the sheet was: of the fused frame, of the newest alone, of a plain mean."""
    rows: dict[str, Any] = {}
    for number in numbers:
        out, fuser = fused(scene.frames, number)
        clean = luma(at_offset(scene.clean, fuser))
        newest = at_offset(planes_of(scene.frames[-1])[0].astype(np.float32), fuser)
        mean = np.mean([planes_of(frame)[0] for frame in scene.frames[-number:]], axis=0, dtype=np.float32)
        rows[str(number)] = {
            "fused": ghost(planes_of(out)[0], clean, scene.moved),
            "newest": ghost(newest, clean, scene.moved),
            "mean": ghost(mean, luma(scene.clean), scene.moved),
        }
    return rows


def float_levels(fuser: Fuser) -> np.ndarray:
    """The fused frame before it is rounded to bytes, as RGB."""
    y, u, v = (plane.levels for plane in fuser._planes)
    u, v = (cv2.resize(plane, y.shape[::-1], interpolation=cv2.INTER_NEAREST) - 128 for plane in (u, v))
    return np.stack([y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u], axis=-1).clip(0, 255)


def cost_ms(sway: int, frames: int = 40) -> dict[str, float]:
    """Milliseconds of CPU time that one frame of 1280x720 4:2:0 takes, on one thread."""
    rng = np.random.default_rng(0)
    page = cv2.GaussianBlur(rng.random((800, 1360), np.float32), (0, 0), 2)
    page = 8 + 30 * (page - page.min()) / np.ptp(page)
    fuser, taken = Fuser(8), []
    for _ in range(frames):
        right, down = rng.integers(0, 2 * sway + 1, 2)
        y = page[down : down + 720, right : right + 1280] + rng.normal(0, 3, (720, 1280))
        data = np.concatenate([y.reshape(-1), rng.normal(128, 2, 720 * 640)]).clip(0, 255).astype(np.uint8)
        image = RawImage(data, 1280, 720, PixelFormat.I420)
        start = time.thread_time()
        fuser.add(image)
        taken.append((time.thread_time() - start) * 1e3)
    return {"least": min(taken[1:]), "median": float(np.median(taken[1:]))}


def h_mean(counts: list[np.ndarray]) -> float:
    found, right, truth = np.sum(counts, axis=0)
    return float(2 * right / max(1, found + truth))


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts over all receipts, and means of the rest."""
    table: dict[str, Any] = {}
    for number in rows[0]:
        values = [row[number] for row in rows]
        table[number] = {
            key: round(h_mean([one[key] for one in values]) if key in ("cloud", "edge", "float")
                       else float(np.mean([one[key] for one in values])), 3)
            for key in values[0]
        }  # fmt: skip
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds receipts_sroie")
    parser.add_argument("--limit", type=int, default=8, help="receipts, evenly spread (default: 8)")
    parser.add_argument("--dark", default="", help="only this set: 8-20x or 40-120x (default: both)")
    parser.add_argument("--alignment", action="store_true", help="measure cost and alignment anew, and keep the rest")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the picture of docs/fusion.md, and no more")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if given.picture:
        draw(given.picture)
        return
    if given.data is None:
        parser.error("--data or --picture is needed")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    names = [name for name in DARKNESS if name.endswith(given.dark)]
    results["cpu ms per frame of 1280x720"] = {"still": cost_ms(0), "swaying": cost_ms(3)}
    print(json.dumps(results["cpu ms per frame of 1280x720"], indent=1), flush=True)
    enhancers = None if given.alignment else Enhancers()
    for name in names:
        if enhancers is not None:
            results[name] = measure_set(name, given.data, given.limit, enhancers)
        results.setdefault(name, {})["alignment, pixels"] = measure_alignments(name, given.data, given.limit)
        print(name, json.dumps(results[name], indent=1), flush=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def measure_set(name: str, data: Path, limit: int, enhancers: Enhancers) -> dict[str, Any]:
    cases, folder = thinned(dark_receipts(name, data).cases, limit), data / "receipts_sroie" / "images"
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for seed, case in enumerate(cases):
        bright, truth = read_image(folder / case.name), case.read().truth
        make = partial(burst, bright, seed, DARKNESS[name], max(FRAMES))
        swaying, still = make(sway_pixels=SWAY), make()
        rows["swaying"].append(measure_scene(swaying, truth, enhancers, FRAMES))
        rows["still"].append(measure_scene(still, truth, enhancers, (1, 8)))
        out = fused(still.frames, 8)[1]
        rows["still"][-1]["8"]["float"] = enhancers.counts(enhancers.cloud(float_levels(out)), truth)
        rows["still"][-1]["1"]["float"] = rows["still"][-1]["1"]["cloud"]
        moving = make(sway_pixels=SWAY, sheet=sheet_of(read_image(folder / cases[seed - 1].name)))
        rows["moving sheet"].append(measure_moving(moving, FRAMES))
        print(f"{name}: {seed + 1} of {len(cases)}", flush=True)
    table: dict[str, Any] = {scene: summary(found) for scene, found in rows.items()}
    table["receipts"] = len(cases)
    return table


if __name__ == "__main__":
    main()
