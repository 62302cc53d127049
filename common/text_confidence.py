"""How likely recognised text is right."""
from collections.abc import Sequence
import math

def confidence(letters: Sequence[float], height: float) -> float:
    return float(sum(letters)/len(letters)) if letters else 0.
