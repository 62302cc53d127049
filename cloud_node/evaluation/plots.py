"""Plots of the report as PNG, readable in black and white: dark and light, filled and hollow, names at the points."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # files only; no display is needed

from matplotlib import pyplot as plt  # noqa: E402

from cloud_node.evaluation.bootstrap import Estimate, hmean, mean  # noqa: E402
from cloud_node.evaluation.cases import DARKNESS  # noqa: E402
from cloud_node.evaluation.complexity import PEER, TIMED, Cost, label  # noqa: E402
from cloud_node.evaluation.rows import BRIGHT, RAW  # noqa: E402
from cloud_node.evaluation.summary import Summary  # noqa: E402

Panels = dict[str, tuple[dict[str, Estimate | None], dict[str, float], int]]  # title: rows, guides, digits

POINTS: dict[str, Any] = {"textcoords": "offset points"}
OURS, OTHERS, GUIDE = "#0b3c5d", "#e08e0b", "#777777"  # dark blue, light orange: far apart in grey too


def draw(summary: Summary, costs: Sequence[Cost], folder: Path) -> list[Path]:
    """Every plot that the figures allow, as PNG files in `folder`; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [
        _detection(summary, folder / "detection.png"),
        _images(summary, folder / "images.png"),
        _mixed(summary, folder / "mixed-light.png"),
        _cost(summary, costs, folder / "cost.png"),
        _time(costs, folder / "time.png"),
    ]
    return [path for path in drawn if path]


def _detection(summary: Summary, path: Path) -> Path | None:
    panels: Panels = {}
    for name in DARKNESS:
        found = {row: summary.figure(name, row, "counts", hmean) for row in summary.names}
        guides = {row: summary.figure(name, row, "counts", hmean) for row in (RAW, BRIGHT)}
        panels[f"H-mean, {name}"] = (found, {row: one.value for row, one in guides.items() if one}, 3)
    return _dots(summary, panels, path)


def _images(summary: Summary, path: Path) -> Path | None:
    titles = {"psnr": ("PSNR in dB, real pairs", 1), "ssim": ("SSIM, real pairs", 3)}
    panels: Panels = {
        title: ({row: summary.figure("pairs", row, key, mean) for row in summary.names}, {}, digits)
        for key, (title, digits) in titles.items()
    }
    return _dots(summary, panels, path)


def _mixed(summary: Summary, path: Path) -> Path | None:
    titles = {"change": ("change of bright regions, levels", 1), "overshoot": ("bright halo, levels", 1)}
    panels: Panels = {
        title: ({row: summary.figure("plates dark", row, key, mean) for row in summary.names}, {}, digits)
        for key, (title, digits) in titles.items()
    }
    return _dots(summary, panels, path)


def _dots(summary: Summary, panels: Panels, path: Path) -> Path | None:
    """Side by side, a dot with its interval for each row; vertical guides with their names."""
    panels = {title: panel for title, panel in panels.items() if any(panel[0].values())}
    if not panels:
        return None
    height = 1.2 + 0.32 * len(summary.names)
    figure, axes = plt.subplots(
        1, len(panels), figsize=(1.6 + 4.6 * len(panels), height), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, (title, (found, guides, digits)) in zip(axes[0], panels.items(), strict=True):
        for y, row in enumerate(summary.names):
            if (one := found.get(row)) is None:
                continue
            colour, filled = (OURS, True) if row in summary.ours else (OTHERS, False)
            ax.plot([one.low, one.high], [y, y], color=colour, linewidth=2, solid_capstyle="butt", zorder=2)
            ax.plot(one.value, y, "o", color=colour, markerfacecolor=colour if filled else "white", ms=7, zorder=3)
            tag = ax.annotate(f"{one.value:.{digits}f}", (one.value, y), (0, 6), **POINTS, ha="center", fontsize=7)
            tag.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})
        for name, value in guides.items():
            ax.axvline(value, color=GUIDE, linestyle="--" if name == RAW else ":", zorder=1)
            side = {"ha": "right", "xytext": (-2, 2)} if name == RAW else {"ha": "left", "xytext": (2, 2)}
            ax.annotate(name, (value, 1), xycoords=("data", "axes fraction"), **POINTS, **side, fontsize=8, color=GUIDE)
        ax.set_yticks(range(len(summary.names)), summary.names)
        ax.set_ylim(len(summary.names) - 0.5, -0.8)
        ax.set_xlabel(f"{title} (95 % interval)")
        ax.grid(axis="x", color="#eeeeee")
        ax.spines[["top", "right"]].set_visible(False)
    return _save(figure, path)


def _cost(summary: Summary, costs: Sequence[Cost], path: Path) -> Path | None:
    """H-mean in the deep dark against time, both of the rows that are networks."""
    deep, size = list(DARKNESS)[-1], label(TIMED[0])
    points = [
        (cost.name, cost.ms[size], one.value)
        for cost in costs
        if (one := summary.figure(deep, cost.name, "counts", hmean)) is not None
    ]
    if not points:
        return None
    figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, ms, value in points:
        colour, marker = (OURS, "o") if name in summary.ours else (OTHERS, "s")
        ax.plot(ms, value, marker, color=colour, markerfacecolor=colour if marker == "o" else "white", ms=8)
        ax.annotate(name, (ms, value), (6, 5), **POINTS, fontsize=9)
    for name, style in ((RAW, "--"), (BRIGHT, ":")):
        if one := summary.figure(deep, name, "counts", hmean):
            ax.axhline(one.value, color=GUIDE, linestyle=style)
            ax.annotate(name, (0, one.value), (2, 2), xycoords=("axes fraction", "data"), **POINTS,
                        fontsize=8, color=GUIDE)  # fmt: skip
    ax.set_xscale("log")
    ax.margins(x=0.25, y=0.15)
    ax.set_xlabel(f"ms for a picture of {size}")
    ax.set_ylabel(f"H-mean, {deep}")
    ax.spines[["top", "right"]].set_visible(False)
    return _save(figure, path)


def _time(costs: Sequence[Cost], path: Path) -> Path | None:
    """Time of each network; Zero-DCE's as a guide."""
    if not costs:
        return None
    figure, axes = plt.subplots(
        1, len(TIMED), figsize=(10, 1.2 + 0.35 * len(costs)), sharey=True, layout="constrained", squeeze=False
    )
    for ax, size in zip(axes[0], map(label, TIMED), strict=True):
        for y, cost in enumerate(costs):
            peer = cost.name.startswith("Zero-DCE")
            ax.barh(y, cost.ms[size], color="white" if peer else OURS, edgecolor=OTHERS if peer else OURS,
                    hatch="//" if peer else None)  # fmt: skip
            ax.annotate(f"{cost.ms[size]:,.3g}" if cost.ms[size] < 1000 else f"{cost.ms[size]:,.0f}",
                        (cost.ms[size], y), (3, 0), **POINTS, va="center", fontsize=8)  # fmt: skip
            if cost.name == PEER:
                ax.axvline(cost.ms[size], color=GUIDE, linestyle="--", zorder=0)
        ax.set_yticks(range(len(costs)), [cost.name for cost in costs])
        ax.set_ylim(len(costs) - 0.4, -0.6)
        ax.set_xscale("log")
        ax.margins(x=0.15)
        ax.set_xlabel(f"ms for a picture of {size}, log scale")
        ax.spines[["top", "right"]].set_visible(False)
    return _save(figure, path)


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path
