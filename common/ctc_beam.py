"""The text that a CTC network and a prior together find likeliest.

References:
    Hannun et al., First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs,
    2014, algorithm 1 (prefix beam search; here with letters in place of words).
"""

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from common.text_prior import ORDER, TextPrior

WIDTH: Final = 8  # texts that are followed side by side
LEAST: Final = 1e-3  # a letter less likely at a step is not followed
WEIGHT: Final = 0.3  # of the prior's logarithm
BONUS: Final = 1.0  # of each letter: what the prior takes from any of them on average


Text = tuple[str, ...]  # its letters


class Prefix(NamedTuple):
    """How a text may begin."""

    blank: float = 0.0  # likelihood of the ways that end in a blank
    letter: float = 0.0  # and of those that end in its last letter
    prior: float = 0.0  # logarithm
    letters: tuple[float, ...] = ()  # each one's highest probability

    @property
    def score(self) -> float:
        return math.log(self.blank + self.letter + 1e-300) + self.prior


def beam(
    probabilities: np.ndarray[Any, np.dtype[np.float32]], letters: Sequence[str], prior: TextPrior
) -> tuple[str, tuple[float, ...], float]:
    """(T, classes) probabilities, class 0 the blank, to a text.

    Also the probability of each of its letters but spaces, and the text's share, 0..1, among all that were followed
    to the end, the prior included. A letter may have several code points; one that has none counts as a blank.

    After each step the likelihoods are scaled, so that none runs out of range however long the line is.
    """
    beams: dict[Text, Prefix] = {(): Prefix(blank=1.0)}
    for row in probabilities:
        grown: dict[Text, Prefix] = {}
        for index in np.flatnonzero(row > min(LEAST, float(row.max()) / 2)).tolist():
            p, letter = float(row[index]), letters[index]
            for text, one in beams.items():
                if index == 0 or not letter:
                    _add(grown, text, Prefix((one.blank + one.letter) * p, 0.0, one.prior, one.letters))
                elif text and text[-1] == letter:
                    last = (*one.letters[:-1], max(one.letters[-1], p))
                    _add(grown, text, Prefix(0.0, one.letter * p, one.prior, last))
                    _add(grown, (*text, letter), _extended(one, one.blank * p, text, letter, p, prior))
                else:
                    _add(grown, (*text, letter), _extended(one, (one.blank + one.letter) * p, text, letter, p, prior))
        if not grown:  # no numbers at all
            continue
        best = sorted(grown.items(), key=lambda item: -item[1].score)[:WIDTH]
        scale = sum(one.blank + one.letter for _, one in best)
        beams = {text: one._replace(blank=one.blank / scale, letter=one.letter / scale) for text, one in best}
    text, one = next(iter(beams.items()))
    share = 1 / sum(math.exp(other.score - one.score) for other in beams.values())
    return "".join(text), tuple(p for letter, p in zip(text, one.letters, strict=True) if letter.strip()), share


def _extended(one: Prefix, likelihood: float, text: Text, letter: str, p: float, prior: TextPrior) -> Prefix:
    line, added = (" " + "".join(text[1 - ORDER :])).upper(), 0.0
    for character in letter.upper():
        added += WEIGHT * prior.log_likelihood(line[1 - ORDER :], character) + BONUS
        line += character
    return Prefix(0.0, likelihood, one.prior + added, (*one.letters, p))


def _add(grown: dict[Text, Prefix], text: Text, way: Prefix) -> None:
    known = grown.get(text)
    if known is None:
        grown[text] = way
        return
    letters = tuple(map(max, known.letters, way.letters))
    grown[text] = Prefix(known.blank + way.blank, known.letter + way.letter, known.prior, letters)
