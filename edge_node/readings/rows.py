"""What is kept of a sight, and what a search gives of it."""

import dataclasses
import functools
import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Final

from common.frame import FrameId, Priority, Reading, Region, Route
from edge_node.readings.fold import folded
from edge_node.readings.when import iso
from edge_node.sights import Sight

log = logging.getLogger(__name__)

COLUMNS: Final = (
    "key", "id", "edge", "name", "text", "folded", "confidence", "score", "first_ns", "last_ns", "span", "frames",
    "session", "sequence", "polygon", "width", "height", "priority", "path", "ended", "crop", "crop_bytes", "picture",
)  # fmt: skip
SELECTED: Final = ", ".join(f"s.{name}" for name in COLUMNS)
_TEXTS: Final = ("id", "edge", "name", "text", "folded", "session", "polygon", "path", "crop", "picture")
_KINDS: Final = {name: str for name in _TEXTS} | {name: float for name in ("confidence", "score")}
MINUTE_NS: Final = 60 * 10**9

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """A kept reading: a sight, or one region of one frame where nothing is tracked."""

    id: str
    text: str
    edge: str
    name: str  # the camera or file
    confidence: float  # 0..1, of the text
    score: float  # 0..1, of the detector
    first_unix_ns: int
    last_unix_ns: int
    frames: int  # that it was seen in
    best: FrameId  # the frame with the best view
    polygon: tuple[tuple[float, float], ...]  # there, in pixels
    size: tuple[int, int]  # of that frame, width and height; 0 where it is not known
    priority: Priority
    path: Route
    ended: bool
    crop: Path | None  # the best view, a JPEG
    picture: Path | None  # the frame with its boxes, where such pictures are kept
    cost: float = 0.0  # of reading errors between what was looked for and the text; 0 is none
    spans: tuple[tuple[int, int], ...] = ()  # of the text, [start, end): what was looked for


def row_of(sight: Sight, picture: str = "") -> Row:
    """A sight's columns, without its key and its crop.

    Args:
        picture: the frame with its boxes, relative to the output folder.
    """
    return {
        "id": _clean(sight.id),
        "edge": _clean(sight.edge),
        "name": _clean(sight.name),
        "text": _clean(sight.text),
        "folded": folded(_clean(sight.text)),
        "confidence": _finite(sight.confidence),
        "score": _finite(sight.score),
        "first_ns": sight.first_unix_ns,
        "last_ns": max(sight.last_unix_ns, sight.first_unix_ns),
        "span": span_of(sight.last_unix_ns - sight.first_unix_ns),
        "frames": sight.frames,
        "session": sight.best.session,
        "sequence": sight.best.sequence,
        "polygon": json.dumps([[round(_finite(x), 1), round(_finite(y), 1)] for x, y in sight.polygon]),
        "width": sight.size[0],
        "height": sight.size[1],
        "priority": int(sight.priority),
        "path": sight.path.value,
        "ended": int(sight.ended),
        "crop": "",
        "crop_bytes": 0,
        "picture": picture,
    }


def updated(old: Row, new: Row) -> Row:
    """The new row of a sight with what it lacks: the crop, the picture of the same best frame, and when it was seen
    last, which may have been noted since the new one was made."""
    row = dict(new)
    if not new["crop"]:
        row |= {"crop": old["crop"], "crop_bytes": old["crop_bytes"]}
    if not new["picture"] and (old["session"], old["sequence"]) == (new["session"], new["sequence"]):
        row["picture"] = old["picture"]
    if abs(new["first_ns"] - old["first_ns"]) <= MINUTE_NS and old["last_ns"] > new["last_ns"]:
        row |= {"last_ns": old["last_ns"], "span": span_of(old["last_ns"] - new["first_ns"])}
    return row


def sight_of(reading: Reading, region: Region, number: int, size: tuple[int, int]) -> Sight:
    """One region of one frame as a sight that ends with it, where nothing is tracked."""
    return Sight(
        id=f"{reading.id.session}-{reading.id.sequence}.{number}",
        edge=reading.id.edge,
        name=reading.name,
        text=region.text,
        confidence=region.confidence,
        score=region.score,
        first_unix_ns=reading.captured_unix_ns,
        last_unix_ns=reading.captured_unix_ns,
        frames=1,
        best=reading.id,
        polygon=region.polygon,
        size=size,
        priority=reading.priority,
        path=reading.path,
        ended=True,
    )


def found_of(row: Any, folder: Path, cost: float = 0.0, spans: tuple[tuple[int, int], ...] = ()) -> Found:
    """A sound row as a search gives it; paths are in `folder`, and None where the file is gone."""
    return Found(
        row["id"], row["text"], row["edge"], row["name"], row["confidence"], row["score"],
        row["first_ns"], row["last_ns"], row["frames"],
        FrameId(row["edge"], row["session"], row["sequence"]),
        tuple((float(x), float(y)) for x, y in json.loads(row["polygon"])),
        (row["width"], row["height"]), Priority(row["priority"]), Route(row["path"]), bool(row["ended"]),
        _there(folder, row["crop"]), _there(folder, row["picture"]), cost, spans,
    )  # fmt: skip


def to_json(found: Found) -> dict[str, Any]:
    """What is known of a reading, with times for people and for programs."""
    made = {key: value for key, value in dataclasses.asdict(found).items() if key not in ("best", "spans")}
    return made | {
        "first": iso(found.first_unix_ns),
        "last": iso(found.last_unix_ns),
        "frame": str(found.best),
        "priority": found.priority.name.lower(),
        "path": found.path.value,
        "crop": str(found.crop) if found.crop else None,
        "picture": str(found.picture) if found.picture else None,
    }


def span_of(ns: int) -> int:
    """A class of how long something was in sight: 0 for under a minute, k for under 2^k minutes."""
    return (max(0, ns) // MINUTE_NS).bit_length()


def check(row: Any) -> None:
    """Raises ValueError where a row has a value that none has: damage that SQLite does not see gives such ones."""
    try:
        for name in COLUMNS:
            if not isinstance(row[name], _KINDS.get(name, int)):
                raise ValueError(f"{name} is {row[name]!r:.40}")
        Priority(row["priority"]), Route(row["path"])
        points = [(float(x), float(y)) for x, y in json.loads(row["polygon"])]
        numbers = (row["confidence"], row["score"], *(value for point in points for value in point))
        if not all(map(math.isfinite, numbers)):
            raise ValueError("a number is not finite")
    except (TypeError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None


def is_sound(row: Any) -> bool:
    """Whether `check` has nothing against it; else the log says so, once for each row."""
    try:
        check(row)
    except ValueError as error:
        _tell_once(row["key"], str(error))
        return False
    return True


@functools.lru_cache(1000)
def _tell_once(key: int, why: str) -> None:
    log.warning("a damaged reading is left out (row %s: %s)", key, why)


def inside(folder: Path, name: str) -> Path | None:
    """A file of an output folder by the name that a row has; None where that leads out of it, as in a database that
    someone else wrote. A folder in it may be a link to another disk."""
    given = PurePath(name)
    if not given.parts or given.is_absolute() or ".." in given.parts or "\0" in name:
        return None
    path, top = folder / given, folder / given.parts[0]
    return path if path.resolve().is_relative_to(top.resolve()) else None


def _there(folder: Path, name: str) -> Path | None:
    path = inside(folder, name)
    return path if path is not None and path.is_file() else None


def _clean(text: str) -> str:
    """Without what SQLite's text cannot hold: lone surrogates of file names that are not UTF-8, and NUL."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "")


def _finite(value: float) -> float:
    return float(value) if math.isfinite(value) else 0.0
