"""Is this word in that text, as a camera in the dark may have read it?"""

import unicodedata
from dataclasses import dataclass, field
from typing import Final

LOOKS: Final = str.maketrans({"o": "0", "i": "1", "|": "1", "s": "5", "b": "8"})
SMALL_L: Final = "ł"  # taken for 1 and I, which a capital L is not
CAPITAL_I: Final = "ı"  # among capitals, where it is no small L
ROUGH: Final = str.maketrans({"l": "1", SMALL_L: "1", CAPITAL_I: "1"})
LETTERS_AN_EDIT: Final = 5  # one reading error is forgiven for each so many letters
MOST_EDITS: Final = 3


def fold(text: str, *, sought: bool = False) -> list[str]:
    """The words of a text, without case, accents, punctuation and what is easily taken for something else.

    Args:
        sought: it is not read but typed by someone, whose capitals mean nothing.

    >>> fold("No  exït-5!"), fold("B1LL"), fold("8ill")
    (['n0', 'ex1t', '5'], ['81ll'], ['81łł'])
    """
    decomposed = unicodedata.normalize("NFKD", text.replace("l", SMALL_L))
    plain = (sign for sign in decomposed if not unicodedata.combining(sign))
    words = "".join(sign if sign.isalnum() or sign == "|" else " " for sign in plain).split()
    return [_look(word, capitals=not sought and word.isupper() and len(word) > 2) for word in words]


@dataclass(frozen=True, slots=True)
class Folded:
    """A text that words are looked for in."""

    words: list[str]
    rough: str  # all of them, without any difference between what looks alike

    @classmethod
    def of(cls, text: str) -> "Folded":
        words = fold(text)
        return cls(words, "".join(words).translate(ROUGH))


def _look(word: str, capitals: bool) -> str:
    if capitals:
        word = word.replace("I", CAPITAL_I)
    return "".join(filter(str.isalnum, word.casefold().translate(LOOKS)))


def edits_forgiven(word: str) -> int:
    """One for each five letters; digits do not count, as another number is no reading error.

    >>> [edits_forgiven(word) for word in ("exit", "emergency exit", "12345", "parking")]
    [0, 2, 0, 1]
    """
    return min(sum(map(str.isalpha, word)) // LETTERS_AN_EDIT, MOST_EDITS)


@dataclass(frozen=True, slots=True)
class Word:
    """A word, or several in a row, to look for. Raises ValueError when it has no letter and no digit."""

    text: str
    _sought: str = field(init=False, repr=False)
    _edits: int = field(init=False, repr=False)
    _pieces: tuple[str, ...] = field(init=False, repr=False)  # with so many errors one of these is still right

    def __post_init__(self) -> None:
        sought, edits = "".join(fold(self.text, sought=True)), edits_forgiven(self.text)
        if not sought:
            raise ValueError(f"{self.text!r} has no letter and no digit to look for")
        rough, step = sought.translate(ROUGH), -(-len(sought) // (edits + 1))
        object.__setattr__(self, "_sought", sought)
        object.__setattr__(self, "_edits", edits)
        object.__setattr__(self, "_pieces", tuple(rough[at : at + step] for at in range(0, len(rough), step)))

    def is_in(self, text: Folded) -> bool:
        """Whether some words of a text, in a row and with their gaps anywhere, make this one."""
        words = text.words
        if not any(piece in text.rough for piece in self._pieces):
            return False
        least, most = len(self._sought) - self._edits, len(self._sought) + self._edits
        for first in range(len(words)):
            candidate = ""
            for word in words[first:]:
                candidate += word
                if len(candidate) > most:
                    break
                if len(candidate) >= least and within(self._sought, candidate, self._edits):
                    return True
        return False


def within(sought: str, read: str, edits: int) -> bool:
    """Whether the edit distance of two folded words is at most `edits`; signs that look alike count as the same.

    >>> within("parking", "parkng", 1), within("exit", "exlt", 0), within("hall", "ha1l", 0)
    (True, False, False)
    """
    row = list(range(len(read) + 1))
    for i, sign in enumerate(sought, 1):
        before, row = row, [i]
        for j, other in enumerate(read, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (not alike(sign, other))))
        if min(row) > edits:
            return False
    return row[-1] <= edits


ALIKE: Final = frozenset({"l" + SMALL_L, SMALL_L + "l", SMALL_L + "1", "1" + SMALL_L, "1" + CAPITAL_I})


def alike(sought: str, read: str) -> bool:
    """Whether a folded sign may have been read as another."""
    return sought == read or sought + read in ALIKE
