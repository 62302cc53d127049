"""Which script a text is in, by the names of its letters in the Unicode Character Database."""

import unicodedata
from functools import cache


def mostly_latin(text: str) -> bool:
    """Whether more than half of the letters are Latin; digits and signs are none, and a text of them alone is Latin."""
    letters = [char for char in text if char.isalpha()]
    return not letters or 2 * sum(map(_latin, letters)) > len(letters)


@cache
def _latin(letter: str) -> bool:
    return letter.isascii() or "LATIN" in unicodedata.name(letter, "")
