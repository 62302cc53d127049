"""Which changes of a sight are worth telling others: not each frame that it was seen in."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edge_node.sights import Sight

STILL_S: Final = 10.0  # a sight that goes on unchanged is told again after so long
REMEMBERED: Final = 4096  # sights that have not ended, at most


@dataclass(slots=True)
class _Told:
    text: str
    count: int
    told_s: float


class News:
    """Says of each sight whether it is `new`, `changed` or `ended` for those elsewhere.

    Its text changing is news at once; more frames of it are every `still_s` seconds.
    """

    def __init__(self, still_s: float = STILL_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._still_s, self._clock = still_s, clock
        self._told: OrderedDict[str, _Told] = OrderedDict()

    def of(self, sight: Sight) -> tuple[str, int] | None:
        """The event and its number for this sight, from 1; None when there is nothing to tell."""
        told, now = self._told.pop(sight.id, None), self._clock()
        number = told.count + 1 if told else 1
        if sight.ended:
            return "ended", number
        if told is not None and told.text == sight.text and now - told.told_s < self._still_s:
            self._told[sight.id] = told
            return None
        self._told[sight.id] = _Told(sight.text, number, now)
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        return ("changed" if told else "new"), number
