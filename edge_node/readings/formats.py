"""Kept readings in files of other programs, written row by row."""

import csv
import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any, Final

from common.frame import Priority
from common.packing import IMAGE_SUFFIXES
from edge_node.readings.rows import inside
from edge_node.readings.when import iso

COLUMNS: Final = (
    "id", "edge", "camera", "text", "confidence", "score", "first", "last", "first_unix_ns", "last_unix_ns", "frames",
    "frame", "polygon", "width", "height", "priority", "path", "ended", "crop", "picture",
)  # fmt: skip
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")

Rows = Iterable[dict[str, Any]]


def plain_row(row: Any, folder: Path) -> dict[str, Any]:
    """The columns of a kept row for other programs; paths are in `folder`."""
    return {
        "id": row["id"],
        "edge": row["edge"],
        "camera": row["name"],
        "text": row["text"],
        "confidence": round(row["confidence"], 4),
        "score": round(row["score"], 4),
        "first": iso(row["first_ns"]),
        "last": iso(row["last_ns"]),
        "first_unix_ns": row["first_ns"],
        "last_unix_ns": row["last_ns"],
        "frames": row["frames"],
        "frame": f"{row['edge']}/{row['session']}/{row['sequence']}",
        "polygon": json.loads(row["polygon"]),
        "width": row["width"],
        "height": row["height"],
        "priority": Priority(row["priority"]).name.lower(),
        "path": row["path"],
        "ended": bool(row["ended"]),
        "crop": str(inside(folder, row["crop"]) or ""),
        "picture": str(inside(folder, row["picture"]) or ""),
    }


def write_csv(rows: Rows, file: IO[str]) -> None:
    """CSV with a header; a text that a spreadsheet would take for a formula gets a ' before it."""
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for row in rows:
        values = row | {"polygon": " ".join(f"{x:g},{y:g}" for x, y in row["polygon"]), "ended": int(row["ended"])}
        writer.writerow([harmless(value) for value in values.values()])


def harmless(value: Any) -> Any:
    """
    >>> harmless("=HYPERLINK(A1)"), harmless("EXIT"), harmless(-1.5)
    ("'=HYPERLINK(A1)", 'EXIT', -1.5)
    """
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(FORMULA) else value


def write_jsonl(rows: Rows, file: IO[str]) -> None:
    """One JSON object a line; on a terminal all ASCII, so that no text steers it."""
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=file.isatty()) + "\n")


def write_coco_text(rows: Rows, file: IO[str]) -> None:
    """COCO-Text 2.0 (Veit et al., arXiv:1601.07140): anns, imgs and imgToAnns with whole numbers for ids.

    An image is the frame with the best view of a text; language is not told apart. Beside the fields of the format
    each annotation has `confidence` and `crop`. What belongs to which image is kept in a file meanwhile, not in memory.
    """
    with tempfile.TemporaryDirectory() as folder, closing(sqlite3.connect(f"{folder}/images.db")) as known:
        known.execute("PRAGMA synchronous=OFF")
        known.execute(
            "CREATE TABLE images (id INTEGER PRIMARY KEY, frame TEXT UNIQUE, name TEXT, width INTEGER, height INTEGER)"
        )
        known.execute("CREATE TABLE anns (image INTEGER, ann INTEGER, PRIMARY KEY (image, ann)) WITHOUT ROWID")
        file.write('{"info": {"description": "Lamplight", "version": "2.0"}, "cats": {},\n"anns": ')
        _write_object(file, _annotations(rows, known))
        file.write(',\n"imgs": ')
        images = known.execute("SELECT id, name, width, height FROM images ORDER BY id")
        _write_object(file, ((id, _image(id, *row)) for id, *row in images))
        file.write(',\n"imgToAnns": ')
        groups = known.execute("SELECT image, json_group_array(ann) FROM anns GROUP BY image ORDER BY image")
        _write_object(file, ((image, json.loads(anns)) for image, anns in groups))
        file.write("}\n")


def _annotations(rows: Rows, known: sqlite3.Connection) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, row in enumerate(rows, 1):
        image = (row["frame"], _file_name(row), row["width"], row["height"])
        known.execute("INSERT INTO images VALUES (NULL, ?, ?, ?, ?) ON CONFLICT DO NOTHING", image)
        (id,) = known.execute("SELECT id FROM images WHERE frame = ?", (row["frame"],)).fetchone()
        known.execute("INSERT INTO anns VALUES (?, ?)", (id, number))
        yield number, _annotation(number, id, row)


def _annotation(number: int, image: int, row: dict[str, Any]) -> dict[str, Any]:
    points = row["polygon"] or [[0, 0]]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    legible = {"legibility": "legible", "utf8_string": row["text"]} if row["text"] else {"legibility": "illegible"}
    return {
        "id": number,
        "image_id": image,
        "mask": [value for point in points for value in point],
        "bbox": [min(xs), min(ys), round(max(xs) - min(xs), 1), round(max(ys) - min(ys), 1)],
        "area": area(points),
        "class": "machine printed",
        "language": "na",
        **legible,
        "confidence": row["confidence"],
        "crop": row["crop"],
    }


def _file_name(row: dict[str, Any]) -> str:
    """The image that was read, or of cameras a name for the frame: edge-session-sequence.jpg."""
    name = str(row["camera"])
    return (
        name if "#" in name or Path(name).suffix.lower() in IMAGE_SUFFIXES else f"{row['frame'].replace('/', '-')}.jpg"
    )


def _image(id: int, name: str, width: int, height: int) -> dict[str, Any]:
    return {"id": id, "file_name": name, "width": width, "height": height, "set": "train"}


def area(points: list[list[float]]) -> float:
    """Of a polygon, in square pixels.

    >>> area([[0, 0], [4, 0], [4, 2], [0, 2]])
    8.0
    """
    pairs = zip(points, [*points[1:], points[0]], strict=True)
    return round(abs(sum(x * v - u * y for (x, y), (u, v) in pairs)) / 2, 2)


def _write_object(file: IO[str], items: Iterable[tuple[int, Any]]) -> None:
    file.write("{")
    between = "\n"
    for key, value in items:
        file.write(f'{between}"{key}": {json.dumps(value, ensure_ascii=file.isatty())}')
        between = ",\n"
    file.write("}")


FORMATS: Final[dict[str, Callable[[Rows, IO[str]], None]]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "coco-text": write_coco_text,
}
