"""The report as files: report.md, results.json, plots and picture grids."""

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cloud_node.evaluation import plots, tables
from cloud_node.evaluation.cases import CaseSet
from cloud_node.evaluation.complexity import Cost
from cloud_node.evaluation.grids import Grids
from cloud_node.evaluation.rows import Machine
from cloud_node.evaluation.summary import Summary
from cloud_node.evaluation.tables import Table
from cloud_node.evaluation.targets import targets


def describe(machine: Machine, threads: int) -> str:
    """The device, type and threads that figures of time belong to."""
    name = torch.cuda.get_device_name(machine.device) if machine.device.type == "cuda" else _processor()
    return f"{name}, {str(machine.dtype).removeprefix('torch.')}, {threads} threads, torch {torch.__version__}"


def write(
    folder: Path, summary: Summary, costs: Sequence[Cost], sets: Sequence[CaseSet], grids: Grids, about: dict[str, Any]
) -> str:
    """Write everything under `folder`; returns the Markdown."""
    made: list[Table | None] = [
        targets(summary, costs),
        tables.images(summary),
        tables.ablation(summary),
        *tables.detection(summary),
        tables.no_harm(summary),
        tables.mixed(summary),
        tables.complexity(costs, str(about["machine"])),
    ]
    kept = [table for table in made if table is not None]
    plotted = plots.draw(summary, costs, folder / "plots")
    gridded = grids.write(folder / "grids")
    text = _markdown(kept, sets, [path.relative_to(folder) for path in (*plotted, *gridded)], about)
    results = {
        "about": about,
        "rows": [{"name": row.name, "ours": row.ours, "ablation": row.ablation} for row in summary.rows],
        "tables": [table.json() for table in kept],
        "costs": [vars(cost) for cost in costs],
        "pictures": summary.records,
    }
    (folder / "results.json").write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
    (folder / "report.md").write_text(text)
    return text


def _markdown(made: Sequence[Table], sets: Sequence[CaseSet], pictures: Sequence[Path], about: dict[str, Any]) -> str:
    lines = ["# Evaluation", "", f"`{about['command']}`", ""]
    lines += [f"- **{one.name}**, {len(one.cases)} pictures: {one.about}" for one in sets]
    lines += [f"- {word}" for word in about["left_out"]]
    lines += [
        "",
        f"Detector: {about['detector']}. Brackets hold 95 % bootstrap intervals over pictures (2,000 resamples); "
        "differences are paired, and the hardest peer is the one with the lowest lower end.",
        "",
    ]
    lines += [table.markdown() for table in made]
    lines += ["## Pictures", ""] + [f"![{path.stem}]({path.as_posix()})\n" for path in pictures]
    return "\n".join(lines)


def _processor() -> str:
    """The processor's name where the system tells it."""
    try:
        listed = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in listed if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
