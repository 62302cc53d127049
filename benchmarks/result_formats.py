"""What do JPEG and WebP cost the text detector, and how large are they? Chooses the defaults of common/packing.py.

    python benchmarks/result_formats.py DATA [--receipts 12] [--plates 12]

Bright receipts are darkened to a mean near 15 with sensor noise, and lit again by their gain; real dark
photographs of plates are lit to a mean of 110. What a cloud node would send back is encoded in each way, decoded,
and shown to the detector. Receipts: H-mean against the true boxes at IoU 0.5. Both: agreement, the H-mean against
what the detector finds in the lossless picture. Writes benchmarks/results/result_formats.json.
"""

import argparse
import csv
import io
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common.packing import DEFAULT_QUALITY, JPEG_SUBSAMPLING, WEBP_METHOD
from common.polygons import match
from common.text_detection import create_detector

RESULTS = Path(__file__).parent / "results" / "result_formats.json"
EXPOSURE, NOISE = 0.08, 1.0  # of the darkened receipts; noise in levels, before the gain
VARIANTS: dict[str, tuple[str, dict]] = {
    "png": ("PNG", {"compress_level": 1}),
    **{
        f"jpeg {quality} {chroma}": ("JPEG", {"quality": quality, "subsampling": chroma})
        for quality in (75, 85, 90, 95)
        for chroma in ("4:2:0", "4:4:4")
    },
    **{f"webp {quality}": ("WEBP", {"quality": quality, "method": WEBP_METHOD}) for quality in (75, 90)},
}


@dataclass
class Score:
    """Of one variant: boxes matched, found and wanted, summed over pictures."""

    bytes: int = 0
    encode_ms: float = 0.0
    receipts: tuple[int, int, int] = (0, 0, 0)
    agreement: tuple[int, int, int] = (0, 0, 0)
    pictures: int = 0


def h_mean(counts: tuple[int, int, int]) -> float:
    matched, found, wanted = counts
    return 2 * matched / (found + wanted) if found + wanted else 1.0


def add(counts: tuple[int, int, int], found: list, wanted: list) -> tuple[int, int, int]:
    return counts[0] + len(match(found, wanted)), counts[1] + len(found), counts[2] + len(wanted)


def receipts(folder: Path, count: int, rng: np.random.Generator):
    """Darkened and lit receipts with their true boxes, 640 pixels wide at most."""
    for path in sorted((folder / "images").glob("*.jpg"))[:count]:
        image = Image.open(path).convert("RGB")
        scale = min(1.0, 640 / image.width)
        bright = np.asarray(image.resize((round(image.width * scale), round(image.height * scale))), np.float32)
        dark = np.clip(np.rint(bright * EXPOSURE + rng.normal(0, NOISE, bright.shape)), 0, 255)
        boxes = []
        for line in (folder / "gt" / f"{path.stem}.txt").read_text().splitlines():
            numbers = np.array(line.split(",")[:8], np.float64).reshape(4, 2) * scale
            boxes.append([tuple(point) for point in numbers])
        yield np.clip(dark / EXPOSURE, 0, 255).astype(np.uint8), boxes


def plates(folder: Path, count: int):
    """Real dark photographs, lit by a gain to a mean of 110, 600x400."""
    with open(folder / "luminance.csv") as file:
        names = [row["image"] for row in csv.DictReader(file) if row["dark"] == "1"]
    for name in names[:: max(1, len(names) // count)][:count]:
        image = Image.open(folder / "images" / name).convert("RGB").resize((600, 400), Image.Resampling.LANCZOS)
        rgb = np.asarray(image, np.float32)
        yield np.clip(rgb * (110 / rgb.mean()), 0, 255).astype(np.uint8), None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with receipts_sroie/ and plates_ro/")
    parser.add_argument("--receipts", type=int, default=12)
    parser.add_argument("--plates", type=int, default=12)
    arguments = parser.parse_args()
    for name in ("receipts_sroie", "plates_ro"):
        if not (arguments.data / name).is_dir():
            sys.exit(f"no {name} in {arguments.data}: give the folder that holds it")

    rng = np.random.default_rng(0)
    pictures = [
        *receipts(arguments.data / "receipts_sroie", arguments.receipts, rng),
        *plates(arguments.data / "plates_ro", arguments.plates),
    ]
    detector = create_detector("dbnet")
    scores = {name: Score() for name in VARIANTS}
    for rgb, truth in pictures:
        reference: list = []
        for name, (image_format, options) in VARIANTS.items():
            file = io.BytesIO()
            started = time.thread_time()
            Image.fromarray(rgb).save(file, image_format, **options)
            score = scores[name]
            score.encode_ms += (time.thread_time() - started) * 1e3
            score.bytes += file.tell()
            score.pictures += 1
            found = list(detector.detect(np.asarray(Image.open(file).convert("RGB"))))
            reference = reference if name != "png" else found
            score.agreement = add(score.agreement, found, reference)
            if truth is not None:
                score.receipts = add(score.receipts, found, truth)

    print(f"{len(pictures)} pictures; default: quality {DEFAULT_QUALITY}, JPEG {JPEG_SUBSAMPLING}")
    print(f"{'':16}{'kB':>8}{'ms':>8}{'H receipts':>12}{'agreement':>12}")
    for name, score in scores.items():
        kilobytes, ms = score.bytes / score.pictures / 1e3, score.encode_ms / score.pictures
        print(f"{name:16}{kilobytes:8.1f}{ms:8.2f}{h_mean(score.receipts):12.3f}{h_mean(score.agreement):12.3f}")
    RESULTS.parent.mkdir(exist_ok=True)
    table = {
        name: asdict(score) | {"h_mean": h_mean(score.receipts), "agreement_h_mean": h_mean(score.agreement)}
        for name, score in scores.items()
    }
    RESULTS.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
