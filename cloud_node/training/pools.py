"""The photographs that training may see, and the one rule that keeps evaluation apart from them.

The default weights learn only from pools whose licence allows commercial use. Pools are folders by name under
the data folder; what else lies there is not touched.
"""

import csv
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

SUFFIXES = (".jpg", ".jpeg", ".png")
LONGEST_SIDE = 1280  # pixels; larger photographs are reduced, memory holds them all
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels

# Photographs that come inside packages' wheels: (package, folder in it, names). CC0 or public domain. The others there
# are the demo's (deploy/demo/make_clip.py), which training must not have seen.
PACKAGED = (("skimage", "data", ("astronaut.png", "grass.png")),)
SHARES = {"receipts_sroie": 0.25, "plates_ro": 0.35, "scene_text": 0.3, "photographs": 0.1}


class DataError(RuntimeError):
    """The data folder cannot be trained on; the message names the folder or file and what is wrong with it."""


@dataclass(frozen=True)
class Photo:
    rgb: np.ndarray  # (H, W, 3) uint8
    boxes: tuple[Box, ...] = ()  # where text is known to stand


@dataclass(frozen=True)
class Pool:
    name: str
    share: float  # of the samples drawn
    photos: list[Photo] = field(repr=False)


def split(pool: str, paths: Iterable[Path], dark: frozenset[str] = frozenset()) -> tuple[list[Path], list[Path]]:
    """(training, evaluation) of a pool's files; scenes never stand in both.

    receipts_sroie: the last 30 are evaluation. plates_ro: the really dark ones and the last third of the rest
    (frames of one drive, in order) are. scene_text: the last third of each folder is. Others: all training.
    """
    ordered = sorted(paths)
    if pool == "receipts_sroie":
        return ordered[:-30], ordered[-30:]
    if pool == "plates_ro":
        bright = [path for path in ordered if path.name not in dark]
        cut = len(bright) - len(bright) // 3
        return bright[:cut], bright[cut:] + [path for path in ordered if path.name in dark]
    if pool == "scene_text":
        train: list[Path] = []
        evaluation: list[Path] = []
        for folder in sorted({path.parent for path in ordered}):
            inside = [path for path in ordered if path.parent == folder]
            cut = len(inside) - len(inside) // 3
            train, evaluation = train + inside[:cut], evaluation + inside[cut:]
        return train, evaluation
    return ordered, []


def files(data: Path, pool: str) -> tuple[list[Path], list[Path]]:
    """(training, evaluation) files of a pool under the data folder; both empty where the pool is absent."""
    folder = data / pool
    paths = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]
    if pool == "scene_text":  # single words and letters are no scenes
        paths = [path for path in paths if not any(part in path.name for part in ("word", "char"))]
    dark: frozenset[str] = frozenset()
    if (folder / "luminance.csv").exists():
        with (folder / "luminance.csv").open() as file:
            dark = frozenset(row["image"] for row in csv.DictReader(file) if row["dark"] == "1")
    return split(pool, paths, dark)


def read(path: Path) -> Photo:
    """A photograph with its text boxes, from ../gt/NAME.txt where it exists. DataError for a broken file."""
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{path} is no image that can be read: {error}") from error
    scale = min(1.0, LONGEST_SIDE / max(image.size))
    if scale < 1:
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BOX)
    if min(image.size) < 32:
        raise DataError(f"{path} is too small to train on: {image.width}x{image.height}, at least 32x32 is needed")
    boxes = []
    gt = path.parent.parent / "gt" / f"{path.stem}.txt"
    if gt.exists():
        for line in gt.read_text(encoding="utf-8-sig", errors="replace").splitlines():
            if len(values := line.split(",")) >= 8:
                xs, ys = [float(v) * scale for v in values[0:8:2]], [float(v) * scale for v in values[1:8:2]]
                boxes.append((min(xs), min(ys), max(xs), max(ys)))
    return Photo(np.asarray(image), tuple(boxes))


def normal_light(rgb: np.ndarray) -> np.ndarray:
    """A photograph as a target to learn from: (H, W, 3) uint8, neutral and lit, mean luma at least 0.42.

    A pool's cast would become the network's (one dash camera's frames are violet), and a dim target would teach
    it to leave things dim. Grey-world gains go 70 % of the way, at most 1.3; a power lifts what is dim.
    """
    image = rgb.astype(np.float32) / 255
    means = image.reshape(-1, 3).mean(axis=0) + 1e-3
    image = np.clip(image * np.clip((means.mean() / means) ** 0.7, 1 / 1.3, 1.3), 0, 1)
    level = float((image @ np.array([0.299, 0.587, 0.114], np.float32)).mean())
    if 0.02 < level < 0.42:
        image = image ** max(0.45, np.log(0.42) / np.log(level))
    return np.round(image * 255).astype(np.uint8)


def training_pools(data: Path) -> list[Pool]:
    """Every pool's training photographs in memory. A folder of plain images, with no known pool, is one pool.

    Raises DataError when there is nothing to train on, or for a file that cannot be read.
    """
    if not data.is_dir():
        raise DataError(f"there is no data folder {data}")
    found = {name: files(data, name)[0] for name in SHARES}
    if any(found.values()):
        found["photographs"] += _packaged()
    else:
        found = {"photographs": sorted(path for path in data.iterdir() if path.suffix.lower() in SUFFIXES)}
    pools = [Pool(name, SHARES[name], [_target(path) for path in paths]) for name, paths in found.items() if paths]
    if not pools:
        raise DataError(f"{data} holds no images ({', '.join(SUFFIXES)}) and no pool ({', '.join(SHARES)})")
    return pools


def _target(path: Path) -> Photo:
    photo = read(path)
    return Photo(normal_light(photo.rgb), photo.boxes)


def _packaged() -> list[Path]:
    paths = []
    for package, folder, names in PACKAGED:
        spec = importlib.util.find_spec(package)
        if spec and spec.origin:
            paths += [Path(spec.origin).parent / folder / name for name in names]
    return [path for path in paths if path.exists()]
