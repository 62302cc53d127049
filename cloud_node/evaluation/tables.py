"""The tables of the report: the paper's three, no harm, mixed light and complexity, as Markdown and JSON."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cloud_node.evaluation.bootstrap import Estimate, hmean, mean, precision, recall
from cloud_node.evaluation.cases import DARKNESS
from cloud_node.evaluation.complexity import COUNTED, PEER, TIMED, Cost, label
from cloud_node.evaluation.rows import BRIGHT, RAW
from cloud_node.evaluation.summary import Comparison, Summary

Cell = str | int | float | Estimate | Comparison | None


@dataclass(frozen=True)
class Column:
    name: str
    digits: int = 3
    best: int = 0  # 1: the highest is bold, -1: the lowest, 0: none is
    signed: bool = False


@dataclass(frozen=True)
class Table:
    title: str
    about: str
    columns: Sequence[Column]
    lines: dict[str, list[Cell]]
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        best = [self._best(i) for i in range(len(self.columns))]
        text = [f"## {self.title}", "", self.about, ""]
        text.append("| row | " + " | ".join(column.name for column in self.columns) + " |")
        text.append("|---|" + "---|" * len(self.columns))
        for name, cells in self.lines.items():
            shown = [
                _shown(cell, column, name == first)
                for cell, column, first in zip(cells, self.columns, best, strict=True)
            ]
            text.append(f"| {name} | " + " | ".join(shown) + " |")
        return "\n".join(text + [""] + [f"- {note}" for note in self.notes] + ([""] if self.notes else []))

    def json(self) -> dict[str, Any]:
        names = [column.name for column in self.columns]
        lines = {row: dict(zip(names, map(_plain, cells), strict=True)) for row, cells in self.lines.items()}
        return {"title": self.title, "about": self.about, "rows": lines, "notes": self.notes}

    def _best(self, column: int) -> str | None:
        sign = self.columns[column].best
        values = {name: _number(cells[column]) for name, cells in self.lines.items() if name != BRIGHT}
        kept = {name: value for name, value in values.items() if value is not None}
        return max(kept, key=lambda name: sign * kept[name]) if sign and kept else None


def images(summary: Summary) -> Table | None:
    """Table 1: fidelity on the real pairs, naturalness on pairs and dicm."""
    columns = [
        Column("PSNR", 2, 1),
        Column("SSIM", 3, 1),
        Column("PSNR, GT-mean", 2, 1),
        Column("SSIM, GT-mean", 3, 1),
        Column("NIQE, pairs", 2, -1),
        Column("NIQE, dicm", 2, -1),
    ]
    keys = ("psnr", "ssim", "psnr_gt_mean", "ssim_gt_mean")
    columns += [Column(f"{one.name} - hardest peer's", one.digits, 0, True) for one in columns[: len(keys)]]
    lines: dict[str, list[Cell]] = {}
    for row in [*summary.names, BRIGHT]:
        cells: list[Cell] = [summary.figure("pairs", row, key, mean) for key in (*keys, "niqe")]
        cells.append(summary.figure("dicm", row, "niqe", mean))
        cells += [summary.hardest("pairs", row, key, mean) if row in summary.ours else None for key in keys]
        if any(cell is not None for cell in cells):
            lines[row] = cells
    about = (
        "Real low and normal exposures of scenes that training did not see. RGB, 8 bit, no rescaling; the GT-mean "
        "columns bring the output to the reference's mean first and are no figures on their own. NIQE: lower is better."
    )
    return _table("Table 1: images", about, columns, lines)


def ablation(summary: Summary) -> Table | None:
    """Table 2: the network without one part at a time, and what that part is worth."""
    if not summary.ablations:
        return None
    full = next((name for name in summary.ablations if name.endswith(": base")), (summary.ours or [""])[-1])
    figures = [("pairs", "psnr", mean, "PSNR", 2), ("pairs", "ssim", mean, "SSIM", 3)]
    figures += [(name, "counts", hmean, f"H-mean, {name}", 3) for name in DARKNESS]
    columns = [Column(title, digits, 1) for *_, title, digits in figures]
    columns += [Column(f"{title}: change", digits, 0, True) for *_, title, digits in figures]
    lines: dict[str, list[Cell]] = {}
    for row in dict.fromkeys([full, *summary.ablations]):
        cells: list[Cell] = [summary.figure(cases, row, key, what) for cases, key, what, *_ in figures]
        cells += [summary.against(cases, row, full, key, what) for cases, key, what, *_ in figures]
        lines[row] = cells
    about = f"Change: the row's figure minus that of {full}, paired. Above zero, the change helps."
    return _table("Table 2: ablation", about, columns, lines)


def detection(summary: Summary) -> list[Table]:
    """Table 3: text found in darkened receipts, one table for each darkness."""
    tables = []
    columns = [
        Column("precision", 3, 1),
        Column("recall", 3, 1),
        Column("H-mean", 3, 1),
        Column("share of the gap closed", 2, 1),
        Column("H-mean - hardest peer's", 3, 0, True),
    ]
    for name in DARKNESS:
        lines: dict[str, list[Cell]] = {}
        for row in [*summary.names, BRIGHT]:
            cells: list[Cell] = [summary.figure(name, row, "counts", what) for what in (precision, recall, hmean)]
            cells.append(summary.closed(name, row))
            cells.append(summary.hardest(name, row, "counts", hmean) if row in summary.ours else None)
            if cells[0] is not None:
                lines[row] = cells
        pictures = len(summary.records.get(name, {}).get(RAW, {}))
        about = (
            f"{pictures} held-out receipts, text lines at IoU above 0.5 (ICDAR 2015). The gap: raw to bright H-mean."
        )
        tables.append(_table(f"Table 3: detection, {name}", about, columns, lines))
    return [table for table in tables if table is not None]


def no_harm(summary: Summary) -> Table | None:
    """What is readable as it is must stay so."""
    texts, plates = ("receipts bright", "scene text bright"), ("plates dark", "plates bright")
    columns = [
        Column(title, 3, 0, signed) for name in texts for title, signed in ((name, False), (f"{name} - raw", True))
    ]
    columns += [Column(title, 3) for name in plates for title in (f"{name}: recall", f"{name}: found", f"{name}: lost")]
    lines: dict[str, list[Cell]] = {}
    notes: list[str] = []
    for row in summary.names:
        cells: list[Cell] = []
        for name in texts:
            cells += [summary.figure(name, row, "counts", hmean), summary.against(name, row, RAW, "counts", hmean)]
        for name in plates:
            counts, lost = summary.table(name, row, "counts"), summary.lost(name, row)
            seen = None if counts is None else f"{counts[:, 1].sum():.0f} of {counts[:, 2].sum():.0f}"
            gone = None if lost is None or row == RAW else sum(lost.values())
            cells += [summary.figure(name, row, "counts", recall), seen, gone]
            if lost:
                files = ", ".join(f"{file} ({n})" if n > 1 else file for file, n in sorted(lost.items()))
                notes.append(f"{row}, {name}, lost: {files}")
        if any(cell is not None for cell in cells):
            lines[row] = cells
    about = (
        "H-mean on text that is bright already, and its difference to raw, paired. Number plates in real photographs: "
        "how many are found, and how many of those found in the raw photograph are lost."
    )
    return _table("No harm", about, columns, lines, notes)


def mixed(summary: Summary) -> Table | None:
    """Lamps and lit signs beside darkness."""
    keys = (("change", 1), ("clipped", 4), ("spread", 4), ("overshoot", 1), ("undershoot", 1), ("half", 1))
    columns = [Column(key, digits, 0) for key, digits in keys]
    lines: dict[str, list[Cell]] = {}
    for row in summary.names:
        cells: list[Cell] = [summary.figure("plates dark", row, key, mean) for key, _ in keys]
        if any(cell is not None for cell in cells):
            lines[row] = cells
    about = (
        "Real dusk and night photographs. Where luma is 0.75 or more already: mean change in levels of 255, and the "
        "share of pixels newly burnt out; spread is the share of those within 40 pixels around that are newly white. "
        "In the ring of 3 to 12 pixels around: how far the output is above or below the best monotone mapping, in "
        "levels. Half is the mean change where luma is 0.4 to 0.75. All best at 0."
    )
    return _table("Mixed light", about, columns, lines)


def complexity(costs: Sequence[Cost], machine: str) -> Table | None:
    """Parameters, GMACs and time, with the ratio to Zero-DCE as published."""
    columns = [Column("parameters", 0), *(Column(f"GMACs, {label(size)}", 2) for size in COUNTED)]
    for size in TIMED:
        columns += [Column(f"ms, {label(size)}", 1), Column(f"ratio to Zero-DCE, {label(size)}", 2)]
    peer = next((cost for cost in costs if cost.name == PEER), None)
    lines: dict[str, list[Cell]] = {}
    for cost in costs:
        cells: list[Cell] = [cost.parameters, *(cost.gmacs.get(label(size)) for size in COUNTED)]
        for name in map(label, TIMED):
            cells += [cost.ms[name], cost.ms[name] / peer.ms[name] if peer else None]
        lines[cost.name] = cells
    about = f"One picture at a time, median, all in one run: {machine}."
    return _table("Complexity", about, columns, lines)


def _table(
    title: str, about: str, columns: list[Column], lines: dict[str, list[Cell]], notes: list[str] | None = None
) -> Table | None:
    """The table without the columns that nothing was measured for; None without lines."""
    kept = [i for i in range(len(columns)) if any(cells[i] is not None for cells in lines.values())]
    if not kept:
        return None
    lines = {row: [cells[i] for i in kept] for row, cells in lines.items()}
    return Table(title, about, [columns[i] for i in kept], lines, notes or [])


def _shown(cell: Cell, column: Column, best: bool) -> str:
    number = _number(cell)
    if isinstance(cell, str):
        return cell
    if number is None:
        return "-"
    sign = "+" if column.signed else ""
    text = f"{number:{sign},.{0 if isinstance(cell, int) else column.digits}f}"
    text = f"**{text}**" if best else text
    interval = cell.by if isinstance(cell, Comparison) else cell
    if isinstance(interval, Estimate):
        text += f" [{interval.low:{sign}.{column.digits}f}, {interval.high:{sign}.{column.digits}f}]"
    return f"{text} ({cell.peer})" if isinstance(cell, Comparison) else text


def _number(cell: Cell) -> float | None:
    if isinstance(cell, Comparison):
        cell = cell.by
    if isinstance(cell, Estimate):
        cell = cell.value
    return None if cell is None or isinstance(cell, str) or math.isnan(cell) else float(cell)


def _plain(cell: Cell) -> Any:
    if isinstance(cell, Comparison):
        return {"peer": cell.peer, **_plain(cell.by)}
    if isinstance(cell, Estimate):
        return {name: None if math.isnan(value) else value for name, value in vars(cell).items()}
    return cell
