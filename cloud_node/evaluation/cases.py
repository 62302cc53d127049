"""The sets that the evaluation looks at, read from a data folder whose pools stand there by name.

None of their scenes is in training: the rule is `split` in cloud_node/training/pools.py. Pictures are read when
their turn comes, so that memory stays flat.
"""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from PIL import Image

from cloud_node.evaluation.darkness import darken
from cloud_node.evaluation.detection import Outline, read_outlines
from cloud_node.training import pools
from common.errors import SettingsError, SourceError
from common.packing import rgb_of
from common.pixels import Bytes

DARKNESS = {"receipts 8-20x": (8.0, 20.0), "receipts 40-120x": (40.0, 120.0)}  # times less light
TEST_FILE = "textdet_test.json"  # outlines of the ICDAR 2015 photographs

# What is measured on a picture.
DETECTION, FIDELITY, NATURALNESS, MIXED_LIGHT = "detection", "fidelity", "naturalness", "mixed light"


@dataclass(frozen=True)
class Picture:
    """What a row gets, and what it is held against."""

    low: Bytes  # (H, W, 3) uint8
    bright: Bytes | None = None  # its bright twin
    truth: tuple[Outline, ...] = ()


@dataclass(frozen=True)
class Case:
    name: str
    read: Callable[[], Picture]
    group: str = ""  # pictures of one group are resampled as one, for they show one scene; by default the name

    def __post_init__(self) -> None:
        object.__setattr__(self, "group", self.group or self.name)


@dataclass(frozen=True)
class CaseSet:
    name: str
    about: str
    measures: tuple[str, ...]
    cases: Sequence[Case] = field(repr=False)


def read_sets(data: Path, wanted: Sequence[str], limit: int, say: Callable[[str], None]) -> list[CaseSet]:
    """The sets under `data` whose names begin with one of `wanted` (none: all), thinned evenly to `limit` pictures.

    A set whose pool is absent is left out with a word.

    Raises:
        SettingsError: when `wanted` names no set, or nothing is left. SourceError: for a list that is broken.
    """
    for name in wanted:
        if not any(known.startswith(name) for known in SETS):
            raise SettingsError(f"--sets: there is no set {name!r}; there are: {', '.join(SETS)}")
    sets = []
    for name, make in SETS.items():
        if wanted and not any(name.startswith(prefix) for prefix in wanted):
            continue
        found = make(data)
        if found.cases:
            sets.append(replace(found, cases=thinned(found.cases, limit)))
        else:
            say(f"set {name!r} is left out: its photographs are not in {data}")
    if not sets:
        raise SettingsError(
            f"{data} holds nothing to measure on: no receipts_sroie, plates_ro, scene_text, sice512, dicm"
        )
    return sets


def thinned(cases: Sequence[Case], limit: int) -> list[Case]:
    """At most `limit` of them, evenly spread; 0 takes all."""
    if not limit or len(cases) <= limit:
        return list(cases)
    return [cases[i * len(cases) // limit] for i in range(limit)]


def read_image(path: Path) -> Bytes:
    """An image file as (H, W, 3) uint8 RGB, as `packing.rgb_of` sees it. SourceError for a missing or broken one."""
    try:
        with Image.open(path) as image:
            return rgb_of(image)
    except Exception as error:  # a broken file brings out errors of many kinds in Pillow's parsers
        raise SourceError(f"{path} is no image that can be read: {error}") from None


def dark_receipts(name: str, data: Path) -> CaseSet:
    """Held-out receipts as the evaluation's phone sees them in the dark; the receipt's place is the seed."""
    low, high = DARKNESS[name]

    def read(path: Path, seed: int) -> Picture:
        bright = read_image(path)
        return Picture(darken(bright, seed, (low, high)), bright, _truth(path))

    paths = _held_out(data, "receipts_sroie")
    cases = [Case(path.name, partial(read, path, seed)) for seed, path in enumerate(paths)]
    return CaseSet(name, f"held-out receipts in {low:.0f} to {high:.0f} times less light", (DETECTION,), cases)


def bright_receipts(data: Path) -> CaseSet:
    return CaseSet(
        "receipts bright",
        "held-out receipts as scanned: no harm may come to them",
        (DETECTION,),
        _outlined(_held_out(data, "receipts_sroie")),
    )


def dark_plates(data: Path) -> CaseSet:
    paths, _ = _plates(data)
    about = "real dusk and night photographs; number plates, and mixed light"
    return CaseSet("plates dark", about, (DETECTION, MIXED_LIGHT), _outlined(paths))


def bright_plates(data: Path) -> CaseSet:
    _, paths = _plates(data)
    about = "street photographs by day, of streets that training did not see"
    return CaseSet("plates bright", about, (DETECTION,), _outlined(paths))


def bright_scene_text(data: Path) -> CaseSet:
    """ICDAR 2015 photographs with their outlines from textdet_test.json."""
    folder = data / "scene_text" / "icdar2015_10"
    listed = _icdar(folder) if (folder / TEST_FILE).exists() else {}
    held_out = set(pools.files(data, "scene_text")[1])
    about = "held-out ICDAR 2015 photographs as taken: no harm may come to them"
    cases = [
        Case(path.name, partial(lambda path, truth: Picture(read_image(path), truth=truth), path, truth))
        for path, truth in listed.items()
        if path in held_out
    ]
    return CaseSet("scene text bright", about, (DETECTION,), cases)


def sice_pairs(data: Path) -> CaseSet:
    """Aligned low and normal exposures of evaluation scenes; the pairs of one scene are a group."""

    def read(low: Path, normal: Path) -> Picture:
        return Picture(read_image(low), read_image(normal))

    scenes = _scenes(data / "sice512" / "pairs.csv")
    cases = [
        Case(f"{low.name} {normal.name}", partial(read, low, normal), f"scene {scenes[low.name]}")
        for low, normal in pools.sice_pairs(data)
    ]
    return CaseSet("pairs", "real pairs of SICE, evaluation scenes", (FIDELITY, NATURALNESS), cases)


def dicm(data: Path) -> CaseSet:
    about = "real dark photographs without reference"
    return CaseSet("dicm", about, (NATURALNESS,), _outlined(_held_out(data, "dicm")))


SETS: dict[str, Callable[[Path], CaseSet]] = {
    **{name: partial(dark_receipts, name) for name in DARKNESS},
    "receipts bright": bright_receipts,
    "plates dark": dark_plates,
    "plates bright": bright_plates,
    "scene text bright": bright_scene_text,
    "pairs": sice_pairs,
    "dicm": dicm,
}


def _held_out(data: Path, pool: str) -> list[Path]:
    return pools.files(data, pool)[1] if (data / pool).is_dir() else []


def _outlined(paths: Iterable[Path]) -> list[Case]:
    return [
        Case(path.name, partial(lambda path: Picture(read_image(path), truth=_truth(path)), path)) for path in paths
    ]


def _truth(path: Path) -> tuple[Outline, ...]:
    """Outlines beside a photograph, ../gt/NAME.txt; none where there is no such file."""
    listed = path.parent.parent / "gt" / f"{path.stem}.txt"
    return tuple(read_outlines(listed)) if listed.exists() else ()


def _plates(data: Path) -> tuple[list[Path], list[Path]]:
    """(dark, bright) held-out street photographs. SourceError for a broken list of the dark ones."""
    try:
        dark = pools.dark_files(data)[1]
    except KeyError as error:
        raise SourceError(f"{data / 'plates_ro' / 'luminance.csv'}: it has no column {error.args[0]}") from None
    known = set(dark)
    return dark, [path for path in _held_out(data, "plates_ro") if path not in known]


def _scenes(path: Path) -> dict[str, int]:
    """The scene of each low exposure in the list of pairs; none without the file. SourceError for a broken one."""
    scenes: dict[str, int] = {}
    if not path.exists():
        return scenes
    with path.open() as file:
        reader = csv.DictReader(file)
        if missing := {"low", "normal", "scene"} - set(reader.fieldnames or ()):
            raise SourceError(f"{path}: it has no column {', '.join(sorted(missing))}")
        for row in reader:
            if not row["low"] or not row["normal"]:
                raise SourceError(f"{path}, line {reader.line_num}: it names no low and normal exposure; write both")
            try:
                scenes[row["low"]] = int(row["scene"])
            except (TypeError, ValueError):
                where = f"{path}, line {reader.line_num}"
                raise SourceError(f"{where}: scene {row['scene']!r} is no whole number; write the scene's") from None
    return scenes


def _icdar(folder: Path) -> dict[Path, tuple[Outline, ...]]:
    path = folder / TEST_FILE
    try:
        listed = {}
        for entry in json.loads(path.read_text())["data_list"]:
            outlines = [
                Outline(tuple(zip(one["polygon"][0::2], one["polygon"][1::2], strict=True)), not one["ignore"])
                for one in entry["instances"]
            ]
            listed[folder / entry["img_path"]] = tuple(outlines)
        return listed
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path} is no list of outlines as mmocr writes them: {error!r}") from None
