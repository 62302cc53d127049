"""One line in the terminal that says how it goes."""

import statistics
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from common.frame import Outcome, Route
from common.printable import printable
from edge_node.sights import Sight
from edge_node.sinks.sink import Shown

RECENT: Final = 200  # frames that the median latency is of
RATE_WINDOW_S: Final = 10.0


class TerminalLine:
    """A live line on stderr from the first frame on; where that is no terminal, a plain line every `every_s`
    seconds and at the end.

    Args:
        total: frames in all, where known.
        quiet: say nothing, where what is said is read by machines.
    """

    def __init__(
        self, total: int | None = None, *, console: Console | None = None, every_s: float = 10.0, quiet: bool = False
    ) -> None:
        self.total, self.every_s = total, every_s
        self.frames = 0
        self.regions = self.alerts = 0
        self._last_alert = ""
        self.signs: int | None = None  # where text is followed
        self._live_signs: set[str] = set()
        self.outcomes: Counter[Outcome] = Counter()
        self.paths: Counter[Route] = Counter()
        self._latencies_ms: deque[float] = deque(maxlen=RECENT)
        self._times: deque[float] = deque()
        self._console = console or Console(stderr=True, quiet=quiet)
        self._printed: float | None = None
        self._closed = False
        self._live: Live | None = None

    def write(self, shown: Shown) -> None:
        if self._closed:
            return
        if self._live is None and self._console.is_terminal:  # it hides the cursor, which only `close` shows again
            self._live = Live(get_renderable=self._renderable, console=self._console, refresh_per_second=4)
            self._live.start()
        reading = shown.reading
        self.frames += 1
        self.regions += len(reading.regions)
        self.outcomes[reading.outcome] += 1
        if reading.outcome.is_read:
            self.paths[reading.path] += 1
            self._latencies_ms.append(reading.latency_ns / 1e6)
        now = time.monotonic()
        self._times.append(now)
        while now - self._times[0] > RATE_WINDOW_S:
            self._times.popleft()
        if self._live is None and (self._printed is None or now - self._printed >= self.every_s):
            self._printed = now
            self._print()

    def sights(self, changed: Sequence[Sight]) -> None:
        """Count them."""
        for sight in changed:
            self.signs = (self.signs or 0) + (sight.id not in self._live_signs)
            (self._live_signs.discard if sight.ended else self._live_signs.add)(sight.id)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._live is not None:
            self._live.stop()
        else:
            self._print()

    def alerted(self, told: Mapping[str, Any]) -> None:
        self.alerts += 1
        self._last_alert = printable(told["text"])[:40]

    def line(self) -> str:
        """The line as plain text."""
        frames = f"{self.frames}/{self.total}" if self.total else f"{self.frames}"
        text = f"{self.regions} text regions" if self.signs is None else f"{self.signs} signs"
        parts = [f"{frames} frames", text]
        if self._latencies_ms:
            parts.append(f"p50 {statistics.median(list(self._latencies_ms)):,.0f} ms")
        parts.append(f"{self._rate():.1f} frames/s")
        for path, what in ((Route.EDGE, "lit here"), (Route.NONE, "read as they are")):
            if self.paths[path]:
                parts.append(f"{self.paths[path]} {what}")
        for outcome in (Outcome.EXPIRED, Outcome.FAILED):
            if self.outcomes[outcome]:
                parts.append(f"{self.outcomes[outcome]} {outcome.name.lower()}")
        if self.alerts:
            parts.append(f"{self.alerts} alert{'s' if self.alerts > 1 else ''}, the last: {self._last_alert}")
        return "   ".join(parts)

    def _rate(self) -> float:
        now = time.monotonic()
        recent = [moment for moment in list(self._times) if now - moment <= RATE_WINDOW_S]
        if len(recent) < 2 or recent[-1] == recent[0]:
            return 0.0
        return (len(recent) - 1) / (recent[-1] - recent[0])

    def _renderable(self) -> Text:
        return Text(self.line(), no_wrap=True, overflow="ellipsis")

    def _print(self) -> None:
        self._console.print(self.line(), highlight=False, soft_wrap=True, markup=False)
