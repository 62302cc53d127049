"""How rows are found: in the indexes, the newest first, and each looked at once more."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final

from edge_node.readings.fold import GAP, plain, trigrams
from edge_node.readings.fuzzy import Seems
from edge_node.readings.rows import MINUTE_NS, SELECTED, is_sound
from edge_node.readings.writer import quoted

LONGEST_SPAN: Final = 26  # 2^26 minutes: over a hundred years
MOST_RANKED: Final = 100  # rows, or as many as are asked for, with reading errors of which the likest are chosen

Wanted = Sequence[Sequence[Seems]]  # for each word that is looked for, what is taken for it
Hit = tuple[Any, float, list[str]]  # a row, the cost of its reading errors, what was found in its folded text


def search_rows(
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
        try:
            if row["key"] in without or not of_camera(row, camera):
                continue
            hit = _match(row["folded"], wanted)
        except (TypeError, AttributeError):  # by damage no text
            hit = (0.0, [])
        if hit is not None and is_sound(row):
            hits.append((row, *hit))
            if len(hits) >= limit:
                break
    return hits


def nearest_rows(
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
    most_ranked = max(MOST_RANKED, limit)
    more = search_rows(database, indexed, near, window, camera, most_ranked, have)
    if len(more) == most_ranked:  # there are others, older and perhaps liker
        for most in sorted({seems.cost for one in near for seems in one if seems.cost > 0}):
            if len(found) >= limit:
                return found
            level = [[seems for seems in one if seems.cost <= most] for one in near]
            have = frozenset(row["key"] for row, _, _ in found)
            found = found + search_rows(database, indexed, level, window, camera, limit - len(found), have)
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


def of_camera(row: Any, name: str) -> bool:
    return not name or name in plain(row["name"]) or name in plain(row["edge"])
