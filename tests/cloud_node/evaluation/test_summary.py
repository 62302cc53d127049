import pytest

from cloud_node.evaluation.bootstrap import hmean, mean
from cloud_node.evaluation.complexity import Cost
from cloud_node.evaluation.rows import Row
from cloud_node.evaluation.summary import Summary
from cloud_node.evaluation.tables import complexity, detection, images, mixed, no_harm
from cloud_node.evaluation.targets import targets

NAMES = {"raw": False, "gain": False, "ours": True}


def counts(right: int, hits: tuple[int, ...] = ()) -> dict:
    return {"found": 10, "right": right, "truth": 10, "hits": hits}


@pytest.fixture
def summary() -> Summary:
    """Four pictures a set, in which ours is better than gain, and gain than raw."""
    rights = {"raw": 4, "gain": 6, "ours": 9, "bright": 10}
    receipts = {row: {f"{i}": counts(right - i % 2) for i in range(4)} for row, right in rights.items()}
    plates = {"raw": {"a": counts(2, (0, 1)), "b": counts(0)}, "gain": {"a": counts(1, (1,)), "b": counts(1, (0,))}}
    plates["ours"] = {"a": counts(2, (0, 1)), "b": counts(1, (3,))}
    for row, change in (("raw", 0.0), ("gain", 30.0), ("ours", 2.0)):
        plates[row]["a"] |= {"change": change, "clipped": 0.0, "spread": 0.0, "overshoot": 0.0, "undershoot": 0.0}
    pairs = {row: {f"{i}": {"psnr": level + i, "ssim": 0.5} for i in range(4)} for row, level in
             (("raw", 8.0), ("gain", 17.0), ("ours", 18.0))}  # fmt: skip
    records = {
        "receipts 8-20x": receipts,
        "receipts bright": {row: one for row, one in receipts.items() if row != "bright"},
        "plates dark": plates,
        "pairs": pairs,
    }
    return Summary(records, [Row(name, lambda rgb: rgb, ours) for name, ours in NAMES.items()])


def test_figures_and_paired_differences(summary: Summary) -> None:
    figure = summary.figure("receipts 8-20x", "ours", "counts", hmean)
    assert figure and figure.value == pytest.approx(0.85)
    by = summary.against("pairs", "ours", "gain", "psnr", mean)
    assert by and (by.value, by.low, by.high) == pytest.approx((1, 1, 1))
    assert summary.figure("dicm", "ours", "niqe", mean) is None
    assert summary.against("pairs", "ours", "ours", "psnr", mean) is None


def test_pictures_of_one_group_are_resampled_as_one(summary: Summary) -> None:
    groups = {"pairs": {"0": "a", "1": "a", "2": "b", "3": "b"}}
    grouped = Summary(summary.records, summary.rows, groups)
    table = grouped.table("pairs", "ours", "psnr")
    assert table is not None and table.tolist() == [[37.0, 2.0], [41.0, 2.0]]
    one, other = (which.figure("pairs", "ours", "psnr", mean) for which in (grouped, summary))
    assert one and other and one.value == other.value == pytest.approx(19.5)
    assert (one.low, one.high) == (18.5, 20.5)
    sets = "receipts 8-20x", "ours", "counts", hmean
    assert grouped.figure(*sets) == summary.figure(*sets)


def test_the_hardest_peer_is_the_closest_from_below(summary: Summary) -> None:
    hardest = summary.hardest("receipts 8-20x", "ours", "counts", hmean)
    assert hardest and hardest.peer == "gain" and hardest.by.above_zero


def test_the_gap_that_is_closed(summary: Summary) -> None:
    closed = summary.closed("receipts 8-20x", "ours")
    assert closed and closed.value == pytest.approx(5 / 6)
    assert summary.closed("receipts 8-20x", "raw") is None


def test_plates_lost_are_named_by_file(summary: Summary) -> None:
    assert summary.lost("plates dark", "gain") == {"a": 1}
    assert summary.lost("plates dark", "ours") == {}


def test_tables_say_it(summary: Summary) -> None:
    table = images(summary)
    assert table
    assert "| ours | **19.50** [18." in table.markdown() and "+1.00 [+1.00, +1.00] (gain)" in table.markdown()
    assert table.json()["rows"]["ours"]["PSNR - hardest peer's"]["peer"] == "gain"
    [found] = detection(summary)
    assert "bright" in found.lines and "| raw | **1.000**" not in found.markdown()
    harm = no_harm(summary)
    assert harm and "- gain, plates dark, lost: a" in harm.markdown()
    assert harm.json()["rows"]["ours"]["plates dark: found"] == "3 of 20"
    lamps = mixed(summary)
    assert lamps and lamps.json()["rows"]["gain"]["change"]["value"] == 30


def test_column_names_are_unique(summary: Summary) -> None:
    cost = Cost("Zero-DCE", 1, {"256x256": 1.0}, {"600x400": 100.0, "1616x1080": 700.0}, {})
    for table in (images(summary), no_harm(summary), complexity([cost], "here")):
        assert table
        names = [column.name for column in table.columns]
        assert len(names) == len(set(names))


def test_targets_tell_what_is_met(summary: Summary) -> None:
    sizes = ("600x400", "1616x1080")
    times = {"Zero-DCE": 100.0, "ours": 150.0}
    table = targets(summary, [Cost(name, 1, {}, dict.fromkeys(sizes, ms), {}) for name, ms in times.items()])
    assert table
    said = {promise: str(cells[0]) for promise, cells in table.lines.items()}
    assert said["receipts 8-20x: three quarters of the gap closed"] == "yes (0.83)"
    assert said["receipts 8-20x: H-mean above every peer"].startswith("yes")
    assert said["pairs: ssim above every peer"].startswith("no")
    assert said["plates dark: no plate lost"] == "yes (0)"
    assert said["600x400: no slower than Zero-DCE"] == "no (1.50)"
    assert not any("scene text" in promise for promise in said)
    assert "- not covered here: frames a second at the edge" in table.markdown()


def test_nothing_measured_gives_no_tables() -> None:
    empty = Summary({}, [Row("raw", lambda rgb: rgb), Row("ours", lambda rgb: rgb, True)])
    assert images(empty) is None and detection(empty) == [] and no_harm(empty) is None and targets(empty, []) is None
