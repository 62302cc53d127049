"""Into the database: sights by their id, in few and short transactions, and out again when there are too many."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from edge_node.readings.fold import GAP, look
from edge_node.readings.rows import COLUMNS, MINUTE_NS, Row, span_of, updated
from edge_node.readings.schema import open_to_write

KNOWN_WORDS: Final = 20_000  # in memory, so that those seen before cost no statement
MERGED_PAGES: Final = 64  # of an index at a time
INDEXES: Final = ("grams", "row_words", "word_grams")
FREE_PAGES: Final = 256  # given back to the file system at a time, 1 MiB
_SET = ", ".join(f"{name} = :{name}" for name in COLUMNS if name not in ("key", "id"))
_INSERT = f"INSERT INTO sights ({', '.join(COLUMNS)}) VALUES ({', '.join(f':{name}' for name in COLUMNS)})"
_UPDATE = f"UPDATE sights SET key = :key, {_SET} WHERE key = :old_key"
_KNOWN = f"SELECT {', '.join(COLUMNS)} FROM sights WHERE id = ?"
_SEEN = "UPDATE sights SET last_ns = ?, span = ? WHERE key = ?"
_ADD = "UPDATE totals SET value = value + ? WHERE name = ?"


class Writer:
    """One database, from one thread at a time.

    Raises:
        ReadingsError: it is from a newer version, or needs an SQLite with FTS5.
        sqlite3.DatabaseError: it is damaged or cannot be opened; every method raises it too.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database, self.indexed = open_to_write(path)
        self._inode = path.stat().st_ino
        self._known: set[str] = set()

    @property
    def is_there(self) -> bool:
        """Whether the database is still where it was opened: someone may have moved it away."""
        try:
            return self.path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def put(self, rows: Sequence[Row], replace: bool = True) -> list[str]:
        """Keep these, all or none; one with an id that is there replaces that, and keeps its crop if it has none.

        Args:
            replace: False where these are older than what is there: then that only takes a crop that it lacks.

        Returns:
            Crops that are nobody's any more, relative to the output folder.
        """
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            next_key: dict[int, int] = {}
            gone: list[str] = []
            changes = [self._put(row, next_key, replace, gone) for row in rows]
            self._add(sum(new for new, _ in changes), sum(crops for _, crops in changes))
            database.execute("COMMIT")
            return gone
        except BaseException:
            self._back()
            raise

    def seen(self, last_ns: Mapping[str, int]) -> None:
        """Note when sights, by their id, were last seen; those that are not there are left out."""
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            for id, last in last_ns.items():
                row = database.execute("SELECT key, first_ns, last_ns FROM sights WHERE id = ?", (id,)).fetchone()
                if row is not None and row[2] < last:
                    database.execute(_SEEN, (last, span_of(last - row[1]), row[0]))
            database.execute("COMMIT")
        except BaseException:
            self._back()
            raise

    def remove(self, keys: Sequence[int]) -> list[str]:
        """Remove these, all or none; returns the crops that belonged to them, relative to the output folder."""
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            crops, rows, size, gone = [], 0, 0, set[str]()
            for key in keys:
                row = database.execute("SELECT folded, crop, crop_bytes FROM sights WHERE key = ?", (key,)).fetchone()
                if row is None:
                    continue
                self._unindex(key, row[0])
                database.execute("DELETE FROM sights WHERE key = ?", (key,))
                gone.update(row[0].split())
                crops += [row[1]] if row[1] else []
                rows, size = rows + 1, size + row[2]
            self._forget_words(gone)
            self._add(-rows, -size)
            database.execute("COMMIT")
            return crops
        except BaseException:
            self._back()
            raise

    def before(self, unix_ns: int, limit: int) -> list[int]:
        """Keys of what was last seen before, the oldest first."""
        cutoff = (unix_ns, unix_ns // 10**6, limit)
        statement = "SELECT key FROM sights WHERE last_ns < ? AND key < ? ORDER BY key LIMIT ?"
        return [key for (key,) in self._database.execute(statement, cutoff)]

    def oldest(self, limit: int) -> list[int]:
        """Keys of what was seen first."""
        return [key for (key,) in self._database.execute("SELECT key FROM sights ORDER BY key LIMIT ?", (limit,))]

    def newest_ns(self) -> int | None:
        """When what came into sight last was last seen; None where there is nothing."""
        row = self._database.execute("SELECT last_ns FROM sights ORDER BY key DESC LIMIT 1").fetchone()
        return None if row is None else int(row[0])

    def named(self, crops: Sequence[str]) -> set[str]:
        """Those that a row has; reads all rows, so ask for all at once."""
        statement = "SELECT crop FROM sights WHERE crop IN (SELECT value FROM json_each(?))"
        return {crop for (crop,) in self._database.execute(statement, (json.dumps(list(crops)),))}

    @property
    def used_bytes(self) -> int:
        """Of the database without its free pages, and of the crops."""
        pages, free, size = (self._pragma(name) for name in ("page_count", "freelist_count", "page_size"))
        return (pages - free) * size + self._total("crop_bytes")

    @property
    def rows(self) -> int:
        return self._total("rows")

    def give_back(self) -> bool:
        """Return some free pages to the file system; whether there are more."""
        self._database.execute(f"PRAGMA incremental_vacuum({FREE_PAGES})").fetchall()
        return self._pragma("freelist_count") > 0

    def merge(self, begin: bool) -> bool:
        """A step of merging the parts of the indexes, which frees what removed rows took there; whether there is more.

        Args:
            begin: whether it is the first step.
        """
        more = False
        for index in INDEXES if self.indexed else ():
            before = self._database.total_changes
            pages = -MERGED_PAGES if begin else MERGED_PAGES
            self._database.execute(f"INSERT INTO {index} ({index}, rank) VALUES ('merge', ?)", (pages,))
            more |= self._database.total_changes - before >= 2  # as FTS5's documentation has it
        return more

    def tidy(self) -> None:
        """Bring what is in the log into the database itself, which is cut to its size with that."""
        self._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        self._database.close()

    def _put(self, row: Row, next_key: dict[int, int], replace: bool, gone: list[str]) -> tuple[int, int]:
        """Returns how many rows there are more, and by how many bytes the crops have grown."""
        found = self._database.execute(_KNOWN, (row["id"],)).fetchone()
        if found is None:
            key = self._free_key(row["first_ns"] // 10**6, next_key)
            self._database.execute(_INSERT, {**row, "key": key})
            self._index(key, row["folded"])
            return 1, int(row["crop_bytes"])
        old = dict(zip(COLUMNS, found, strict=True))
        row = updated(old, row) if replace else updated(row, old)
        key = old["key"]
        moved = abs(row["first_ns"] - old["first_ns"]) > MINUTE_NS
        if moved:
            key = self._free_key(row["first_ns"] // 10**6, next_key)
        self._database.execute(_UPDATE, {**row, "key": key, "old_key": old["key"]})
        if moved or old["folded"] != row["folded"]:
            self._unindex(old["key"], old["folded"])
            self._index(key, row["folded"])
            self._forget_words(set(old["folded"].split()) - set(row["folded"].split()))
        if old["crop"] and old["crop"] != row["crop"]:
            gone.append(old["crop"])
        return 0, int(row["crop_bytes"]) - int(old["crop_bytes"])

    def _add(self, rows: int, crop_bytes: int) -> None:
        for name, change in (("rows", rows), ("crop_bytes", crop_bytes)):
            if change:
                self._database.execute(_ADD, (change, name))

    def _total(self, name: str) -> int:
        return int(self._database.execute("SELECT value FROM totals WHERE name = ?", (name,)).fetchone()[0])

    def _free_key(self, key: int, next_key: dict[int, int]) -> int:
        begin, key = key, max(key, next_key.get(key, key))
        while self._database.execute("SELECT 1 FROM sights WHERE key = ?", (key,)).fetchone() is not None:
            key += 1
        next_key[begin] = key + 1
        return key

    def _index(self, key: int, folded: str) -> None:
        if not folded:
            return
        if self.indexed:
            for index in ("grams", "row_words"):
                self._database.execute(f"INSERT INTO {index} (rowid, folded) VALUES (?, ?)", (key, folded))
        new = set(folded.split()) - self._known
        for word in new:
            seems = f"{GAP}{look(word)}{GAP}"
            insert = "INSERT INTO words (word, look) VALUES (?, ?) ON CONFLICT DO NOTHING"
            cursor = self._database.execute(insert, (word, seems))
            if self.indexed and cursor.rowcount:
                self._database.execute("INSERT INTO word_grams (rowid, look) VALUES (?, ?)", (cursor.lastrowid, seems))
        if len(self._known) > KNOWN_WORDS:
            self._known.clear()
        self._known |= new

    def _unindex(self, key: int, folded: str) -> None:
        for index in ("grams", "row_words") if folded and self.indexed else ():
            delete = f"INSERT INTO {index} ({index}, rowid, folded) VALUES ('delete', ?, ?)"
            self._database.execute(delete, (key, folded))

    def _forget_words(self, gone: set[str]) -> None:
        """Take words that no row has any more out of the list."""
        for word in gone if self.indexed else ():
            used = "SELECT 1 FROM row_words WHERE row_words MATCH ? LIMIT 1"
            if self._database.execute(used, (quoted(word),)).fetchone():
                continue
            self._known.discard(word)
            row = self._database.execute("DELETE FROM words WHERE word = ? RETURNING id, look", (word,)).fetchone()
            if row is not None:
                self._database.execute("INSERT INTO word_grams (word_grams, rowid, look) VALUES ('delete', ?, ?)", row)

    def _back(self) -> None:
        self._known.clear()
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def _pragma(self, name: str) -> int:
        return int(self._database.execute(f"PRAGMA {name}").fetchone()[0])


def quoted(term: str) -> str:
    """A term of an FTS5 expression in which nothing is syntax.

    >>> quoted('a"b')
    '"a""b"'
    """
    return '"' + term.replace('"', '""') + '"'
