"""What the project promises of its default networks, each promise held against the figures."""

from collections.abc import Iterator, Sequence

from cloud_node.evaluation.bootstrap import hmean, mean
from cloud_node.evaluation.cases import DARKNESS
from cloud_node.evaluation.complexity import PEER, Cost
from cloud_node.evaluation.rows import RAW
from cloud_node.evaluation.summary import Summary
from cloud_node.evaluation.tables import Cell, Column, Table

SHARE_CLOSED = 0.75
HARM = 0.01  # of the raw H-mean
STAYS = 1.0  # level of 255 by which what is bright already may change on average
NOT_COVERED = (
    "not covered here: frames a second at the edge (benchmarks/local_enhancer.py), and speed on a GPU; halos stand in "
    "the table of mixed light"
)
KEYS = ("psnr", "ssim", "psnr_gt_mean", "ssim_gt_mean")


def targets(summary: Summary, costs: Sequence[Cost]) -> Table | None:
    """One line for each promise, one column for each row of ours: 'yes' or 'no' with the figure; '-' not measured."""
    columns = [Column(name) for name in summary.ours]
    answers = [dict(_answers(summary, name, costs)) for name in summary.ours]
    promises = list(dict.fromkeys(promise for one in answers for promise in one))
    lines: dict[str, list[Cell]] = {promise: [one.get(promise) for one in answers] for promise in promises}
    about = "A row beats its peers when the paired 95 % interval to each of them lies above zero."
    return Table("Targets", about, columns, lines, [NOT_COVERED]) if lines else None


def _answers(summary: Summary, row: str, costs: Sequence[Cost]) -> Iterator[tuple[str, str]]:
    for name in DARKNESS:
        if closed := summary.closed(name, row):
            yield (
                f"{name}: three quarters of the gap closed",
                _answer(closed.value >= SHARE_CLOSED, f"{closed.value:.2f}"),
            )
        if hardest := summary.hardest(name, row, "counts", hmean):
            yield f"{name}: H-mean above every peer", _answer(hardest.by.above_zero, f"{hardest.by.low:+.3f}")
    for key in KEYS:
        if hardest := summary.hardest("pairs", row, key, mean):
            yield f"pairs: {key} above every peer", _answer(hardest.by.above_zero, f"{hardest.by.low:+.3f}")
    for name in ("receipts bright", "scene text bright"):
        raw, change = summary.figure(name, RAW, "counts", hmean), summary.against(name, row, RAW, "counts", hmean)
        if raw and change:
            yield (
                f"{name}: H-mean within 1 % of raw",
                _answer(change.value >= -HARM * raw.value, f"{change.value:+.3f}"),
            )
    for name in ("plates dark", "plates bright"):
        if (lost := summary.lost(name, row)) is not None:
            yield f"{name}: no plate lost", _answer(not lost, str(sum(lost.values())))
    if change := summary.figure("plates dark", row, "change", mean):
        yield "plates dark: what is bright stays", _answer(change.value <= STAYS, f"{change.value:.1f} levels")
    by_name = {cost.name: cost for cost in costs}
    if row in by_name and PEER in by_name:
        for size, ms in by_name[row].ms.items():
            ratio = ms / by_name[PEER].ms[size]
            yield f"{size}: no slower than Zero-DCE", _answer(ratio <= 1, f"{ratio:.2f}")


def _answer(met: bool, figure: str) -> str:
    return f"{'yes' if met else 'no'} ({figure})"
