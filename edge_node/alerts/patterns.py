"""What an alert looks for: words, tolerantly, or a regular expression, to the letter."""

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

from common.errors import SettingsError
from edge_node.alerts.words import Folded, Word
from edge_node.sinks.sight_json import LONGEST_TEXT

log = logging.getLogger(__name__)

LONGEST_MATCH_S: Final = 0.02  # an expression that backtracks for longer is stopped...
REST_S: Final = 10.0  # ... and rests, so that it cannot hold up the frames


class NotLooked(Exception):
    """A pattern was not looked for: the text may have it all the same."""


class Pattern(Protocol):
    """Something to look for."""

    text: str  # as the user gave it

    def matches(self, text: str, folded: Folded) -> bool:
        """Whether it is in a text, which is given folded as well. Raises NotLooked."""
        ...


class WordPattern:
    """A word or several, with reading errors. Raises ValueError when there is nothing to look for."""

    def __init__(self, text: str) -> None:
        self.text, self._word = text, Word(text)

    def matches(self, text: str, folded: Folded) -> bool:
        return self._word.is_in(folded)


class Expression:
    """`/expression/`, or `/expression/i` where case does not matter. Raises ValueError when it is none."""

    def __init__(self, text: str, clock: Callable[[], float] = time.monotonic) -> None:
        import regex  # unlike `re` it can be stopped

        self.text, self._clock, self._rests_until_s = text, clock, 0.0
        expression, _, flags = text[1:].rpartition("/")
        try:
            self._compiled = regex.compile(expression, regex.IGNORECASE if flags == "i" else 0)
        except (regex.error, RecursionError, OverflowError, ValueError) as error:
            raise ValueError(f"{text} is no regular expression: {error}") from None
        if self._compiled.search("", timeout=LONGEST_MATCH_S):
            raise ValueError(f"{text} matches nothing at all too: every sight would be an alert")

    def matches(self, text: str, folded: Folded) -> bool:
        now = self._clock()
        if now < self._rests_until_s:
            raise NotLooked
        try:
            return self._compiled.search(text[:LONGEST_TEXT], timeout=LONGEST_MATCH_S) is not None
        except TimeoutError:
            self._rests_until_s = now + REST_S
            log.error("alert %s takes too long on a text and rests for %g s: make it simpler", self.text, REST_S)
            return False  # not again for this text, which would have it rest for ever


def pattern(text: str) -> Pattern:
    """A pattern as the user wrote it. Raises ValueError that says what is wrong with it."""
    if text.startswith("/") and text.rpartition("/")[2] in ("", "i") and text.count("/") > 1:
        return Expression(text)
    return WordPattern(text)


def patterns(given: Iterable[str], file: Path | None) -> list[Pattern]:
    """Those of `--alert` and of the lines of `--alert-file`, where # begins a comment.

    Raises:
        SettingsError: naming the flag, or the file and line, of one that is wrong.
    """
    found: dict[str, Pattern] = {}
    for where, text in [*(("--alert", text) for text in given), *(_lines(file) if file is not None else ())]:
        try:
            found.setdefault(text, pattern(text))
        except ValueError as error:
            raise SettingsError(f"{where}: {error}") from None
    return list(found.values())


def _lines(file: Path) -> list[tuple[str, str]]:
    try:
        rows = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise SettingsError(f"--alert-file {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"--alert-file {file}: is no text in UTF-8") from None
    lines = [(f"{file}:{number}", row.strip()) for number, row in enumerate(rows, 1)]
    return [(where, text) for where, text in lines if text and not text.startswith("#")]


def matching(patterns: Iterable[Pattern], text: str) -> tuple[list[Pattern], bool]:
    """Those that are in a text, and whether all of them were looked for."""
    folded, found, all_looked = Folded.of(text[:LONGEST_TEXT]), [], True
    for pattern in patterns:
        try:
            if pattern.matches(text, folded):
                found.append(pattern)
        except NotLooked:
            all_looked = False
    return found, all_looked
