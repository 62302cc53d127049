"""A load report for people: tables on the terminal."""

import math
import sys
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from edge_node.load.figures import Quantiles
from edge_node.load.records import Ending
from edge_node.load.report import LATE_MS, LoadReport, Share

WIDTH = 140  # where there is no terminal to ask
TIMES = ("p50", "p95", "p99", "p99.9", "max ms")


def console(stderr: bool = False) -> Console:
    """A console whose tables keep their width in files and pipes."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, width=None if terminal else WIDTH)


def tables(report: LoadReport) -> Group:
    """The whole report."""
    return Group(*_parts(report))


def _parts(report: LoadReport) -> Iterator[RenderableType]:
    settings = report.settings
    model = ", ".join(report.models) or "no model"
    yield Text(
        f"\n{settings.edges} edges x {settings.fps:g} frames/s ({settings.traffic.arrivals.value}), "
        f"{report.seconds:.1f} s after {settings.warm_up_s:g} s of warm-up, {settings.cloud}, {model}",
        style="bold",
    )
    yield _priorities(report)
    yield Text(_sum(report), style="" if report.sums_hold else "bold red")
    if report.stages_ms:
        yield _stages(report)
    yield Text(_fairness(report))
    for (ending, reason), count in report.reasons.items():
        yield Text(f"  {count} {ending.name.lower()}: {reason}")
    for warning in warnings(report):
        yield Text(f"! {warning}", style="yellow")


def warnings(report: LoadReport) -> list[str]:
    """What a reader of the figures must know."""
    settings, found = report.settings, []
    if report.generator_late:
        found.append(
            f"the generator itself was late (p99 {report.late_ms.p99:.1f} ms, more than {LATE_MS:g}): these figures "
            "are as much its own as the cloud node's; give it --processes or another machine, or fewer edges"
        )
    if report.unserved_percent:
        found.append(f"latencies are of enhanced frames alone: {report.unserved_percent:.1f} % of the frames have none")
    if report.connected_at_end < settings.edges:
        found.append(f"{settings.edges - report.connected_at_end} of {settings.edges} edges were cut off at the end")
    if report.reopened:
        found.append(f"streams broke and were opened again {report.reopened} times")
    if report.late_results:
        found.append(f"{report.late_results} results came for frames that had ended before")
    if report.ended_early:
        found.append("it was ended early: the figures are of what there was until then")
    if not report.sums_hold:
        found.append("THE SUMS DO NOT HOLD: a frame was lost or counted twice by this generator; please report it")
    return found


def _priorities(report: LoadReport) -> Table:
    shown = [ending for ending, count in report.all.endings.items() if count or ending is Ending.ENHANCED]
    table = _table(
        "priority", "offered", *(ending.name.lower() for ending in shown), *TIMES, "served/s", "MB/s up", "MB/s down"
    )
    rows = {priority.name.lower(): share for priority, share in report.priorities.items() if share.offered}
    for name, share in {**rows, "all": report.all}.items():
        table.add_row(name, *_cells(share, shown), style="bold" if name == "all" else "")
    return table


def _table(first: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _cells(share: Share, shown: Sequence[Ending]) -> list[str]:
    counts = [share.offered, *(share.endings[ending] for ending in shown)]
    rates = (share.served_per_s, share.up_mb_per_s, share.down_mb_per_s)
    return (
        [f"{count:,}" if count else "-" for count in counts] + _times(share.latency_ms) + [f"{x:,.1f}" for x in rates]
    )


def _times(spread: Quantiles) -> list[str]:
    return [ms(value) for value in (spread.p50, spread.p95, spread.p99, spread.p999, spread.max)]


def ms(value: float) -> str:
    """Milliseconds in a table's cell."""
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _sum(report: LoadReport) -> str:
    endings = " + ".join(f"{count:,} {ending.name.lower()}" for ending, count in report.total.items() if count)
    return f"{report.total_offered:,} frames, warm-up and all = {endings or 0}"


def _stages(report: LoadReport) -> Table:
    table = _table("stage", *TIMES)
    for name, spread in report.stages_ms.items():
        table.add_row(name, *_times(spread), style="dim" if "/" in name else "")
    table.add_row("[italic]generator late[/]", *_times(report.late_ms))
    return table


def _fairness(report: LoadReport) -> str:
    fair = report.fairness
    one = f" (one frame is {100 / fair.mean:.1f} %)" if fair.mean else ""
    batch = "" if math.isnan(report.frames_per_batch) else f"; {report.frames_per_batch:.1f} frames a batch"
    return (
        f"served by edge: least {fair.least}, mean {fair.mean:.1f}, most {fair.most}; "
        f"the largest deviation is {fair.deviation_percent:.1f} %{one}{batch}"
    )
