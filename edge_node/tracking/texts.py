"""How alike two texts are, and one text out of many readings of it.

References:
    Myers, A fast bit-vector algorithm for approximate string matching, JACM 1999 (distance).
    Fiscus, A post-processing system to yield reduced word error rates: ROVER, ASRU 1997 (voting).
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

MOST_LETTERS: Final = 128  # of a text that take part in a vote
MOST_AGREEING: Final = 6  # readings that add to the confidence
ECHO: Final = 0.5  # each further frame that agrees counts so much of the one before: they share their mistakes
FADING: Final = 0.98  # of all votes with each new one, so that a display that counts up is followed
FORGOTTEN: Final = 1e-3  # of all votes: a letter with less is not kept
SAME, SKIPPED, NEW = range(3)  # how a step lines up: letter with place, a place left out, a letter without one


@lru_cache(4096)
def distance(one: str, other: str) -> float:
    """Edits (Levenshtein) in terms of the longer text, 0..1.

    >>> distance("B 123 XYZ", "B 128 XYZ"), distance("", ""), distance("a", "")
    (0.1111111111111111, 0.0, 1.0)
    """
    if one == other:
        return 0.0
    if not one or not other:
        return 1.0
    if len(one) < len(other):
        one, other = other, one
    places: dict[str, int] = {}
    for place, letter in enumerate(one):
        places[letter] = places.get(letter, 0) | 1 << place
    mask, last, edits = (1 << len(one)) - 1, 1 << len(one) - 1, len(one)
    up, down = mask, 0
    for letter in other:
        match = places.get(letter, 0)
        zero = (((match & up) + up) ^ up) | match | down
        right, left = down | ~(zero | up) & mask, up & zero
        edits += bool(right & last) - bool(left & last)
        right, left = right << 1 | 1, left << 1
        up, down = (left | ~(zero | right)) & mask, right & zero & mask
    return edits / len(one)


@dataclass(slots=True)
class Vote:
    """Readings of one text, lined up letter by letter; each place is won by the letter with the most confidence."""

    _places: list[dict[str, float]] = field(default_factory=list)  # weight of each letter, "" = none
    _total: float = 0.0
    _agreeing: dict[str, list[float]] = field(default_factory=dict)  # the highest confidences of each text
    _shown: tuple[str, float] | None = None

    def add(self, text: str, confidence: float) -> None:
        """Take one frame's reading; an empty one says nothing."""
        text = text[:MOST_LETTERS]
        if not text:
            return
        weight = max(confidence, 0.01) ** 2
        winners = [max(place, key=place.__getitem__) for place in self._places]
        path = list(enumerate(winners)) if "".join(winners) == text else self._line_up(text)
        self._total *= FADING
        least = FORGOTTEN * self._total
        for at, place in enumerate(self._places):
            faded = {letter: weight * FADING for letter, weight in place.items()}
            self._places[at] = {letter: weight for letter, weight in faded.items() if weight >= least}
        for index, letter in path:
            if index < 0:  # a place that no reading had before
                continue
            place = self._places[index]
            place[letter] = place.get(letter, 0.0) + weight
        for where, letter in reversed([(-index - 1, letter) for index, letter in path if index < 0]):
            self._places.insert(where, {"": self._total, letter: weight} if self._total else {letter: weight})
        self._total += weight
        self._places = [place for place in self._places if place.get("", 0.0) < 0.97 * self._total]
        best = self._agreeing.setdefault(text, [])
        best.append(confidence)
        best.sort(reverse=True)
        del best[MOST_AGREEING:]
        if len(self._agreeing) > 32:
            del self._agreeing[min(self._agreeing, key=lambda known: sum(self._agreeing[known]))]
        self._shown = None

    @property
    def text(self) -> str:
        return self.result()[0]

    def result(self) -> tuple[str, float]:
        """The voted text and its confidence, 0..1: what the readings that agree say together, less the doubt where
        the weakest letter was read otherwise."""
        if self._shown is None:
            self._shown = self._count()
        return self._shown

    def _count(self) -> tuple[str, float]:
        winners = [max(place.items(), key=lambda item: item[1]) for place in self._places]
        text = "".join(letter for letter, _ in winners)
        if not text:
            return "", 0.0
        share = min(weight / sum(place.values()) for (_, weight), place in zip(winners, self._places, strict=True))
        agreeing = self._agreeing.get(text)
        if agreeing is None:  # no single frame read it so
            nearest = min(self._agreeing, key=lambda known: distance(known, text))
            agreeing = self._agreeing[nearest][:1]
        wrong = math.prod((1 - min(c, 0.999)) ** (ECHO**rank) for rank, c in enumerate(agreeing))
        return text, min(max((1 - wrong) * share, 0.0), 1.0)

    def _line_up(self, text: str) -> list[tuple[int, str]]:
        """(place, letter) for each letter, "" where the text has none; place -1 - i for a new one before place i."""
        places = self._places
        total = self._total or 1.0
        rows, columns = len(places), len(text)
        costs = [{letter: 1 - weight / total for letter, weight in place.items()} for place in places]
        cost, came = [[float(j) for j in range(columns + 1)]], [[NEW] * (columns + 1)]
        for i, of in enumerate(costs):
            skip, above = of.get("", 1.0), cost[i]
            here, ways = [above[0] + skip], [SKIPPED]
            for j, letter in enumerate(text):
                best, way = above[j] + of.get(letter, 1.0), SAME
                if above[j + 1] + skip < best:
                    best, way = above[j + 1] + skip, SKIPPED
                if here[j] + 1 < best:
                    best, way = here[j] + 1, NEW
                here.append(best)
                ways.append(way)
            cost.append(here)
            came.append(ways)
        path, i, j = list[tuple[int, str]](), rows, columns
        while i or j:
            way = came[i][j]
            if way == SAME:
                i, j = i - 1, j - 1
                path.append((i, text[j]))
            elif way == SKIPPED:
                i -= 1
                path.append((i, ""))
            else:
                j -= 1
                path.append((-1 - i, text[j]))
        return path[::-1]
