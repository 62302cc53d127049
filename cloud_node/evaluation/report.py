"""The report as files: report.md, results.json, plots and picture grids."""

import json
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from common.errors import SettingsError


def describe(machine: Machine, threads: int) -> str:
    """The device, type and threads that figures of time belong to."""
    name = torch.cuda.get_device_name(machine.device) if machine.device.type == "cuda" else _processor()
    return f"{name}, {str(machine.dtype).removeprefix('torch.')}, {threads} threads, torch {torch.__version__}"


def write(
    folder: Path, summary: Summary, costs: Sequence[Cost], sets: Sequence[CaseSet], grids: Grids, about: dict[str, Any]
) -> str:
    """Write everything under `folder`, the figures first; returns the Markdown. SettingsError where it cannot be."""
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
    write_figures(folder, summary, about, kept, costs, complete=True)
    with _writing(folder):
        plotted = plots.draw(summary, costs, folder / "plots")
        gridded = grids.write(folder / "grids")
        text = _markdown(kept, sets, [path.relative_to(folder) for path in (*plotted, *gridded)], about)
        (folder / "report.md").write_text(text)
    return text


def write_figures(
    folder: Path,
    summary: Summary,
    about: dict[str, Any],
    made: Sequence[Table] = (),
    costs: Sequence[Cost] = (),
    complete: bool = False,
) -> None:
    """Write results.json under `folder`, in place of what is there only once it is whole.

    `complete` is false while sets are still to be measured: the figures so far, without tables and costs. `groups`
    holds those of more than one picture. SettingsError where it cannot be written.
    """
    results = {
        "complete": complete,
        "about": about,
        "rows": [{"name": row.name, "ours": row.ours, "ablation": row.ablation} for row in summary.rows],
        "tables": [table.json() for table in made],
        "costs": [vars(cost) for cost in costs],
        "groups": {cases: shared for cases, groups in summary.groups.items() if (shared := _shared(groups))},
        "pictures": summary.records,
    }
    path = folder / "results.json"
    fresh = path.with_suffix(".json.new")
    with _writing(folder):
        fresh.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
        fresh.replace(path)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SettingsError(
            f"--out {folder} cannot be written to: {error.strerror or error}; free some space there or name another "
            "folder, results.json there holds the sets that were finished"
        ) from None


def _shared(groups: Mapping[str, str]) -> dict[str, str]:
    """Picture -> group of the groups that hold more than one picture."""
    sizes = Counter(groups.values())
    return {picture: group for picture, group in groups.items() if sizes[group] > 1}


def _markdown(made: Sequence[Table], sets: Sequence[CaseSet], pictures: Sequence[Path], about: dict[str, Any]) -> str:
    lines = ["# Evaluation", "", f"`{about['command']}`", ""]
    lines += [f"- **{one.name}**, {len(one.cases)} pictures: {one.about}" for one in sets]
    lines += [f"- {word}" for word in about["left_out"]]
    lines += [
        "",
        f"Detector: {about['detector']}. Brackets hold 95 % bootstrap intervals (2,000 resamples) over pictures, "
        "the pairs of one scene drawn together; differences are paired, and the hardest peer is the one with the "
        "lowest lower end.",
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
