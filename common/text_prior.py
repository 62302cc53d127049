"""Which letters follow which in text of a kind: what decides where the recogniser is in doubt.

References:
    Witten and Bell, The zero-frequency problem, IEEE Transactions on Information Theory 1991 (method C: how much of
    the likelihood goes to what was not seen).
"""

import gzip
import math
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

from common.errors import SettingsError, WeightsError

ORDER: Final = 4  # letters, the one in question and those before it
UNSEEN: Final = 1 / 97  # of a letter that the text never has: as if there were so many
MOST_BYTES: Final = 16 * 2**20  # of a user's file
CACHED: Final = 16_384  # likelihoods in memory, some 400 bytes each
NONE: Final = "none"
PACKAGED: Final = {"receipts": Path(__file__).parent / "priors" / "receipts.tsv.gz"}


class TextPrior:
    """Letters' likelihoods after the letters before them, learned from lines of text; case does not count.

    Args:
        grams: how often each run of up to ORDER letters ends at its last letter; a line begins and ends with a space.
    """

    def __init__(self, grams: "Counter[str]") -> None:
        self._seen: Counter[str] = Counter()  # runs of 1..ORDER letters
        self._after: Counter[str] = Counter()  # what precedes a letter: how often, and by how many kinds followed
        self._kinds: Counter[str] = Counter()
        for gram, count in grams.items():
            for start in range(len(gram)):
                self._seen[gram[start:]] += count
        for run, count in self._seen.items():
            self._after[run[:-1]] += count
            self._kinds[run[:-1]] += 1
        self.log_likelihood = lru_cache(maxsize=CACHED)(self._log_likelihood)

    def knows(self, text: str) -> bool:
        """Whether at least half of a text's letters occur in what was learned; else it is of another script."""
        letters = [letter for letter in text.upper() if letter != " "]
        return 2 * sum(letter in self._seen for letter in letters) >= len(letters)

    def _log_likelihood(self, before: str, letter: str) -> float:
        """Natural logarithm of a letter's likelihood after `before`, at most ORDER - 1 letters; both in capitals."""
        likelihood = UNSEEN
        for start in range(len(before), -1, -1):
            run = before[start:]
            total = self._after[run]
            if not total:
                break
            kinds = self._kinds[run]
            likelihood = (self._seen[run + letter] + kinds * likelihood) / (total + kinds)
        return math.log(likelihood)


def grams_of(lines: Iterable[str]) -> "Counter[str]":
    """How often each run of ORDER letters occurs, fewer where a line begins.

    >>> grams_of(["to"])
    Counter({' T': 1, ' TO': 1, ' TO ': 1})
    """
    counted: Counter[str] = Counter()
    for line in lines:
        if text := " ".join(line.upper().split()):
            padded = f" {text} "
            counted.update(padded[max(0, at - ORDER + 1) : at + 1] for at in range(1, len(padded)))
    return counted


def text_prior(name: str) -> TextPrior | None:
    """The prior of that name: `none`, one of PACKAGED, or learned from the lines of a text file (UTF-8).

    Raises:
        SettingsError: for a file that is not there, is no text, is empty, or has more than 16 MiB.
        WeightsError: the packaged one is broken.
    """
    if name == NONE:
        return None
    if name in PACKAGED:
        return TextPrior(_packaged(PACKAGED[name]))
    what, path = f"--recognize-like {name}", Path(name)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise SettingsError(f"{what}: more than {MOST_BYTES >> 20} MiB; a part of it serves as well")
        grams = grams_of(path.read_text("utf-8").splitlines())
    except OSError as error:
        known = ", ".join((NONE, *PACKAGED))
        raise SettingsError(f"{what}: {error.strerror or error}; give a text file, or one of: {known}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{what} is no text in UTF-8: {error.reason} at byte {error.start}") from None
    if not grams:
        raise SettingsError(f"{what} is empty: it should hold lines like those that will be read")
    return TextPrior(grams)


def save(grams: "Counter[str]", path: Path) -> None:
    """Write a packaged prior, the same bytes for the same counts."""
    lines = "".join(f"{gram}\t{count}\n" for gram, count in sorted(grams.items()) if "\t" not in gram)
    path.write_bytes(gzip.compress(lines.encode(), 9, mtime=0))


def _packaged(path: Path) -> "Counter[str]":
    try:
        rows = [line.rsplit("\t", 1) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
        return Counter({gram: int(count) for gram, count in rows})
    except (OSError, EOFError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read, install lamplight again: {error}") from None
