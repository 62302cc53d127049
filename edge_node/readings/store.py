"""Kept readings, to search: `Store(path).search("exit")`. Beside the node that writes, from any thread or process."""

import itertools
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from common.errors import ReadingsError
from edge_node.readings.fold import needle, plain, spans, words
from edge_node.readings.fuzzy import Seems, look_alikes
from edge_node.readings.query import nearest_rows, of_camera, search_rows
from edge_node.readings.rows import SELECTED, Found, found_of, is_sound
from edge_node.readings.schema import is_broken, open_to_read

NAME: Final = "readings.db"
FOREVER_NS: Final = 2**62
PAGE: Final = 1000  # rows at a time when all are read
LONGEST_TEXT: Final = 256


class Store:
    """A database of kept readings. It is opened at the first search, and again when the node has begun a new one.

    Args:
        path: the database, or the folder that it is in.
    """

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        self.path = path / NAME if path.is_dir() else path
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._indexed, self._inode = False, 0

    def search(
        self,
        text: str = "",
        *,
        since: int | None = None,
        until: int | None = None,
        camera: str = "",
        fuzzy: bool = False,
        limit: int = 50,
    ) -> list[Found]:
        """Readings with all the words of `text`, in any order: the newest first, with `fuzzy` after the likest.

        A word of three letters and more is found anywhere, a shorter one where a word begins; case, accents and
        punctuation do not count. Without text the latest readings.

        Args:
            since, until: unix ns; what was in sight at any time between them.
            camera: a part of the name of the camera, file or edge.
            fuzzy: also what may be that with reading errors (0 for O, rn for m...), and a letter or two more.

        Raises:
            ReadingsError: there is no database, it cannot be read, or the text is too long.
        """
        if len(text) > LONGEST_TEXT:
            raise ReadingsError(f"a text of {len(text)} letters is too long to look for: at most {LONGEST_TEXT}")
        wanted = [[Seems(needle(word), 0.0)] for word in dict.fromkeys(words(text))]
        if limit < 1 or (text.strip() and not wanted):  # nothing in it that is ever kept
            return []
        window = (since if since is not None else 0, until if until is not None else FOREVER_NS)
        with self._lock:
            try:
                database = self._open()
                found = search_rows(database, self._indexed, wanted, window, plain(camera), limit)
                if fuzzy and wanted and len(found) < limit:
                    near = [look_alikes(database, one[0].word, self._indexed) for one in wanted]
                    found = nearest_rows(database, self._indexed, near, window, plain(camera), limit, found)
            except sqlite3.Error as error:
                self._close()
                raise self._trouble(error) from None
        return [found_of(row, self.path.parent, cost, tuple(spans(row["text"], seen))) for row, cost, seen in found]

    def all(self, *, since: int | None = None, until: int | None = None, camera: str = "") -> Iterator[Found]:
        """Every reading in that time, the oldest first; read bit by bit, so that the node's log need not wait.

        Raises:
            ReadingsError: as `search`.
        """
        for row in self.rows(since=since, until=until, camera=camera):
            yield found_of(row, self.path.parent)

    def rows(self, *, since: int | None = None, until: int | None = None, camera: str = "") -> Iterator[Any]:
        """As `all`, the columns as they are kept; damaged rows are left out."""
        last, name = -(2**62), plain(camera)
        statement = (
            f"SELECT {SELECTED} FROM sights s WHERE key > ? AND key <= ? AND last_ns >= ? ORDER BY key LIMIT {PAGE}"
        )
        end = FOREVER_NS if until is None else until // 10**6
        while True:
            with self._lock:
                try:
                    rows = self._open().execute(statement, (last, end, since or 0)).fetchall()
                except sqlite3.Error as error:
                    self._close()
                    raise self._trouble(error) from None
            yield from (row for row in rows if is_sound(row) and of_camera(row, name))
            if len(rows) < PAGE:
                return
            last = rows[-1]["key"]

    def count(self) -> int:
        """How many are kept. Raises ReadingsError as `search`."""
        with self._lock:
            try:
                (count,) = self._open().execute("SELECT value FROM totals WHERE name = 'rows'").fetchone()
            except sqlite3.Error as error:
                self._close()
                raise self._trouble(error) from None
        return int(count)

    def close(self) -> None:
        with self._lock:
            self._close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> sqlite3.Connection:
        inode = os.stat(self.path).st_ino if self.path.exists() else 0
        if self._database is None or inode != self._inode:
            self._close()
            self._database, self._indexed = open_to_read(self.path)
            self._database.row_factory = sqlite3.Row
            self._inode = inode
        return self._database

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _trouble(self, error: sqlite3.Error) -> ReadingsError:
        advice = "; the edge node sets a damaged one aside when it starts" if is_broken(error) else ""
        return ReadingsError(f"cannot read {self.path}: {error}{advice}")


def stores_in(folder: Path) -> list[Store]:
    """Those of an output folder: its own, and of several cameras one for each.

    Raises:
        ReadingsError: there is none.
    """
    if folder.is_file():
        return [Store(folder)]
    paths = [path for path in itertools.chain([folder / NAME], sorted(folder.glob(f"*/{NAME}"))) if path.is_file()]
    if not paths:
        raise ReadingsError(f"no readings are kept in {folder}: name the folder given with --output to the edge node")
    return [Store(path) for path in paths]


def search_all(stores: Sequence[Store], text: str = "", *, limit: int = 50, **more: Any) -> list[Found]:
    """The same search in several, as if they were one."""
    found = [one for store in stores for one in store.search(text, limit=limit, **more)]
    return sorted(found, key=lambda one: (one.cost, -one.first_unix_ns))[:limit]
