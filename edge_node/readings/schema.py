"""The database: its tables, versions, and how it is opened.

Rows have the time of their first sight, in ms since 1970 (or the next that is free), as their key, so that the newest
come first and a time is a range of keys, in the index of trigrams too.
"""

import sqlite3
from pathlib import Path
from typing import Final

from common.errors import ReadingsError

VERSION: Final = 1
APPLICATION: Final = 0x4C616D70  # "Lamp": PRAGMA application_id
BUSY_S: Final = 5.0
LOG_BYTES: Final = 2**20  # of the write-ahead log, once it is brought in; beside the user's bound
CORRUPT, NOT_A_DATABASE = 11, 26  # of SQLite's primary result codes
_HEADER: Final = 100

TABLES: Final = """
CREATE TABLE sights (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    edge TEXT NOT NULL,
    name TEXT NOT NULL,
    text TEXT NOT NULL,
    folded TEXT NOT NULL,
    confidence REAL NOT NULL,
    score REAL NOT NULL,
    first_ns INTEGER NOT NULL,
    last_ns INTEGER NOT NULL,
    span INTEGER NOT NULL,
    frames INTEGER NOT NULL,
    session TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    polygon TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    path TEXT NOT NULL,
    ended INTEGER NOT NULL,
    crop TEXT NOT NULL,
    crop_bytes INTEGER NOT NULL,
    picture TEXT NOT NULL
);
CREATE INDEX lasting ON sights (span, key) WHERE span > 0;
CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE, look TEXT NOT NULL);
CREATE TABLE totals (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO totals VALUES ('crop_bytes', 0), ('rows', 0);
"""
INDEXES: Final = """
CREATE VIRTUAL TABLE grams USING fts5(folded, content='sights', content_rowid='key',
    tokenize='trigram case_sensitive 1', detail='none', columnsize=0);
CREATE VIRTUAL TABLE row_words USING fts5(folded, content='sights', content_rowid='key',
    tokenize='ascii', detail='none', columnsize=0);
CREATE VIRTUAL TABLE word_grams USING fts5(look, content='words', content_rowid='id',
    tokenize='trigram case_sensitive 1', detail='none', columnsize=0);
"""
MIGRATIONS: Final[dict[int, str]] = {}  # from a version to the next: its SQL


def has_trigrams() -> bool:
    """Whether this Python's SQLite has FTS5 with trigrams (3.34); without, every search reads all rows."""
    try:
        with sqlite3.connect(":memory:") as database:
            database.execute("CREATE VIRTUAL TABLE probe USING fts5(a, tokenize='trigram', detail='none')")
    except sqlite3.OperationalError:
        return False
    finally:
        database.close()
    return True


def open_to_write(path: Path) -> tuple[sqlite3.Connection, bool]:
    """The database, made or brought to this version, and whether it has its indexes of trigrams.

    Raises:
        ReadingsError: it is from a newer version, or needs an SQLite with FTS5.
        sqlite3.DatabaseError: it is broken (see `is_broken`), or cannot be opened.
    """
    if is_cut_off(path):
        raise Broken("it is shorter than it says")
    database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        version = check_version(database, path)
        if version == 0:
            database.execute("PRAGMA auto_vacuum=INCREMENTAL")  # counts only before there is a table
        # A killed process loses nothing that was committed; a power cut what the system had not yet written, some
        # seconds of readings, and never the database. An fsync a second would wear out an SD card for that.
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        database.execute(f"PRAGMA wal_autocheckpoint={LOG_BYTES // 4096}")
        database.execute(f"PRAGMA journal_size_limit={LOG_BYTES}")
        database.execute("PRAGMA secure_delete=FAST")
        database.execute("PRAGMA cache_size=-4096")
        for script in _scripts(version):
            database.executescript(f"BEGIN IMMEDIATE;{script};COMMIT")
        return database, indexed(database, path)
    except BaseException:
        database.close()
        raise


def _scripts(version: int) -> list[str]:
    if version == 0:
        mark = f"PRAGMA application_id={APPLICATION};PRAGMA user_version={VERSION}"
        return [f"{TABLES}{INDEXES if has_trigrams() else ''}{mark}"]
    return [f"{MIGRATIONS[at]};PRAGMA user_version={at + 1}" for at in range(version, VERSION)]


def open_to_read(path: Path) -> tuple[sqlite3.Connection, bool]:
    """The database as it is, beside whoever writes it, and whether it has its indexes of trigrams.

    Raises:
        ReadingsError: there is none, it cannot be read, or it is of another version.
    """
    if not path.is_file():
        raise ReadingsError(f"no readings are kept in {path}: name the folder given with --output to the edge node")
    quoted = path.absolute().as_uri()
    # Without a log beside it nobody writes, and a folder that is read-only does not matter.
    immutable = "" if path.with_name(path.name + "-wal").exists() else "&immutable=1"
    for more in ("", immutable):
        try:
            database = sqlite3.connect(f"{quoted}?mode=ro{more}", uri=True, timeout=BUSY_S, check_same_thread=False)
            try:
                version = check_version(database, path)
                if version < VERSION:
                    words = "it is empty" if version == 0 else f"it has schema {version}: start the edge node once"
                    raise ReadingsError(f"cannot read {path}: {words}")
                database.text_factory = lenient
                return database, indexed(database, path)
            except BaseException:
                database.close()
                raise
        except sqlite3.Error as error:
            failure = error
    raise ReadingsError(f"cannot read {path}: {failure}") from None


def check_version(database: sqlite3.Connection, path: Path) -> int:
    """Its version, 0 for a new one. Raises ReadingsError when it is newer than this program, or another program's."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (application,) = database.execute("PRAGMA application_id").fetchone()
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    # The first of ours had no mark; what a newer version has for tables, nobody knows.
    ours = application == APPLICATION or (application == 0 and (not tables or version > VERSION or "sights" in tables))
    if not ours or (version == 0 and tables):
        raise ReadingsError(
            f"{path} is a database of another program and is left as it is: move it away, or give --output another "
            "folder"
        )
    if version > VERSION:
        raise ReadingsError(
            f"{path} was made by a newer Lamplight (schema {version}, this one knows {VERSION}) and is left as it is: "
            "update this one, or give --output another folder"
        )
    return int(version)


def indexed(database: sqlite3.Connection, path: Path) -> bool:
    """Whether it has its indexes. Raises ReadingsError when this SQLite cannot read them."""
    has = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'grams'").fetchone() is not None
    if has and not has_trigrams():
        raise ReadingsError(
            f"{path} needs an SQLite with FTS5 and trigrams (3.34 or newer); this Python has {sqlite3.sqlite_version}"
        )
    return has


def lenient(text: bytes) -> str:
    """Text that damage may have made no UTF-8: one such row must not end a search."""
    return text.decode(errors="replace")


class Broken(sqlite3.DatabaseError):
    """A database that is damaged; found before SQLite does."""


def is_broken(error: sqlite3.Error) -> bool:
    """Whether an error says that the database is damaged, and not that the disk is full or the like."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, Broken) or code in (CORRUPT, NOT_A_DATABASE)


def is_cut_off(path: Path) -> bool:
    """Whether a database that nobody writes is shorter than its header says."""
    log = path.with_name(path.name + "-wal")
    if not path.is_file() or (log.exists() and log.stat().st_size):
        return False
    with path.open("rb") as file:
        header = file.read(_HEADER)
    if not header:
        return False
    if len(header) < _HEADER:
        return True
    page = int.from_bytes(header[16:18], "big")
    pages, counts = int.from_bytes(header[28:32], "big"), header[24:28] == header[92:96]
    return counts and path.stat().st_size < pages * (65536 if page == 1 else page)
