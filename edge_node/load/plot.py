"""load.png: how long frames took, by priority."""

from pathlib import Path
from typing import Any

import numpy as np

from common.errors import SourceError
from common.frame import Priority
from edge_node.load.records import Ending
from edge_node.load.report import LoadReport

COLOURS = {Priority.ESSENTIAL: "#d1495b", Priority.STANDARD: "#2e6f95", Priority.SECONDARY: "#8d99ae"}
POINTS = 2_000  # of a curve, and dots of one colour; of more, every so many
SLOWEST = 100  # are all shown
NINES = {0: "0", 0.30103: "50", 1: "90", 2: "99", 3: "99.9", 4: "99.99", 5: "99.999"}


def draw(report: LoadReport, path: Path) -> None:
    """Write the picture. Raises ImportError without matplotlib, SourceError when it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    _percentiles(left, report)
    _over_time(right, report)
    settings = report.settings
    figure.legend(loc="outside lower center", ncols=5, frameon=False, markerscale=2.5)
    figure.suptitle(
        f"{settings.edges} edges x {settings.fps:g} frames/s: served {report.all.served_per_s:.1f} "
        f"of {report.all.offered_per_s:.1f} frames/s; {report.unserved_percent:.1f} % of the frames brought no result"
    )
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise SourceError(f"cannot write {path}: {error.strerror}") from None


def _percentiles(axes: Any, report: LoadReport) -> None:
    """Latency by percentile: each step to the right is ten times rarer."""
    from matplotlib.ticker import LogLocator, NullLocator

    counted = report.rows[report.rows["due_s"] >= report.settings.warm_up_s]
    enhanced = counted[counted["ending"] == Ending.ENHANCED]
    furthest = 1.0
    for priority in Priority:
        latencies = np.sort(enhanced["latency_ms"][enhanced["priority"] == priority])
        if latencies.size:
            nines, values = curve(latencies)
            furthest = max(furthest, float(nines[-1]))
            axes.plot(nines, values, color=COLOURS[priority], drawstyle="steps-pre")
    ticks = {place: label for place, label in NINES.items() if place <= furthest}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set(xlabel="percentile of enhanced frames", ylabel="ms from the intended time to the result", yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(True, alpha=0.3)


def curve(latencies: Any) -> tuple[Any, Any]:
    """Sorted latencies at -log10(1 - rank), thinned to POINTS that lie evenly on that axis."""
    count = latencies.size
    nines = -np.log10(1 - np.arange(count) / count)
    kept = np.unique(np.searchsorted(nines, np.linspace(0, nines[-1], POINTS)))
    return nines[kept], latencies[kept]


def _over_time(axes: Any, report: LoadReport) -> None:
    """A dot for each frame, and a mark at the top for each that brought no result."""
    settings, rows = report.settings, report.rows
    if settings.warm_up_s:
        axes.axvspan(0, settings.warm_up_s, color="#eeeeee", label="warm-up")
    enhanced = rows["ending"] == Ending.ENHANCED
    for priority in reversed(Priority):  # the most urgent on top
        mine = np.sort(rows[enhanced & (rows["priority"] == priority)], order="latency_ms")
        step = 1 + mine.size // POINTS
        shown = np.concatenate([mine[:-SLOWEST:step], mine[-SLOWEST:]])
        axes.plot(
            shown["due_s"], shown["latency_ms"], ".", markersize=3, color=COLOURS[priority], label=priority.name.lower()
        )
    without = rows["due_s"][~enhanced]
    if without.size:
        shown = without[:: 1 + without.size // POINTS]
        top = np.full(shown.size, 0.98)
        axes.plot(shown, top, "|", color="black", transform=axes.get_xaxis_transform(), label="no result")
    axes.set_xlabel("intended time of sending, seconds from the start")
    axes.grid(True, alpha=0.3)
