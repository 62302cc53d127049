"""How likely recognised text is right: a logistic model on what the recogniser said of each letter, and on the shape.

The recogniser's own score, the mean probability of its letters, is no such likelihood: one wrong letter makes a text
wrong, and in the dark it is too sure of itself. `WEIGHTS` are fitted on receipts in the dark that `fast` lit up, by
`benchmarks/confidence.py`, which says how well they hold on others (docs/reading.md).

References:
    Platt, Probabilistic Outputs for Support Vector Machines, 1999 (a logistic map from scores to probabilities).
    Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (expected calibration error).
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

LEAST, MOST = 1e-3, 1 - 1e-4  # of a probability; what lies outside says no more
FEATURES: Final = ("bias", "all letters", "least likely letter", "letters", "height", "too wide for its letters")
WEIGHTS: Final = (-0.139, 0.447, 1.737, 0.212, 0.464, -0.828)
WEIGHTS_TAUGHT: Final = (-0.158, 0.831, 0.384, 0.283, -0.067, -1.221)  # of recognizers/dark.npz
WEIGHTS_CHOSEN: Final = (-1.834, 0.268, -0.781, 0.239, 2.033, -0.665, 0.677)  # of texts that a prior chose


def features(letters: Sequence[float], length: float, height: float) -> tuple[float, ...]:
    """What `WEIGHTS` are for, see FEATURES.

    Args:
        letters: the probability of each letter, 0..1, spaces apart; one at least.
        length, height: of the text in the frame, in pixels.
    """
    logs = np.log(np.clip(letters, LEAST, 1.0))
    product = min(max(math.exp(logs.sum()), LEAST), MOST)
    wide = length / max(height, 1.0) / len(logs)  # of a letter, in heights; a CJK one has 1, others about a half
    return (
        1.0,
        math.log(product / (1 - product)),
        float(logs.min()),
        math.log(len(logs)),
        min(0.0, math.log2(max(height, 1.0) / 24)),  # more than 24 pixels are as good as 24
        max(0.0, math.log(wide)) if wide > 0 else 0.0,
    )


def chosen_features(seen: tuple[float, ...], share: float) -> tuple[float, ...]:
    """What WEIGHTS_CHOSEN are for: `features`, and the logarithm of the odds of the text's share, 0..1."""
    share = min(max(share, LEAST), MOST)
    return (*seen, math.log(share / (1 - share)))


def confidence(
    letters: Sequence[float], length: float, height: float, share: float | None = None, *, taught: bool = False
) -> float:
    """The likelihood, 0..1, that a text is right in all letters, case and spaces apart; 0 for no letters.

    share: of the text among those that a prior chose from, where one did (`common.ctc_beam`).
    taught: read by a recogniser that was taught to read in the dark, which is less sure of itself.
    """
    if not letters:
        return 0.0
    seen = features(letters, length, height)
    if share is None:
        odds = sum(w * x for w, x in zip(WEIGHTS_TAUGHT if taught else WEIGHTS, seen, strict=True))
    else:
        odds = sum(w * x for w, x in zip(WEIGHTS_CHOSEN, chosen_features(seen, share), strict=True))
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, odds))))
