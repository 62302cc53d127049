"""Text as it is searched: without case, accents and punctuation; and as a reader of characters may confuse it."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

GAP: Final = "  "  # around each word: trigrams then tell beginnings and ends, and one letter that begins a word
_BY_CHARACTER = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"  # written without spaces
_WORD = re.compile(rf"[{_BY_CHARACTER}]|[^\W_{_BY_CHARACTER}]+")
_NO_MARK = str.maketrans({"ø": "o", "đ": "d", "ł": "l", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th", "ð": "d"})

_LOOKS = str.maketrans("01i58269q4", "ollsbzggga")
_LOOK_PAIRS: Final = (("rn", "m"), ("vv", "w"), ("cl", "d"))


def plain(text: str) -> str:
    """Lower case, without accents and umlauts' dots: ß is ss, Å is a, ﬁ is fi.

    >>> plain("Straße CAFÉ Łódź")
    'strasse cafe lodz'
    """
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(character for character in apart if not unicodedata.combining(character))
    return unicodedata.normalize("NFC", bare).casefold().translate(_NO_MARK)


def words(text: str) -> list[str]:
    """Its words, plain; characters of scripts without spaces are words of their own.

    >>> words("B-AB 1234, 出口!")
    ['b', 'ab', '1234', '出', '口']
    """
    return _WORD.findall(plain(text))


def folded(text: str) -> str:
    """Its words with gaps around each; empty where there is none. This is what is indexed.

    >>> folded("No parking!")
    '  no  parking  '
    """
    return joined(words(text))


def joined(parts: Sequence[str]) -> str:
    return f"{GAP}{GAP.join(parts)}{GAP}" if parts else ""


def look(word: str) -> str:
    """What words have in common that are easily read as each other.

    >>> look("b0rn") == look("8om"), look("exit") == look("ex1t"), look("clay") == look("day")
    (True, True, True)
    """
    same = word.translate(_LOOKS)
    for pair, one in _LOOK_PAIRS:
        same = same.replace(pair, one)
    return same


def trigrams(text: str) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys(text[at : at + 3] for at in range(len(text) - 2)))


def needle(word: str) -> str:
    """What to look for in folded text for a word that the user gave: anywhere from three letters on, fewer only
    where a word begins.

    >>> needle("king"), needle("no"), needle("n")
    ('king', ' no', '  n')
    """
    return word.rjust(3)


def spans(text: str, found: Sequence[str]) -> list[tuple[int, int]]:
    """Where in a text the needles or words (with gaps) that were found in its folded form stand, [start, end)."""
    parts, places, previous = [], [0], 0  # of each character of the folded text, where it comes from
    for match in _WORD.finditer(_kept_apart(text)):
        start, end = match.span()
        each = [text[start:end].lower()] if text.isascii() else [plain(character) for character in text[start:end]]
        parts.append("".join(each))
        places += [previous, start]
        places += range(start, end) if text.isascii() else (
            start + number for number, shown in enumerate(each) for _ in shown
        )  # fmt: skip
        previous = end
    folds, places = joined(parts), [*places[1:], len(text), len(text)]
    marked = []
    for wanted in found:
        at = folds.find(wanted)
        while at >= 0:
            inside = [place for place in range(at, at + len(wanted)) if folds[place] != " "]
            if inside:
                marked.append((places[inside[0]], places[inside[-1]] + 1))
            at = folds.find(wanted, at + 1)
    return merged(marked)


def merged(marked: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, those that touch made one."""
    made: list[tuple[int, int]] = []
    for start, end in sorted(marked):
        if made and start <= made[-1][1]:
            made[-1] = made[-1][0], max(end, made[-1][1])
        else:
            made.append((start, end))
    return made


def _kept_apart(text: str) -> str:
    """The text with as many characters: letters plain, accents that follow them as letters, all else spaces."""

    if text.isascii():
        return text

    def one(character: str) -> str:
        bare = plain(character)
        return bare[0] if _WORD.match(bare) else "a" if unicodedata.combining(character) else " "

    return "".join(map(one, text))
