import asyncio
import io
import json
import math
from array import array
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from common.frame import FrameId, Outcome, Priority, Result
from edge_node.load import LoadReport, LoadSettings
from edge_node.load.figures import Fairness, Quantiles, bin_of, binned_percentile, percentiles
from edge_node.load.plot import curve, draw
from edge_node.load.progress import Display
from edge_node.load.records import OTHER_REASONS, REASONS, Ending, Measured, Progress, Recorder
from edge_node.load.schedule import Arrival
from edge_node.load.show import ms, tables, warnings

SETTINGS = LoadSettings(source="photos", edges=2, fps=1.0, duration_s=10.0, warm_up_s=2.0, nats="nats://me:secret@host")


def test_percentiles_are_values_that_were_measured() -> None:
    values = np.arange(1, 101, dtype=np.float32)[::-1]
    assert percentiles(values, (50, 95, 99, 99.9, 100)) == [50, 95, 99, 100, 100]
    assert percentiles(np.array([7.0]), (1, 50, 99.9)) == [7, 7, 7]
    assert Quantiles.of(values) == Quantiles(100, 50, 95, 99, 100, 100)
    assert all(map(math.isnan, percentiles(np.array([]), (50, 99))))


def test_binned_percentiles_are_right_within_a_bin() -> None:
    values = np.random.default_rng(1).lognormal(3, 1.5, 20_000)
    histogram = np.bincount([bin_of(value) for value in values], minlength=480)
    for rank in (1, 50, 99, 99.9, 100):
        [exact] = percentiles(values, (rank,))
        assert binned_percentile(histogram, rank) == pytest.approx(exact, rel=0.03)
    assert math.isnan(binned_percentile(np.zeros(480, np.int64), 50))
    assert bin_of(0.0) == bin_of(-1.0) == 0 and bin_of(1e30) == 479


def test_fairness() -> None:
    assert Fairness.of(np.array([10, 10, 10])) == Fairness(3, 10, 10.0, 10, 0.0)
    assert Fairness.of(np.array([9, 10, 11, 14])) == Fairness(4, 9, 11.0, 14, pytest.approx(100 * 3 / 11))
    assert Fairness.of(np.array([5, 11, 11, 11])).deviation_percent == pytest.approx(100 * 4.5 / 9.5)
    assert Fairness.of(np.array([0, 0])).deviation_percent == 0


def result(outcome: Outcome = Outcome.ENHANCED, **stages_ms: float) -> Result:
    stages = {name.replace("__", "/"): int(value * 1e6) for name, value in stages_ms.items()}
    identity = (FrameId("load-0000", "s", 0), 0, Priority.STANDARD, 0)
    return Result(*identity, outcome, model="fast-3", stages_ns=stages, batch_size=2)


def recorded() -> Recorder:
    """Frames at 1.0 s (warm-up) to 11.0 s, one of each ending; those enhanced took 100 ms a second of their time."""
    recorder = Recorder(SETTINGS.warm_up_s)
    for second in range(1, 12):
        row = recorder.add(second % 2, Arrival(float(second), Priority.STANDARD), late_ms=0.5)
        recorder.sent(row, 10.0, 1_000_000)
        recorder.came(row, result(engine=20, engine__enhance=15, scheduler=1), 100.0 * second, 500_000)
    essential = [recorder.add(0, Arrival(3.0, Priority.ESSENTIAL), 0.5) for _ in range(5)]
    recorder.end(essential[0], Ending.REJECTED, 5.0, "overloaded: too many frames")
    recorder.end(essential[1], Ending.DROPPED, reason="the edge's backlog was full")
    recorder.end(essential[2], Ending.LOST, reason="no answer came")
    recorder.came(essential[3], result(Outcome.FAILED), 7.0, 10)
    recorder.came(essential[4], result(Outcome.EXPIRED), 7.0, 10)
    return recorder


def report(recorder: Recorder, ended_s: float = 12.0, connected: int = 2) -> LoadReport:
    measured = recorder.measured()
    measured.ended_s, measured.connected_at_end = ended_s, connected
    return LoadReport.of(SETTINGS, measured, 1_767_225_600.0)


def test_a_report_counts_what_was_due_after_the_warm_up() -> None:
    found = report(recorded())
    assert (found.total_offered, found.total[Ending.ENHANCED], found.sums_hold) == (16, 11, True)
    assert sum(found.total.values()) == 16
    standard, essential = found.priorities[Priority.STANDARD], found.priorities[Priority.ESSENTIAL]
    assert (standard.offered, standard.endings[Ending.ENHANCED]) == (10, 10)
    assert standard.latency_ms == Quantiles(10, *map(pytest.approx, (600, 1100, 1100, 1100, 1100)))
    assert [essential.endings[ending] for ending in Ending if ending] == [0, 1, 1, 1, 1, 1]
    assert math.isnan(essential.latency_ms.p50)
    assert (found.all.offered, found.unserved_percent) == (15, pytest.approx(100 * 5 / 15))
    assert found.frames_per_batch == 2
    # Due at 11 s and back at 12.1 s: after the end, so not in the rates.
    assert standard.served_per_s == pytest.approx(0.9) and standard.offered_per_s == pytest.approx(1.0)
    assert standard.up_mb_per_s == pytest.approx(1.0) and standard.down_mb_per_s == pytest.approx(0.45)
    assert found.served_by_edge == [5, 4]


def test_a_report_tells_where_the_time_went_and_why_frames_failed() -> None:
    found = report(recorded())
    assert list(found.stages_ms) == ["uplink", "scheduler", "engine", "engine/enhance", "downlink"]
    assert found.stages_ms["engine"].p50 == pytest.approx(20) and found.stages_ms["engine"].count == 10
    assert found.stages_ms["downlink"].max == pytest.approx(1100 - 10 - 21)
    assert found.reasons[Ending.REJECTED, "overloaded: too many frames"] == 1
    standard = found.over_time[Priority.STANDARD]
    assert [second.offered for second in standard] == [0, *[1] * 11]
    assert standard[4].p50_ms == pytest.approx(400) and math.isnan(standard[0].p50_ms)


def test_a_frame_counted_twice_or_not_ended_shows() -> None:
    recorder = recorded()
    recorder.end(0, Ending.LOST)
    assert not report(recorder).sums_hold
    recorder = recorded()
    recorder.add(0, Arrival(4.0, Priority.SECONDARY), 0.0)
    found = report(recorder)
    assert not found.sums_hold and any("SUMS DO NOT HOLD" in line for line in warnings(found))


def test_many_different_reasons_are_bounded() -> None:
    recorder = Recorder(0.0)
    for number in range(REASONS + 50):
        recorder.end(recorder.add(0, Arrival(1.0, Priority.STANDARD), 0.0), Ending.REJECTED, 1.0, f"reason {number}")
    reasons = recorder.measured().reasons
    assert len(reasons) == REASONS + 1 and reasons[Ending.REJECTED, OTHER_REASONS] == 50


def test_a_late_generator_is_not_kept_quiet() -> None:
    recorder = Recorder(0.0)
    for number in range(100):
        row = recorder.add(0, Arrival(5.0, Priority.STANDARD), late_ms=50.0 if number > 97 else 0.1)
        recorder.came(row, result(), 60.0, 10)
    found = report(recorder)
    assert found.generator_late and "the generator itself was late (p99 50.0 ms" in warnings(found)[0]
    assert not report(recorded()).generator_late


def test_what_several_processes_measured_is_put_together() -> None:
    one, other = recorded().measured(), recorded().measured()
    other.stages_ms["publisher"] = array("f", [1.0])
    both = one + other
    assert both.rows.size == 32 and both.offered.sum() == 32
    assert both.reasons == Counter({reason: 2 * count for reason, count in one.reasons.items()})
    assert len(both.stages_ms["engine"]) == 20 and len(both.stages_ms["publisher"]) == 1
    assert len(one.stages_ms["engine"]) == 10, "the parts stay as they are"


def test_the_rows_grow() -> None:
    recorder = Recorder(0.0)
    for number in range(10_000):
        recorder.end(recorder.add(number, Arrival(1.0, Priority.STANDARD), 0.0), Ending.LOST)
    rows = recorder.measured().rows
    assert rows.size == 10_000 and (rows["edge"] == np.arange(10_000)).all() and (rows["ending"] == Ending.LOST).all()


def test_json_tables_and_plot(tmp_path: Path) -> None:
    found = report(recorded(), connected=1)
    text = json.dumps(found.to_json(), allow_nan=False)
    back = json.loads(text)
    assert back["settings"]["nats"] == "nats://***@host"
    assert back["schema"] == 1 and back["settings"]["traffic"]["arrivals"] == "fixed"
    assert back["priorities"]["essential"]["latency_ms"]["p50"] is None
    assert back["started"] == "2026-01-01T00:00:00+00:00"
    screen = io.StringIO()
    Console(file=screen, width=140).print(tables(found))
    shown = screen.getvalue()
    assert "16 frames, warm-up and all = 11 enhanced + 1 rejected" in shown
    assert "1 rejected: overloaded: too many frames" in shown and "1 of 2 edges were cut off" in shown
    draw(found, tmp_path / "load.png")
    with Image.open(tmp_path / "load.png") as picture:
        assert picture.width > 1_000 and len(picture.convert("L").getcolors()) > 10


def test_nothing_measured_is_no_error(tmp_path: Path) -> None:
    found = report(Recorder(0.0), ended_s=1.0)
    assert found.seconds == 0 and found.ended_early and found.all.served_per_s == 0
    json.dumps(found.to_json(), allow_nan=False)
    Console(file=io.StringIO()).print(tables(found))
    draw(found, tmp_path / "load.png")
    assert (tmp_path / "load.png").stat().st_size > 0


def test_the_curve_keeps_the_tail() -> None:
    nines, values = curve(np.arange(100_000))
    assert values.size <= 2_000 and values[-1] == 99_999 and nines[-1] == pytest.approx(5)


def progress(elapsed_s: float, connected: int, enhanced: int) -> Progress:
    made = Progress(elapsed_s, edges=2, connected=connected, queued=3, on_the_way=1)
    made.late_ms = 44.0
    made.offered[Priority.STANDARD] = 2 * enhanced
    made.endings[Priority.STANDARD, Ending.ENHANCED] = enhanced
    made.latencies[Priority.STANDARD, bin_of(40.0)] = enhanced
    return made


@pytest.mark.parametrize("terminal", [False, True])
def test_the_display_tells_what_happens(terminal: bool) -> None:
    screen, stop = io.StringIO(), asyncio.Event()
    console = Console(file=screen, force_terminal=terminal, width=160, highlight=False)
    with Display(SETTINGS, console, stop, every_s=1.0) as display:
        display(progress(1.0, 2, 10))
        display(progress(3.0, 1, 30))
        display(progress(5.0, 2, 50))
        stop.set()
        display(progress(6.0, 2, 60))
    shown = screen.getvalue()
    assert "1/12 s (warm-up)" in shown and "offered 20.0/s" in shown and "served 10.0/s" in shown
    assert "1 of 2 edges are cut off" in shown and "all 2 edges are connected again" in shown
    assert "waiting for the last answers" in shown and "p50 40" in shown
    assert "generator late 44.0 ms" in shown
    assert ("standard" in shown) is terminal, "the table by priority needs a terminal"


def test_milliseconds_in_cells() -> None:
    assert [ms(value) for value in (math.nan, 0.123, 1.26, 123.4, 12_345.6)] == ["-", "0.12", "1.3", "123", "12,346"]


def test_progress_of_several_processes() -> None:
    both = progress(1.0, 2, 5) + progress(2.0, 1, 7)
    assert (both.elapsed_s, both.edges, both.connected, both.queued) == (2.0, 4, 3, 6)
    assert both.endings[Priority.STANDARD, Ending.ENHANCED] == 12


def test_a_measured_of_nothing_adds() -> None:
    empty: Measured = Recorder(0.0).measured()
    assert (empty + empty).rows.size == 0
