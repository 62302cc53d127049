"""How far a word as it was read is from one that is looked for: Levenshtein distance with the costs of a reader."""

import functools
import os.path
from typing import Final

from edge_node.readings.fold import look

CONFUSED: Final = 0.2  # a letter for one that looks the same
ALIKE: Final = 0.5  # for one that looks much the same
WITHIN: Final = 0.2  # more, where it is a part of a longer word
_ALIKE: Final = frozenset(
    frozenset(pair) for pair in ("uv", "ce", "co", "hn", "ft", "17", "0d", "od", "0q", "oq", "yv", "hb", "3b", "6b")
)
_PAIRS: Final = (("rn", "m"), ("vv", "w"), ("cl", "d"), ("nn", "m"), ("ii", "u"), ("li", "h"))


def edits_allowed(length: int) -> int:
    """In a word of so many letters, beside those that look the same."""
    return 0 if length <= 3 else 1 if length <= 8 else 2 if length <= 13 else 3


def most(length: int) -> float:
    """The cost up to which a word of so many letters is found."""
    return edits_allowed(length) + 3 * CONFUSED


def near(wanted: str, seen: str, *, within: bool = False) -> int:
    """Plain edit distance, or with `within` that to the nearest part of `seen`: fast, to sort out candidates.

    Myers, "A fast bit-vector algorithm for approximate string matching", JACM 46 (1999), after Hyyro (2003).

    >>> near("kitten", "sitting"), near("parking", "noparkinq", within=True)
    (3, 1)
    """
    length = len(wanted)
    if not length:
        return 0 if within else len(seen)
    places: dict[str, int] = {}
    for at, character in enumerate(wanted):
        places[character] = places.get(character, 0) | 1 << at
    mask, last = (1 << length) - 1, 1 << (length - 1)
    more, less, score = mask, 0, length
    best = score
    for character in seen:
        equal = places.get(character, 0)
        diagonal = ((((equal & more) + more) ^ more) | equal | less) & mask
        across_more, across_less = (less | ~(diagonal | more)) & mask, more & diagonal
        score += bool(across_more & last) - bool(across_less & last)
        best = min(best, score)
        across_more = (across_more << 1 | (not within)) & mask
        across_less = across_less << 1 & mask
        more, less = (across_less | ~(diagonal | across_more)) & mask, across_more & diagonal
    return best if within else score


def cost(wanted: str, seen: str) -> float:
    """What it takes for `wanted` to be read as `seen` or as a part of it; 0 is the same word.

    >>> cost("exit", "exit"), cost("exit", "ex1t"), cost("corner", "comer"), cost("exit", "exits")
    (0.0, 0.2, 0.2, 0.2)
    """
    ends = len(os.path.commonprefix((wanted, seen)))
    a, b = wanted[ends:], seen[ends:]
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    whole = _cost(a, b, free=False)
    if len(wanted) <= 2 or len(seen) <= len(wanted) or whole <= WITHIN:
        return whole
    return min(whole, _cost(wanted, seen, free=True) + WITHIN)


def _cost(wanted: str, seen: str, *, free: bool) -> float:
    """The table of Wagner and Fischer, with moves for pairs; `free`: what is before and after costs nothing."""
    pairs = [(p, one) for p, one in _PAIRS if (p in wanted and one in seen) or (p in seen and one in wanted)]
    rows = [[0.0 if free else float(at) for at in range(len(seen) + 1)]]
    for i, a in enumerate(wanted, 1):
        row = [float(i)]
        for j, b in enumerate(seen, 1):
            least = min(rows[i - 1][j] + 1, row[j - 1] + 1, rows[i - 1][j - 1] + _letter(a, b))
            for pair, one in pairs:
                if b == one and wanted[i - 2 : i] == pair and i > 1:
                    least = min(least, rows[i - 2][j - 1] + CONFUSED)
                if a == one and seen[j - 2 : j] == pair and j > 1:
                    least = min(least, rows[i - 1][j - 2] + CONFUSED)
            row.append(least)
        rows.append(row)
    return min(rows[-1]) if free else rows[-1][-1]


@functools.lru_cache(4096)
def _letter(a: str, b: str) -> float:
    if a == b:
        return 0.0
    if look(a) == look(b):
        return CONFUSED
    return ALIKE if frozenset((a, b)) in _ALIKE else 1.0
