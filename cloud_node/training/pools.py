"""The photographs that training may see, and the one rule that keeps evaluation apart from them.

The default weights learn only from pools whose licence allows commercial use. Pools are folders by name under
the data folder; what else lies there is not touched.
"""

import csv
import importlib.util
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, overload

import numpy as np
from PIL import Image
from tqdm import tqdm

from cloud_node.training.images import SMALLEST, SUFFIXES, check, find_images, read_rgb
from cloud_node.training.images import DataError as DataError

LONGEST_SIDE = 1280  # pixels; larger photographs are reduced to it, or to SMALLEST high; memory holds them all
LAZY_ABOVE = 2000  # photographs, of up to 3 MB each; larger folders are read as they are drawn
KEPT = 256  # of a larger folder's photographs, in each process that reads
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels
Role = Literal["low", "normal"]

SHARES = {"receipts_sroie": 0.35, "plates_ro": 0.3, "scene_text": 0.25, "photographs": 0.1}
LICENCES = {  # of every pool that the split rule knows
    "receipts_sroie": "MIT",
    "plates_ro": "MIT",
    "scene_text": "Apache-2.0",
    "photographs": "CC0 or public domain, each named in PACKAGED",
    "sice512": "academic research, CC BY-NC 4.0",
    "dicm": "academic research, CC BY-NC 4.0",
}
NON_COMMERCIAL = frozenset({"sice512", "dicm"})  # never in SHARES: read only where they are named

PLATES_DRIVE = 1  # the one with dark frames; it goes from dusk, frame 20, to night, frame 1613
PLATES_TRAINING_TO = 1000  # frame; the drive leaves 936 and is next seen on a boulevard at 1054
PLATES_EVALUATION_FROM = 1124  # the middle one of the dark frames; one car is in sight from 1077 to 1131
SICE_TRAINING_TO = 984
SICE_EVALUATION_FROM = 1000  # scenes and images above it; from 986 on the numbers of some scenes interleave


class Packaged(NamedTuple):
    package: str
    path: str  # inside it
    licence: str


# Photographs that come inside packages' wheels, where those are installed. The others there are the demo's
# (deploy/demo/scenes.py), which training must not have seen, of no stated licence, or of no use (a retina).
PACKAGED = (
    Packaged("skimage", "data/astronaut.png", "public domain, NASA"),
    Packaged("skimage", "data/grass.png", "CC0 1.0, CC0 Textures"),
    Packaged("skimage", "data/text.png", "public domain, Wikipedia's Corner.png"),
    Packaged("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", "public domain, US Navy"),
)


@dataclass(frozen=True)
class Photo:
    rgb: np.ndarray  # (H, W, 3) uint8
    boxes: tuple[Box, ...] = ()  # where text is known to stand


class Photos(Sequence[Photo]):
    """Photographs that are read when they are asked for; those asked for last stay in memory."""

    def __init__(self, paths: Sequence[Path], load: Callable[[Path], Photo], keep: int = KEPT):
        self.paths, self.load, self.keep = paths, load, keep
        self._kept: OrderedDict[Path, Photo] = OrderedDict()

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Photo: ...
    @overload
    def __getitem__(self, index: slice) -> "Photos": ...
    def __getitem__(self, index: int | slice) -> "Photo | Photos":
        if isinstance(index, slice):
            return Photos(self.paths[index], self.load, self.keep)
        path = self.paths[index]
        photo = self._kept.pop(path, None) or self.load(path)
        self._kept[path] = photo
        if len(self._kept) > self.keep:
            self._kept.popitem(last=False)
        return photo


@dataclass(frozen=True)
class Pool:
    name: str
    share: float  # of the samples drawn
    photos: Sequence[Photo] = field(repr=False)


def split(pool: str, paths: Iterable[Path], dark: frozenset[str] = frozenset()) -> tuple[list[Path], list[Path]]:
    """(training, evaluation) of a pool's files; scenes never stand in both, and what lies between is in neither.

    receipts_sroie: the last 30 are evaluation. plates_ro: drive 1 up to frame 1000 is training, without its really
    dark frames (see dark_files); from 1124 on and all other drives are evaluation, bright before dark. scene_text:
    the last third of each folder is evaluation. sice512: images up to 984 are training, above 1000 evaluation.
    dicm: all evaluation. Others: all training.
    """
    ordered = sorted(paths)
    match pool:
        case "receipts_sroie":
            return ordered[:-30], ordered[-30:]
        case "plates_ro":
            train, evaluation = _drives(ordered)
            return [p for p in train if p.name not in dark], sorted(evaluation, key=lambda p: p.name in dark)
        case "scene_text":
            train, evaluation = [], []
            for folder in sorted({path.parent for path in ordered}):
                inside = [path for path in ordered if path.parent == folder]
                cut = len(inside) - len(inside) // 3
                train, evaluation = train + inside[:cut], evaluation + inside[cut:]
            return train, evaluation
        case "sice512":
            number = {path: int(path.stem) for path in ordered if path.stem.isdecimal()}
            ordered = sorted(number, key=number.__getitem__)
            train = [path for path in ordered if number[path] <= SICE_TRAINING_TO]
            return train, [path for path in ordered if number[path] > SICE_EVALUATION_FROM]
        case "dicm":
            return [], ordered
    return ordered, []


def files(data: Path, pool: str) -> tuple[list[Path], list[Path]]:
    """(training, evaluation) files of a pool under the data folder; both empty where the pool is absent."""
    paths = find_images(data / pool)
    if pool == "scene_text":  # single words and letters are no scenes
        paths = [path for path in paths if not any(part in path.name for part in ("word", "char"))]
    return split(pool, paths, _dark_names(data) if pool == "plates_ro" else frozenset())


def dark_files(data: Path) -> tuple[list[Path], list[Path]]:
    """(training, evaluation) of plates_ro's really dark frames, by time: real low light of a free licence.

    Both lie on the same side of the split's cut as the bright frames, so their streets and cars differ.
    """
    dark = _dark_names(data)
    return _drives([path for path in find_images(data / "plates_ro") if path.name in dark])


def sice_pairs(data: Path) -> list[tuple[Path, Path]]:
    """sice512's real (low, normal) pairs that are evaluation: those of scenes above 1000. Empty where it is absent."""
    table = data / "sice512" / "pairs.csv"
    if not table.exists():
        return []
    images = data / "sice512" / "images"
    with table.open() as file:
        rows = [row for row in csv.DictReader(file) if int(row["scene"]) > SICE_EVALUATION_FROM]
    return [(images / row["low"], images / row["normal"]) for row in rows]


def pool_of(path: Path) -> tuple[Path, str] | None:
    """(data folder, name) of the known pool that a file or folder lies in, through symbolic links too; else None."""
    for absolute in (Path(os.path.abspath(path)), path.resolve()):
        for folder in (absolute, *absolute.parents):
            if folder.name in LICENCES and folder.name != "photographs":
                return folder.parent, folder.name
    return None


def trainable(paths: Iterable[Path], role: Role = "normal") -> list[Path]:
    """The files without those of a known pool that are kept for evaluation, wherever the pool lies.

    role: plates_ro gives its bright frames as normal light and its really dark ones as low light.
    """
    return [path for path in paths if (pool := pool_of(path)) is None or path.resolve() in _training(*pool, role)]


def commercial(paths: Iterable[Path]) -> bool:
    """Whether none of the files lies in a pool that is known to be non-commercial; of unknown folders yes."""
    return not any((pool := pool_of(path)) and pool[1] in NON_COMMERCIAL for path in paths)


def read(path: Path) -> Photo:
    """A photograph with its text boxes, from ../gt/NAME.txt where it exists. DataError for a broken file."""
    image = Image.fromarray(read_rgb(path, half_size=True))
    scale = min(1.0, max(LONGEST_SIDE / max(image.size), SMALLEST / min(image.size)))
    if scale < 1:
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BOX)
    boxes = []
    gt = path.parent.parent / "gt" / f"{path.stem}.txt"
    if gt.exists():
        for number, line in enumerate(gt.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
            if len(values := line.split(",")) >= 8:
                try:
                    xs, ys = ([float(v) * scale for v in values[first:8:2]] for first in (0, 1))
                except ValueError as error:
                    raise DataError(f"{gt}, line {number}: {error}; x1,y1,...,x4,y4,text is needed") from error
                boxes.append((min(xs), min(ys), max(xs), max(ys)))
    return Photo(np.asarray(image), tuple(boxes))


def read_target(path: Path) -> Photo:
    """A photograph as a target to learn from, see normal_light, with its text boxes."""
    photo = read(path)
    return Photo(normal_light(photo.rgb), photo.boxes)


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


def photos(name: str, paths: Sequence[Path], load: Callable[[Path], Photo] = read_target) -> Sequence[Photo]:
    """Photographs in memory; above 2,000 only their headers are looked at and the rest is read as it is drawn.

    load: read_target for targets, read for pictures as they are. Raises DataError for a file that cannot be read;
    of a large folder a file whose header is whole is found out when it is drawn.
    """
    bar = tqdm(paths, desc=f"reading {name}", unit="photo", leave=False, disable=None)
    if len(paths) <= LAZY_ABOVE:
        return [load(path) for path in bar]
    for path in bar:
        check(path)
    return Photos(paths, load)


def training_pools(data: Path, shares: Mapping[str, float] = SHARES) -> list[Pool]:
    """Every pool's training photographs, by name and share. A folder of plain images, with no known pool, is one pool.

    Raises DataError when there is nothing to train on, or for a file that cannot be read.
    """
    if not data.is_dir():
        raise DataError(f"there is no data folder {data}")
    found = {name: files(data, name)[0] for name in shares}
    if not any(found.values()):
        shares = {"photographs": 1.0}
        found = {"photographs": trainable(path for path in find_images(data) if path.parent == data)}
    elif "photographs" in found:
        found["photographs"] += _packaged()
    pools = [Pool(name, shares[name], photos(name, paths)) for name, paths in found.items() if paths]
    if not pools:
        raise DataError(
            f"{data} holds no images to train on ({', '.join(SUFFIXES)}) and no pool ({', '.join(shares)}); what is "
            "kept for evaluation is not read"
        )
    return pools


def _drives(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """(training, evaluation) of plates_ro by drive and frame, both in the order of time."""
    place = {path: _drive(path) for path in paths}
    ordered = sorted(place, key=place.__getitem__)
    train = [path for path in ordered if place[path] <= (PLATES_DRIVE, PLATES_TRAINING_TO)]
    return train, [path for path in ordered if place[path] >= (PLATES_DRIVE, PLATES_EVALUATION_FROM)]


def _drive(path: Path) -> tuple[int, int]:
    """Drive and frame number of dayride_type1_DRIVE_FRAME; photographs of other names belong to no drive, 0."""
    found = re.fullmatch(r"dayride_type\d+_(\d+)_(\d+)", path.stem)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _dark_names(data: Path) -> frozenset[str]:
    table = data / "plates_ro" / "luminance.csv"
    if not table.exists():
        return frozenset()
    with table.open() as file:
        return frozenset(row["image"] for row in csv.DictReader(file) if row["dark"] == "1")


@lru_cache(maxsize=32)
def _training(data: Path, pool: str, role: Role) -> frozenset[Path]:
    paths = dark_files(data)[0] if pool == "plates_ro" and role == "low" else files(data, pool)[0]
    return frozenset(path.resolve() for path in paths)


def _packaged() -> list[Path]:
    paths = []
    for entry in PACKAGED:
        spec = importlib.util.find_spec(entry.package)
        if spec and spec.origin:
            paths.append(Path(spec.origin).parent / entry.path)
    return [path for path in paths if path.exists()]
