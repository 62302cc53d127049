"""The timeline of a trial as a picture."""

from collections import Counter
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt  # noqa: E402
from town import Edge  # noqa: E402
from trial import Trial  # noqa: E402

COLORS = {
    "kill": "#c0392b",
    "cut": "#e67e22",
    "slow": "#f1c40f",
    "pause": "#8e44ad",
    "disk": "#16a085",
    "skew": "#7f8c8d",
}
BIN_S = 2.0


def draw(trial: Trial, edges: dict[str, Edge], members: list[str], path: Path) -> None:
    """Faults as bars, readings a second, what waits in the spools, latency and memory, over time."""
    figure, axes = plt.subplots(
        5, 1, figsize=(14, 14), sharex=True, height_ratios=[2.2, 1.2, 1, 1.2, 1], constrained_layout=True
    )
    faults, rates, held, latency, memory = axes
    for fault in trial.faults:
        place = members.index(fault.member)
        faults.barh(place, fault.end_s - fault.start_s, left=fault.start_s, color=COLORS[fault.kind], height=0.7)
    faults.set_yticks(range(len(members)), members)
    faults.invert_yaxis()
    shown = [kind for kind in COLORS if any(fault.kind == kind for fault in trial.faults)]
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLORS[kind]) for kind in shown]
    faults.legend(handles, shown, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    faults.set_title(title(trial))

    for number, (name, edge) in enumerate(edges.items()):
        times = [line.at_s - trial.began_s for line in edge.lines]
        color, bins = f"C{number}", Counter(int(time // BIN_S) for time in times)
        span = range(int(min(times, default=0) // BIN_S), int(trial.settled_s // BIN_S) + 1)
        rates.plot([place * BIN_S for place in span], [bins[place] / BIN_S for place in span], color=color, label=name)
        points = [
            (line.at_s - trial.began_s, line.said["latency_ms"] / 1e3)
            for line in edge.lines
            if line.said["latency_ms"] and line.said["outcome"] == "enhanced"
        ]
        if points:
            latency.plot(*zip(*points, strict=True), ".", markersize=2, color=color)
        failed = [line.at_s - trial.began_s for line in edge.lines if line.said["outcome"] not in ("enhanced", "as_is")]
        rates.plot(failed, [0] * len(failed), "x", color=color)
        waits = [(at, count) for at, who, count in trial.held if who == name]
        if waits:
            held.plot(*zip(*waits, strict=True), color=color)
    rates.set_ylabel("readings/s\n(x: failed)")
    rates.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    held.set_ylabel("frames in\nthe spool")
    latency.set_yscale("log")
    latency.set_ylabel("latency, s")
    for number, name in enumerate(members):
        points = [(at, level.rss_mib) for at, who, level in trial.samples if who == name]
        if points:
            memory.plot(*zip(*points, strict=True), color=f"C{number % 10}", label=name)
    memory.set_ylabel("memory, MiB")
    memory.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small")
    memory.set_xlabel("seconds")
    for ax in axes:
        ax.axvspan(trial.quiet_s, trial.settled_s, color="0.92", zorder=0)
        ax.grid(True, alpha=0.3)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def title(trial: Trial) -> str:
    promised = sum(verdict.promised for verdict in trial.verdicts)
    readings = sum(verdict.readings for verdict in trial.verdicts)
    broken = f"{len(trial.problems)} PROMISES BROKEN" if trial.problems else "no promise broken"
    return (
        f"{len(trial.faults)} faults in {trial.quiet_s:.0f} s, {readings:,} readings, {promised:,} frames kept: "
        f"{broken}; settled {trial.settled_s - trial.quiet_s:.0f} s after the last fault"
    )
