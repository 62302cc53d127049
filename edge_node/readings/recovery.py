"""A damaged database is set aside, and what can still be read of it comes into the new one."""

import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge_node.readings.rows import SELECTED, Row
from edge_node.readings.schema import VERSION

log = logging.getLogger(__name__)

SUFFIXES: Final = ("", "-wal", "-shm")
STEP: Final = 200  # rows at a time
TEXTS: Final = ("id", "edge", "name", "text", "folded", "session", "polygon", "path", "crop", "picture")


def set_aside(path: Path, why: str) -> Path:
    """Rename a database and what belongs to it; the newest one set aside is kept, older ones are removed."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    log.error("%s is damaged (%s): set aside as %s; a new one is begun", path, why, aside.name)
    for old in path.parent.glob(f"{path.name}.damaged-*"):
        with contextlib.suppress(OSError):
            old.unlink()
    for suffix in SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def sound_rows(path: Path) -> Iterator[list[Row]]:
    """What can be read of a damaged database: from the newest row back to the damage, then from the oldest on to it."""
    try:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
    except sqlite3.Error:
        return
    with contextlib.closing(database):
        database.row_factory = sqlite3.Row
        newest, oldest = 2**62, -(2**62)
        backward = f"SELECT {SELECTED} FROM sights s WHERE key < ? ORDER BY key DESC LIMIT {STEP}"
        while rows := _sound(database, backward, newest):
            newest = rows[-1]["key"]
            yield rows
        forward = f"SELECT {SELECTED} FROM sights s WHERE key > ? ORDER BY key LIMIT {STEP}"
        while rows := [row for row in _sound(database, forward, oldest) if row["key"] < newest]:
            oldest = rows[-1]["key"]
            yield rows


def _sound(database: sqlite3.Connection, statement: str, key: int) -> list[Row]:
    rows: list[Row] = []
    with contextlib.suppress(sqlite3.Error):
        if database.execute("PRAGMA user_version").fetchone()[0] == VERSION:
            for row in database.execute(statement, (key,)):
                rows.append(dict(row))
    return [row for row in rows if _is_whole(row)]


def _is_whole(row: Row) -> bool:
    """Whether its values are of their kinds: damage that SQLite does not see gives others."""
    kinds = {name: str for name in TEXTS} | {name: float for name in ("confidence", "score")}
    return all(isinstance(value, kinds.get(name, int)) for name, value in row.items())
