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
from edge_node.readings.fold import GAP, needle, plain, spans, trigrams, words
from edge_node.readings.fuzzy import Seems, look_alikes
from edge_node.readings.rows import MINUTE_NS, SELECTED, Found, found_of
from edge_node.readings.schema import is_broken, open_to_read
from edge_node.readings.writer import quoted

NAME: Final = "readings.db"
FOREVER_NS: Final = 2**62
PAGE: Final = 1000  # rows at a time when all are read
MOST_RANKED: Final = 400  # rows with reading errors of which the likest are chosen
LONGEST_TEXT: Final = 256
LONGEST_SPAN: Final = 26  # 2^26 minutes: over a hundred years

Wanted = Sequence[Sequence[Seems]]  # for each word that is looked for, what is taken for it


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
                found = _search(database, self._indexed, wanted, window, plain(camera), limit)
                if fuzzy and wanted and len(found) < limit:
                    near = [look_alikes(database, one[0].word, self._indexed) for one in wanted]
                    found = _nearest(database, self._indexed, near, window, plain(camera), limit, found)
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
        """As `all`, the columns as they are kept."""
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
            yield from (row for row in rows if _of_camera(row, name))
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


Hit = tuple[Any, float, list[str]]  # a row, the cost of its reading errors, what was found in its folded text


def _search(
    database: sqlite3.Connection,
    indexed: bool,
    wanted: Wanted,
    window: tuple[int, int],
    camera: str,
    limit: int,
    without: frozenset[int] = frozenset(),
) -> list[Hit]:
    """The newest rows in which something is found for each word."""
    hits: list[Hit] = []
    for row in _candidates(database, indexed, wanted, window):
        if row["key"] in without or not _of_camera(row, camera):
            continue
        hit = _match(row["folded"], wanted)
        if hit is not None:
            hits.append((row, *hit))
            if len(hits) >= limit:
                break
    return hits


def _nearest(
    database: sqlite3.Connection,
    indexed: bool,
    near: Wanted,
    window: tuple[int, int],
    camera: str,
    limit: int,
    found: list[Hit],
) -> list[Hit]:
    """More rows after those that were found: the likest first, the newest of these first."""
    if not all(near):
        return found  # there is a word that nothing is like
    have = frozenset(row["key"] for row, _, _ in found)
    more = _search(database, indexed, near, window, camera, MOST_RANKED, have)
    if len(more) == MOST_RANKED:  # there are others, older and perhaps liker
        for most in sorted({seems.cost for one in near for seems in one if seems.cost > 0}):
            if len(found) >= limit:
                return found
            level = [[seems for seems in one if seems.cost <= most] for one in near]
            have = frozenset(row["key"] for row, _, _ in found)
            found = found + _search(database, indexed, level, window, camera, limit - len(found), have)
        more = []
    return sorted(found + more, key=lambda hit: hit[1])[:limit]  # stable: the newest stay first


def _match(folded: str, wanted: Wanted) -> tuple[float, list[str]] | None:
    total, seen = 0.0, []
    for one in wanted:
        best = next((seems for seems in one if seems.text in folded), None)  # they are in order of cost
        if best is None:
            return None
        total += best.cost
        seen.append(best.text)
    return round(total, 3), seen


def _candidates(database: sqlite3.Connection, indexed: bool, wanted: Wanted, window: tuple[int, int]) -> Iterator[Any]:
    """Rows in that time that may match, the newest first."""
    since, until = window
    # What came into sight up to a minute before is looked through; the rest of what was still there, looked up.
    newest, oldest = until // 10**6, max(0, since - MINUTE_NS) // 10**6
    if not wanted or not indexed:
        where = "s.key BETWEEN ? AND ? AND s.last_ns >= ?"
        given: list[Any] = [oldest, newest, since]
        for one in wanted:
            where += f" AND ({' OR '.join('instr(s.folded, ?)' for _ in one)})"
            given += [seems.text for seems in one]
        rows = database.execute(f"SELECT {SELECTED} FROM sights s WHERE {where} ORDER BY s.key DESC", given)
    else:
        index, match = expression(wanted)
        rows = database.execute(
            f"SELECT {SELECTED} FROM {index} g CROSS JOIN sights s ON s.key = g.rowid "
            f"WHERE g.{index} MATCH ? AND g.rowid BETWEEN ? AND ? AND s.last_ns >= ? ORDER BY g.rowid DESC",
            (match, oldest, newest, since),
        )
    yield from rows
    if oldest:
        yield from _lasting(database, oldest, since)


def _lasting(database: sqlite3.Connection, oldest: int, since: int) -> list[Any]:
    """What came into sight before that key and was still there: of each class of spans a short range of keys."""
    statement = f"SELECT {SELECTED} FROM sights s WHERE span > 0 AND span = ? AND key >= ? AND key < ? AND last_ns >= ?"
    found: list[Any] = []
    for span in range(1, LONGEST_SPAN):
        begin = oldest - (MINUTE_NS // 10**6 << span)
        found += database.execute(statement, (span, begin, oldest, since)).fetchall()
        if begin <= 0:
            break
    return sorted(found, key=lambda row: -row["key"])


def expression(wanted: Wanted) -> tuple[str, str]:
    """Which index has every text in which something is found for each word, and an FTS5 expression for that.

    >>> expression([[Seems("exit", 0)], [Seems(" no", 0)]])
    ('grams', '"exi" AND "xit" AND " no"')
    >>> expression([[Seems("  exit  ", 0), Seems("  ex1t  ", 0.2)], [Seems("  no  ", 0)]])
    ('row_words', '("exit" OR "ex1t") AND ("no")')
    """
    if all(seems.text.startswith(GAP) and seems.text.endswith(GAP) for one in wanted for seems in one):
        each = (" OR ".join(quoted(seems.word) for seems in one) for one in wanted)
        return "row_words", " AND ".join(f"({one})" for one in each)
    return "grams", " AND ".join(quoted(gram) for (seems,) in wanted for gram in trigrams(seems.text))


def _of_camera(row: Any, name: str) -> bool:
    return not name or name in plain(row["name"]) or name in plain(row["edge"])


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
