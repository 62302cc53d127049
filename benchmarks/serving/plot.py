"""Pictures of the comparison."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from bench import RESULTS  # noqa: E402

OURS, OTHERS = "tab:orange", ("tab:blue", "tab:green", "tab:purple")


def throughput(figures: dict) -> None:
    """Bars of the highest rates with the limit as a line, and p99 by offered rate."""
    rows = dict(figures["systems"])
    limit = rows.pop("limit", None)
    colors = dict(zip(rows, (OURS if name == "ours" else None for name in rows), strict=True))
    others = iter(OTHERS)
    colors = {name: color or next(others) for name, color in colors.items()}
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    bars = left.bar(
        [row["title"] for row in rows.values()],
        [row["most_fps"] for row in rows.values()],
        color=[colors[name] for name in rows],
    )
    left.bar_label(bars, fmt="%.0f")
    if limit and limit["most_fps"]:
        left.axhline(limit["most_fps"], color="black", linestyle="--", label="bare gRPC up, bare NATS down")
        left.legend(loc="upper right")
        left.set_ylim(top=limit["most_fps"] * 1.2)
    left.set_ylabel("frames/s sustained")
    left.tick_params(axis="x", labelsize=9)
    left.set_title(f"{figures['size']}, the same work behind each, two cores")
    for name, row in rows.items():
        points = sorted({t["offered_fps"]: t for t in row["trials"] if t["sustained"]}.items())
        right.plot(
            [rate for rate, _ in points],
            [trial["p99_ms"] for _, trial in points],
            marker="o",
            color=colors[name],
            label=row["title"],
        )
    right.set(xlabel="frames/s offered", ylabel="p99 latency, ms", yscale="log", title="due until read, open loop")
    right.legend()
    RESULTS.mkdir(parents=True, exist_ok=True)
    figure.savefig(RESULTS / "throughput.png", dpi=110)
    plt.close(figure)
