"""Which of a source's frames are looked at at all: each N-th, and only what shows something new."""

import time
from collections import Counter
from collections.abc import Callable

from common.pixels import RawImage
from edge_node.change import has_changed
from edge_node.glance import Glance, glance


class Selection:
    """Used by one thread, the source's; `skipped` counts by reason what was not taken.

    Args:
        every: take each so many-th frame.
        on_change: leave out what shows nothing new against the last one taken...
        still_s: ... but take one after so many seconds all the same.
    """

    def __init__(
        self,
        *,
        every: int = 1,
        on_change: bool = False,
        still_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.skipped: Counter[str] = Counter()
        self._every, self._on_change, self._still_s, self._clock = every, on_change, still_s, clock
        self._seen = -1
        self._taken: Glance | None = None
        self._taken_s = 0.0

    def is_due(self) -> bool:
        """Count one frame of the source; whether it is its turn."""
        self._seen += 1
        if self._seen % self._every:
            self.skipped["between each N-th"] += 1
            return False
        return True

    def is_new(self, image: RawImage) -> bool:
        """Whether the frame is to be taken; then it is what later ones are compared with."""
        if not self._on_change:
            return True
        look, now = glance(image), self._clock()
        if self._taken is not None and now - self._taken_s < self._still_s and not has_changed(self._taken, look):
            self.skipped["nothing new"] += 1
            return False
        self._taken, self._taken_s = look, now
        return True
