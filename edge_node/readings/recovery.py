"""A damaged database is set aside, and what can still be read of it comes into the new one."""

import contextlib
import logging
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge_node.readings.pictures import remove_crop
from edge_node.readings.rows import SELECTED, Row, is_sound
from edge_node.readings.schema import VERSION, lenient
from edge_node.readings.writer import Writer

log = logging.getLogger(__name__)

SUFFIXES: Final = ("", "-wal", "-shm")
DONE: Final = ".recovered"
_IS_ASIDE: Final = re.compile(r"\d{8}-\d{6}$")
_IS_DONE: Final = re.compile(r"\d{8}-\d{6}\.recovered$")
MOST: Final = 3
KEPT_S: Final = 7 * 86_400.0
STEP: Final = 200  # rows at a time


def set_aside(path: Path, why: str) -> Path:
    """Rename a database and what belongs to it; `recovered_rows` reads it."""
    at = time.time()
    while (aside := _aside(path, at)).exists():
        at += 1
    log.error("%s is damaged (%s): set aside as %s; a new one is begun", path, why, aside.name)
    _rename(path, aside)
    return aside


class Recovery:
    """Brings what was set aside into the database that has been begun since, a little at a time."""

    def __init__(self, path: Path) -> None:
        self._rows, self._next = recovered_rows(path), list[Row]()

    def step(self, writer: Writer) -> bool:
        """Write some rows; whether there may be more.

        Raises:
            sqlite3.Error: as the writer's; where it may pass, like a full disk, the same rows are tried again.
        """
        rows, self._next = self._next or next(self._rows, []), []
        try:
            for name in writer.put(rows, replace=False) if rows else ():
                remove_crop(writer.path.parent, name)
        except sqlite3.OperationalError:
            self._next = rows
            raise
        return bool(rows)


def recovered_rows(path: Path) -> Iterator[list[Row]]:
    """What can still be read of each database that was set aside, the newest first; in a later run too, where one was
    stopped on the way. What is through is marked, and removed after a week."""
    for aside in sorted(path.parent.glob(f"{path.name}.damaged-*"), reverse=True):
        if not _IS_ASIDE.search(aside.name):
            continue
        yield from sound_rows(aside)
        done = aside.with_name(aside.name + DONE)
        with contextlib.suppress(OSError):
            _rename(aside, done)
            os.utime(done)
        log.warning("what could be read of %s is in %s again", aside.name, path.name)
    remove_recovered(path)


def remove_recovered(path: Path) -> None:
    """Remove what was set aside and recovered, for its age, or since there are newer ones."""
    done = [old for old in path.parent.glob(f"{path.name}.damaged-*{DONE}") if _IS_DONE.search(old.name)]
    for number, old in enumerate(sorted(done, reverse=True)):
        with contextlib.suppress(OSError):
            if number >= MOST or time.time() - old.stat().st_mtime > KEPT_S:
                for suffix in SUFFIXES:
                    old.with_name(old.name + suffix).unlink(missing_ok=True)


def _aside(path: Path, at: float) -> Path:
    return path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S', time.localtime(at))}")


def _rename(path: Path, to: Path) -> None:
    for suffix in SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(to.with_name(to.name + suffix))


def sound_rows(path: Path) -> Iterator[list[Row]]:
    """What can be read of a damaged database: from the newest row back to the damage, then from the oldest on to it."""
    try:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
    except sqlite3.Error:
        return
    with contextlib.closing(database):
        database.row_factory, database.text_factory = sqlite3.Row, lenient
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
    return [row for row in rows if is_sound(row)]
