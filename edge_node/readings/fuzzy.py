"""Words that may be another one, read wrongly: from the list of all words that were ever read, by their trigrams."""

import sqlite3
from dataclasses import dataclass
from typing import Final

from edge_node.readings.distance import cost, edits_allowed, most, near
from edge_node.readings.fold import GAP, look, trigrams

CANDIDATES: Final = 2000  # that share the most trigrams, looked at more closely
TAKEN: Final = 40  # the nearest of them


@dataclass(frozen=True, slots=True)
class Seems:
    """What is taken for a word that is looked for, as it stands in folded text, and the cost of that."""

    text: str
    cost: float


def look_alikes(database: sqlite3.Connection, word: str, indexed: bool) -> list[Seems]:
    """Words that were read and may be this one, the likest first."""
    seems, edits = look(word), edits_allowed(len(word))
    within = len(seems) >= 3 * edits + 3  # else too little is left of it to find it within others
    close = []
    for other, looks in _candidates(database, seems, edits, within, indexed):
        looks = looks.strip()
        # Within others with one edit less: there would be too many.
        inside = within and len(word) > 3 and near(seems, looks, within=True) < max(1, edits)
        if inside or near(seems, looks) <= edits:
            close.append(other)
    ranked = sorted((round(cost(word, other), 3), other) for other in close)
    return [Seems(f"{GAP}{other}{GAP}", at) for at, other in ranked[:TAKEN] if 0 < at <= most(len(word))]


def _candidates(
    database: sqlite3.Connection, seems: str, edits: int, within: bool, indexed: bool
) -> list[tuple[str, str]]:
    if not indexed:
        return [(word, looks) for word, looks in database.execute("SELECT word, look FROM words")]
    grams = trigrams(seems if within and edits else f"{GAP}{seems}{GAP}")
    # An edit spoils three trigrams at most, so that these many are left.
    shared = max(1, len(grams) - 3 * edits)
    each = " UNION ALL ".join("SELECT rowid AS id FROM word_grams WHERE word_grams MATCH ?" for _ in grams)
    statement = (
        f"SELECT w.word, w.look FROM (SELECT id, count(*) AS shared FROM ({each}) GROUP BY id "
        "HAVING shared >= ? ORDER BY shared DESC LIMIT ?) c CROSS JOIN words w ON w.id = c.id"
    )
    quoted = [f'"{gram}"' for gram in grams]
    return [(word, looks) for word, looks in database.execute(statement, (*quoted, shared, CANDIDATES))]
