"""Folders of low and of normal light for unpaired training: plain ones, LOL and SID, told apart by what lies in them.

LOL v1 (Wei et al., BMVC 2018): our485/{low,high}, eval15/{low,high}. LOL v2 real (Yang et al., TIP 2021):
Real_captured/{Train,Test}/{Low,Normal}. SID (Chen et al., CVPR 2018): {short,long}, in Sony/ and Fuji/ or alone.
Only what their authors meant for training is read. Both cameras of SID or both versions of LOL under one root are
read together.
"""

import hashlib
import os
import re
import sys
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloud_node.training.images import SUFFIXES, DataError, find_images, read_rgb
from cloud_node.training.pools import Role, trainable

__all__ = ["READERS", "Item", "Reader", "find", "read_rgb", "unpaired"]

LOL_PARTS = {  # the folders above a file -> is it training, and of what light
    ("our485", "low"): (True, "low"),
    ("our485", "high"): (True, "normal"),
    ("eval15", "low"): (False, "low"),
    ("eval15", "high"): (False, "normal"),
    ("real_captured", "train", "low"): (True, "low"),
    ("real_captured", "train", "normal"): (True, "normal"),
    ("real_captured", "test", "low"): (False, "low"),
    ("real_captured", "test", "normal"): (False, "normal"),
}
SID_ROLES = {"short": "low", "long": "normal"}
SID_NAME = re.compile(r"\d{5}_\d\d_\d+(\.\d+)?s")  # scene, shot, exposure
NAMED = 3  # files that an error names


@dataclass(frozen=True)
class Item:
    path: Path
    scene: str  # what must not stand in both lists
    exposure_s: float | None = None  # seconds; None where the name does not say
    kind: str = "plain"  # the reader that found it


@dataclass(frozen=True)
class Reader:
    """One layout. `part` gives (is it training, its role) of a file in this layout, None for any other file."""

    kind: str
    layout: str  # for messages
    part: Callable[[Path], tuple[bool, str] | None]
    item: Callable[[Path, Path], Item]  # of a file and the folder that was asked for


def _lol_part(path: Path) -> tuple[bool, str] | None:
    above = [part.lower() for part in path.parts[:-1]]
    return LOL_PARTS.get(tuple(above[-2:])) or LOL_PARTS.get(tuple(above[-3:]))


def _lol_item(path: Path, folder: Path) -> Item:
    """Version 1 names both of a pair alike, like 2.png; version 2 low00001.png and normal00001.png."""
    return Item(path, re.sub(r"^(low|normal)(?=\d)", "", path.stem.lower()), kind="lol")


def _sid_part(path: Path) -> tuple[bool, str] | None:
    """First digit 0 is training; SID's authors test on 1 and validate on 2."""
    role = SID_ROLES.get(path.parent.name.lower())
    return (path.name.startswith("0"), role) if role and SID_NAME.fullmatch(path.stem) else None


def _sid_item(path: Path, folder: Path) -> Item:
    scene, _, exposure = path.stem.split("_")
    return Item(path, scene, float(exposure.removesuffix("s")), "sid")


def _plain_item(path: Path, folder: Path) -> Item:
    return Item(path, path.relative_to(folder).with_suffix("").as_posix())


READERS = {
    "lol": Reader("lol", "our485/{low,high} or Real_captured/Train/{Low,Normal}", _lol_part, _lol_item),
    "sid": Reader("sid", "{short,long}/00001_00_0.1s.ARW", _sid_part, _sid_item),
    "plain": Reader("plain", "images", lambda path: (True, "any"), _plain_item),
}


def find(folder: Path, role: Role, kind: str = "auto") -> list[Item]:
    """The photographs of one light under a folder, sorted by path.

    role: "low" or "normal". kind: "auto" takes "lol" or "sid" where folders and files are named so, and nothing else
    there, else "plain", where every image is taken and its scene is its path from the folder without suffix. LOL
    gives its training part, a scene is a number; SID gives short exposures as low and long ones as normal, without
    the scenes 1xxxx (test) and 2xxxx (validation), a scene is these five digits. Files of a known pool that are kept
    for evaluation are left out, see pools.trainable.

    Raises DataError for an unknown kind, for a folder that holds both LOL and SID, and for one that is absent or
    holds nothing of that light to train on.
    """
    if kind not in ("auto", *READERS):
        raise DataError(f"there is no reader {kind!r} for {folder}: choose of auto, {', '.join(READERS)}")
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: check the path")
    paths = find_images(folder)
    if not paths:
        raise DataError(f"{folder} holds no images: {', '.join(SUFFIXES)} are read")
    whole = {path: Path(os.path.abspath(path)) for path in paths}  # also our485/low itself is known for what it is
    reader = READERS[_recognise(folder, whole.values()) if kind == "auto" else kind]
    parts = {path: part for path in paths if (part := reader.part(whole[path]))}
    if not parts:
        raise DataError(f"{folder} is not laid out as {reader.kind}: {reader.layout} is looked for in it")
    of_role = [path for path, (_, light) in parts.items() if light in (role, "any")]
    training = [path for path in of_role if parts[path][0]]
    if not training:
        what = f"only {reader.kind}'s test and validation scenes" if of_role else f"no {role} light"
        raise DataError(f"{folder} holds {what}: give the root of {reader.layout}")
    allowed = trainable(training, role)
    if not allowed:
        raise DataError(
            f"none of the {len(training)} images under {folder} may be trained on as {role} light: the pool they lie "
            "in keeps them for evaluation. Choose another folder"
        )
    return [reader.item(path, folder) for path in allowed]


def _recognise(folder: Path, paths: Collection[Path]) -> str:
    kinds = [kind for kind in READERS if kind != "plain" and any(map(READERS[kind].part, paths))]
    if len(kinds) > 1:
        raise DataError(f"{folder} holds {' and '.join(kinds)}: give the root of one of them")
    return kinds[0] if kinds else "plain"


def unpaired(low: Sequence[Item], normal: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """The two lists with no scene in both, so that nothing is learned from pairs.

    Scenes that both lists of LOL or SID hold go to low and to normal in turn, by name, and a message on stderr says
    how many. Raises DataError where one list would be empty, and for plain folders that share the name of a scene
    or the same bytes: what they have in common is not known to be harmless.
    """
    _refuse_shared(low, normal)
    known = [{(item.kind, item.scene) for item in items if item.kind != "plain"} for items in (low, normal)]
    shared = sorted(known[0] & known[1])
    to_low, to_normal = set(shared[0::2]), set(shared[1::2])
    low = [item for item in low if (item.kind, item.scene) not in to_normal]
    normal = [item for item in normal if (item.kind, item.scene) not in to_low]
    if not low or not normal:
        empty = "normal" if low else "low"
        raise DataError(f"no {empty} light is left without the {len(shared)} scenes that both have: give more scenes")
    if shared:
        print(
            f"low and normal light share {len(shared)} scenes: {len(to_low)} of them are read as low light only, "
            f"{len(to_normal)} as normal light only",
            file=sys.stderr,
        )
    return low, normal


def _refuse_shared(low: Sequence[Item], normal: Sequence[Item]) -> None:
    lows, normals = ({item.scene: item.path for item in items if item.kind == "plain"} for items in (low, normal))
    if shared := sorted(lows.keys() & normals.keys()):
        raise DataError(
            f"low and normal light share {len(shared)} scene names, like {', '.join(shared[:NAMED])} "
            f"({lows[shared[0]]} and {normals[shared[0]]}): training is unpaired, so keep each scene in one of the "
            "folders, or rename those that are different scenes"
        )
    if not lows and not normals:
        return  # LOL and SID are known, and SID has 77 GB to compare
    if copies := _copies([item.path for item in low], [item.path for item in normal]):
        named = ", ".join(f"{a} = {b}" for a, b in copies[:NAMED])
        raise DataError(
            f"{len(copies)} files of low light stand byte for byte in normal light too: {named}. Remove them from one "
            "of the folders"
        )


def _copies(some: Iterable[Path], others: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Pairs of files with the same bytes. Only files whose size stands in both are read."""
    sizes = [_grouped(paths, lambda path: path.stat().st_size) for paths in (some, others)]
    pairs = []
    for size in sizes[0].keys() & sizes[1].keys():
        mine, theirs = (_grouped(group[size], _digest) for group in sizes)
        pairs += [(mine[digest][0], theirs[digest][0]) for digest in mine.keys() & theirs.keys()]
    return sorted(pairs)


def _grouped(paths: Iterable[Path], key: Callable[[Path], Hashable]) -> dict[Hashable, list[Path]]:
    groups: dict[Hashable, list[Path]] = {}
    for path in paths:
        groups.setdefault(key(path), []).append(path)
    return groups


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
