"""How a load goes, while it goes."""

import asyncio
import math
from collections import deque
from types import TracebackType

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from common.frame import Priority
from edge_node.load.figures import binned_percentile
from edge_node.load.records import Ending, Progress
from edge_node.load.report import LATE_MS
from edge_node.load.settings import LoadSettings
from edge_node.load.show import ms

RATE_WINDOW_S = 5.0


class Display:
    """A live table on a terminal, a plain line every `every_s` seconds elsewhere. A context manager to call."""

    def __init__(self, settings: LoadSettings, console: Console, stop: asyncio.Event, every_s: float = 5.0) -> None:
        self._settings, self._console, self._stop, self._every_s = settings, console, stop, every_s
        self._recent: deque[tuple[float, int, int]] = deque()  # elapsed, offered, enhanced
        self._connected = settings.edges
        self._printed_s = -math.inf
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> "Display":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, progress: Progress) -> None:
        self._recent.append((progress.elapsed_s, int(progress.offered.sum()), _ended(progress, Ending.ENHANCED)))
        while progress.elapsed_s - self._recent[0][0] > RATE_WINDOW_S:
            self._recent.popleft()
        self._tell_connections(progress)
        if self._live is not None:
            self._live.update(Group(Text(self.line(progress)), _table(progress)), refresh=True)
        elif progress.elapsed_s - self._printed_s >= self._every_s:
            self._printed_s = progress.elapsed_s
            self._console.print(self.line(progress), soft_wrap=True)

    def line(self, progress: Progress) -> str:
        """Everything but the priorities, as plain text."""
        offered, served = self._rates()
        parts = [
            self._phase(progress.elapsed_s),
            f"{progress.connected}/{progress.edges} edges",
            f"offered {offered:.1f}/s",
            f"served {served:.1f}/s",
            f"on the way {progress.on_the_way}",
            f"waiting {progress.queued}",
        ]
        latencies = progress.latencies.sum(axis=0)
        if latencies.any():
            parts.append(f"p50 {ms(binned_percentile(latencies, 50))} p99 {ms(binned_percentile(latencies, 99))} ms")
        for ending in (Ending.REJECTED, Ending.EXPIRED, Ending.FAILED, Ending.DROPPED):
            if count := _ended(progress, ending):
                parts.append(f"{ending.name.lower()} {count}")
        if progress.late_ms > LATE_MS:
            parts.append(f"generator late {ms(progress.late_ms)} ms")
        return "   ".join(parts)

    def _phase(self, elapsed_s: float) -> str:
        settings = self._settings
        if self._stop.is_set() or elapsed_s > settings.end_s:
            return "waiting for the last answers"
        of = f"{max(0, elapsed_s):.0f}/{settings.end_s:.0f} s"
        return f"{of} (warm-up)" if elapsed_s < settings.warm_up_s else of

    def _rates(self) -> tuple[float, float]:
        (first_s, offered, enhanced), (last_s, *last) = self._recent[0], self._recent[-1]
        seconds = last_s - first_s
        return ((last[0] - offered) / seconds, (last[1] - enhanced) / seconds) if seconds > 0 else (0.0, 0.0)

    def _tell_connections(self, progress: Progress) -> None:
        """A line that stays, whenever edges are cut off or all are back."""
        lost = progress.edges - progress.connected
        if lost > progress.edges - self._connected:
            self._console.print(f"{lost} of {progress.edges} edges are cut off: their frames wait", soft_wrap=True)
        elif not lost and self._connected < progress.edges:
            self._console.print(f"all {progress.edges} edges are connected again", soft_wrap=True)
        self._connected = progress.connected


def _ended(progress: Progress, ending: Ending) -> int:
    return int(progress.endings[:, ending].sum())


def _table(progress: Progress) -> Table:
    shown = (Ending.ENHANCED, Ending.REJECTED, Ending.EXPIRED, Ending.FAILED, Ending.DROPPED)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("priority")
    for column in ("offered", *(ending.name.lower() for ending in shown), "p50", "p99 ms"):
        table.add_column(column, justify="right")
    for priority in Priority:
        if progress.offered[priority]:
            latencies = progress.latencies[priority]
            table.add_row(
                priority.name.lower(),
                f"{progress.offered[priority]:,}",
                *(f"{count:,}" if (count := progress.endings[priority, ending]) else "-" for ending in shown),
                ms(binned_percentile(latencies, 50)),
                ms(binned_percentile(latencies, 99)),
            )
    return table
