"""How the learning rate goes over a stage."""

import math
from typing import Literal

Curve = Literal["cosine", "linear", "constant"]

WARM_UP = 200  # steps
FLOOR = 0.02  # of the highest rate, at the end of a cosine


def factor(curve: Curve, step: int, done: float) -> float:
    """What to multiply the highest rate by at a step, from 0 on, when `done` of the stage, 0..1, is behind.

    cosine: up over 200 steps, then down along a cosine to 2 %. linear: constant for the first half, then down to 0
    along a line (the paper's 100 + 100 epochs). constant: 1.

    >>> factor("cosine", 99, 0.0), factor("linear", 0, 0.5), factor("linear", 0, 0.75)
    (0.5, 1.0, 0.5)
    """
    if curve == "cosine":
        return min(1.0, (step + 1) / WARM_UP) * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * done)) / 2)
    if curve == "linear":
        return min(1.0, 2 * (1 - done))
    return 1.0
