"""The judge finds what was broken on purpose."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from invariants import judge, out_of_order, parse

from common.frame import Frame, FrameId, Outcome, Priority, Reading
from common.packing import pack
from common.pixels import RawImage
from edge_node.sinks.json_lines import reading_to_json
from edge_node.spool import Spool


def line(sequence: int, **said: object) -> dict:
    made = reading_to_json(
        Reading(FrameId("edge-1", "s", sequence), "", sequence * 10**9, Priority.STANDARD, Outcome.ENHANCED)
    )
    return {**made, **said}


LINES = [line(number) for number in range(6)]
PROMISED = {f"edge-1/s/{number}" for number in range(6)}


def test_sound_readings_have_no_problem() -> None:
    verdict = judge("edge-1", LINES, PROMISED)
    assert not verdict.problems and (verdict.readings, verdict.promised) == (6, 6)


@pytest.mark.parametrize(
    "breaks, words",
    [
        (lambda lines: lines[:2] + lines[3:], "1 x has no reading and was promised one: edge-1/s/2"),
        (lambda lines: [*lines, lines[4]], "1 x has more than one reading: edge-1/s/4"),
        (lambda lines: [*lines, line(9, frame="edge-2/s/9")], "1 x belongs to another edge: edge-2/s/9"),
        (
            lambda lines: [*lines[:5], line(5, outcome="failed", reason="no result after 5 attempts")],
            "1 x was kept and failed all the same: edge-1/s/5 (no result after 5 attempts)",
        ),
    ],
)
def test_what_is_lost_doubled_or_leaked_is_found(breaks: Callable[[list], list], words: str) -> None:
    assert judge("edge-1", breaks(LINES), PROMISED).problems == [f"edge-1: {words}"]


def test_another_edges_picture_is_found() -> None:
    lines = [line(0, sharpness={"before": 0.1, "after": 0.1}), line(1, sharpness={"before": 0.4, "after": 0.4})]
    found = judge("edge-1", lines, (), sharpness=(0.05, 0.15)).problems
    assert found == ["edge-1: 1 x came back with another edge's picture: edge-1/s/1 (0.4)"]


def test_a_full_disk_excuses_what_it_pushed_out_and_nothing_else() -> None:
    lines = [
        line(0, outcome="failed", reason="the spool was full, and it was the least urgent and oldest"),
        line(1, outcome="failed", reason="its kept copy is damaged"),
    ]
    promised = {"edge-1/s/0", "edge-1/s/1"}
    [problem] = judge("edge-1", lines, promised, disk_was_full=True).problems
    assert "edge-1/s/1" in problem and "edge-1/s/0" not in problem
    assert "2 x" in judge("edge-1", lines, promised).problems[0]


def test_what_left_the_spool_before_something_more_urgent_is_found() -> None:
    def sent(sequence: int, priority: str, at_s: float) -> tuple[float, dict]:
        """Captured at 0, taken from the spool at `at_s`, read a second later."""
        stages = {"spool": at_s * 1000, "uplink": 1.0}
        return at_s + 1, line(sequence, priority=priority, latency_ms=at_s * 1000 + 1000, stages_ms=stages)

    good = [sent(3, "essential", 100.0), sent(4, "essential", 101.0), sent(1, "secondary", 102.0)]
    assert not out_of_order(good)
    bad = [*good, sent(2, "standard", 90.0)]
    assert out_of_order(bad) == ["edge-1/s/2"]
    assert not out_of_order(bad, tried_again_s=99.0)


def test_on_a_real_disk_a_line_taken_out_and_a_frame_left_behind_are_found(tmp_path: Path) -> None:
    """As the laboratory judges: from a readings file and a spool."""
    from watcher import SpoolWatcher  # Linux alone

    (tmp_path / "spool").mkdir()
    watcher = SpoolWatcher(tmp_path / "spool")
    spool = Spool(tmp_path / "spool", "edge-1", limit_bytes=10**8, max_age_s=10**6, free_bytes=0)
    image = pack(RawImage.from_rgb(__import__("numpy").zeros((8, 8, 3), "uint8")))
    for number in range(3):
        spool.store(Frame(FrameId("edge-1", "s", number), image, number), "camera", 192, 0)
    while len(watcher.promised) < 3:
        pass
    watcher.close()
    spool.remove(next(iter(spool)))  # as if it had its reading
    (tmp_path / "readings.jsonl").write_text(json.dumps(line(1)) + '\n{"frame": "edge-1/s/0", "half')
    lines, broken = parse((tmp_path / "readings.jsonl").read_bytes())
    assert (len(lines), broken) == (1, 1)
    problems = judge("edge-1", lines, watcher.promised, watcher.look()).problems
    assert problems[0] == "edge-1: 1 x has no reading and was promised one: edge-1/s/0"
    assert "2 x is still in the spool: edge-1/s/1, edge-1/s/2" in problems[1]
    spool.close()
