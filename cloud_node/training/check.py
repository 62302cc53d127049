"""Is the network better than what needs no network? A small table on frames that training never saw.

    python -m cloud_node.training.check --data DATA [--weights runs/fast/fast.safetensors]

receipts: held-out scans, darkened 8-20x and 40-120x with a camera that training never saw; text lines found
(H-mean, IoU > 0.5). plates: real street photographs, dark and bright; share of number plates found. pairs: real
low/normal photographs; PSNR. Sets that are absent are left out with a word.
"""

import argparse
import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from cloud_node.laegan import LAEGAN, PRESETS, load
from cloud_node.training.darkness import CAMERAS, EVALUATION_CAMERA, record, to_linear, to_srgb
from cloud_node.training.pools import files
from common.text_detection import DBNet, Polygon, TextDetector, match

Method = Callable[[np.ndarray], np.ndarray]  # (H, W, 3) uint8 -> the same
LIGHT = {"8-20x": (8.0, 20.0), "40-120x": (40.0, 120.0)}


def methods(model: LAEGAN) -> dict[str, Method]:
    """What is compared, by name."""

    def run(part: Callable[[torch.Tensor], torch.Tensor]) -> Method:
        def apply(rgb: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                out = part(torch.from_numpy(rgb.copy()).movedim(-1, 0)[None].float() / 255)
            return (out[0].movedim(0, -1) * 255).round().byte().numpy()

        return apply

    return {
        "raw": lambda rgb: rgb,
        "gain to mean 0.4": gain,
        "Zero-DCE stage": run(model.pre_enhance),
        "LAE-GAN": run(model),
    }


def gain(rgb: np.ndarray, level: float = 0.4) -> np.ndarray:
    """One factor for the whole frame, in sRGB, that brings its mean to `level`; clips."""
    return np.round(np.clip(rgb * (level * 255 / max(1.0, float(rgb.mean()))), 0, 255)).astype(np.uint8)


def darkened(rgb: np.ndarray, seed: int, ratio: tuple[float, float]) -> np.ndarray:
    """The photograph as the evaluation camera would have recorded it in `ratio` times less light, uint8."""
    rng = np.random.default_rng(seed)
    light = to_linear(rgb / np.float32(255)) / np.float32(np.exp(rng.uniform(*np.log(ratio))))
    return np.round(to_srgb(record(light, CAMERAS[EVALUATION_CAMERA], rng)) * 255).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal to noise ratio of two uint8 images, in dB."""
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(np.float64) - b) ** 2))))


def hmean(found: int, right: int, truth: int) -> tuple[float, float, float]:
    """Precision, recall and their harmonic mean from corpus sums."""
    precision, recall = right / max(1, found), right / max(1, truth)
    return precision, recall, 2 * precision * recall / max(1e-9, precision + recall)


def polygons(path: Path) -> list[Polygon]:
    """Ground-truth outlines beside a photograph: ../gt/NAME.txt with x1,y1,...,x4,y4,text lines."""
    lines = (path.parent.parent / "gt" / f"{path.stem}.txt").read_text(errors="replace").splitlines()
    rows = [[float(v) for v in line.split(",")[:8]] for line in lines if line.count(",") >= 7]
    return [list(zip(row[0::2], row[1::2], strict=True)) for row in rows]


def detection(
    name: str, cases: Sequence[tuple[np.ndarray, list[Polygon]]], ways: dict[str, Method], detector: TextDetector
) -> dict[str, tuple[float, float, float]]:
    """Precision, recall and H-mean of each method over frames and their outlines."""
    counts = {way: np.zeros(3, int) for way in ways}
    for rgb, truth in tqdm(cases, desc=name, leave=False):
        for way, method in ways.items():
            found = detector.detect(method(rgb))
            counts[way] += (len(found), len(match(found, truth)), len(truth))
    return {way: hmean(*(int(n) for n in count)) for way, count in counts.items()}


def pairs(folder: Path, limit: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Every n-th (low, normal) pair of pairs.csv, so that about `limit` are taken."""
    with (folder / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    rows = rows[:: max(1, len(rows) // limit)]
    return [(_read(folder / "images" / row["low"]), _read(folder / "images" / row["normal"])) for row in rows]


def main(arguments: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(
        prog="python -m cloud_node.training.check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with the pools")
    p.add_argument("--preset", choices=list(PRESETS), default="fast")
    p.add_argument("--weights", type=Path, metavar="FILE", help="weights to measure (default: the committed ones)")
    p.add_argument("--images", type=int, default=30, help="at most so many of each set (default: 30)")
    p.add_argument("--threads", type=int, default=2)
    args = p.parse_args(arguments)
    torch.set_num_threads(args.threads)
    ways = methods(load(args.preset, args.weights))
    detector = DBNet(threads=args.threads)
    columns: dict[str, dict[str, str]] = {}

    receipts = files(args.data, "receipts_sroie")[1][: args.images]
    for light, ratio in LIGHT.items() if receipts else ():
        cases = [(darkened(_read(path), seed, ratio), polygons(path)) for seed, path in enumerate(receipts)]
        rows = detection(f"receipts {light}", cases, ways, detector)
        columns[f"receipts {light} H-mean (P/R), n={len(cases)}"] = {
            way: f"{h:.3f} ({precision:.2f}/{recall:.2f})" for way, (precision, recall, h) in rows.items()
        }
    plates = [path for path in files(args.data, "plates_ro")[1] if polygons(path)]
    plates = plates[:: max(1, len(plates) // args.images)][: args.images]
    if plates:
        rows = detection("plates", [(_read(path), polygons(path)) for path in plates], ways, detector)
        columns[f"plates recall, n={len(plates)}"] = {way: f"{recall:.3f}" for way, (_, recall, _) in rows.items()}
    if (args.data / "sice512" / "pairs.csv").exists():
        real = pairs(args.data / "sice512", args.images)
        columns[f"real pairs PSNR, n={len(real)}"] = {
            way: f"{np.mean([psnr(method(low), normal) for low, normal in real]):.2f}" for way, method in ways.items()
        }

    if not columns:
        print(f"nothing to measure on in {args.data}: no receipts_sroie, plates_ro or sice512")
        return 2
    print("| method | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for way in ways:
        print(f"| {way} | " + " | ".join(values[way] for values in columns.values()) + " |")
    return 0


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


if __name__ == "__main__":
    raise SystemExit(main())
