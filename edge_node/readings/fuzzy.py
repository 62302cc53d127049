"""Words that may be another one, read wrongly: from the list of all words that were ever read, by their trigrams."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge_node.readings.distance import cost, edits_allowed, most, near
from edge_node.readings.fold import GAP, look, trigrams
from edge_node.readings.writer import quoted

CANDIDATES: Final = 400  # that share the most trigrams, looked at more closely
TAKEN: Final = 40  # the nearest of them
PARTS: Final = 20  # more, that have the word in them: what is not misread is found by another way
LONG: Final = 6  # letters that leave enough trigrams without the outermost
SHORTEST_PART: Final = 4  # letters that a longer word may have within it, with reading errors


@dataclass(frozen=True, slots=True)
class Seems:
    """What is taken for a word that is looked for, as it stands in folded text, and the cost of that."""

    text: str
    cost: float

    @property
    def word(self) -> str:
        return self.text.strip()


def look_alikes(database: sqlite3.Connection, word: str, indexed: bool) -> list[Seems]:
    """Words that were read and are this one, or have it in them, or may be it by mistake: the likest first."""
    seems, edits = look(word), edits_allowed(len(word))
    if indexed:
        # The first and the last letter alone are of very many words: only short ones need them.
        pad = " " if len(seems) >= LONG else GAP
        whole = trigrams(f"{pad}{seems}{pad}")
        candidates = _sharing(database, whole, edits)
        if len(word) >= 3:  # within others with an edit less, or there would be too many
            candidates |= _sharing(database, trigrams(seems), max(0, edits - 1))
    else:
        candidates = dict(database.execute("SELECT word, trim(look) FROM words").fetchall())
    ranked = sorted((_cost(word, seems, other, looks, edits), len(other), other) for other, looks in candidates.items())
    exact = [other for at, _, other in ranked if at == 0]
    near_by = [(at, other) for at, _, other in ranked if 0 < at <= most(len(word))]
    taken = [*((0.0, other) for other in exact[: 1 + PARTS]), *near_by[:TAKEN]]
    return [Seems(f"{GAP}{other}{GAP}", at) for at, other in taken]


def _cost(word: str, seems: str, other: str, looks: str, edits: int) -> float:
    """Of reading `word` as `other`; 0 also where that has the word in it. Infinite where it is another word."""
    if word == other or (len(word) >= 3 and word in other):
        return 0.0
    within = len(word) >= SHORTEST_PART and near(seems, looks, within=True) <= max(0, edits - 1)
    if within or near(seems, looks) <= edits:
        return round(cost(word, other), 3)
    return float("inf")


def _sharing(database: sqlite3.Connection, grams: Sequence[str], edits: int) -> dict[str, str]:
    """Words that share so many of these trigrams as so many edits leave, with what they look like."""
    if not grams:
        return {}
    least = max(1, len(grams) - 3 * edits)  # an edit spoils three at most
    if least == len(grams):
        rows = database.execute(
            "SELECT w.word, trim(w.look) FROM word_grams g CROSS JOIN words w ON w.id = g.rowid "
            "WHERE g.word_grams MATCH ? LIMIT ?",
            (" AND ".join(map(quoted, grams)), CANDIDATES),
        )
    else:
        each = " UNION ALL ".join("SELECT rowid AS id FROM word_grams WHERE word_grams MATCH ?" for _ in grams)
        rows = database.execute(
            f"SELECT w.word, trim(w.look) FROM (SELECT id, count(*) AS shared FROM ({each}) GROUP BY id "
            "HAVING shared >= ? ORDER BY shared DESC LIMIT ?) c CROSS JOIN words w ON w.id = c.id",
            (*map(quoted, grams), least, CANDIDATES),
        )
    return dict(rows.fetchall())
