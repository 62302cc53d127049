import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from common.errors import SettingsError
from edge_node import waterfall
from edge_node.waterfall import find, lines_backwards, trace


def reading(sequence: int, **more: object) -> dict:
    return {
        "frame": f"cam/4f/{sequence}", "sequence": sequence, "name": f"night.mp4#{sequence}", "priority": "standard",
        "captured_unix_ns": sequence, "outcome": "enhanced", "reason": "", "model": "fast-1", "latency_ms": 100.0,
        "stages_ms": {"pack": 10.0, "uplink": 20.0, "engine": 40.0, "engine/enhance": 30.0, "reader": 20.0},
        "regions": [{}], **more,
    }  # fmt: skip


def write(file: Path, *lines: object, end: str = "\n") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    file.write_text(text + end)
    return file


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 18])
@pytest.mark.parametrize("text", ["", "\n", "one", "one\n", "one\ntwo\n\nthree", "a" * 100 + "\n" + "b" * 100 + "\n"])
def test_lines_backwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, text: str) -> None:
    monkeypatch.setattr(waterfall, "BLOCK", block)
    file = tmp_path / "lines"
    file.write_text(text)
    assert [line.decode() for line in lines_backwards(file)] == [line for line in reversed(text.split("\n")) if line]


def test_the_newest_is_found_by_name_number_or_as_last(tmp_path: Path) -> None:
    file = write(tmp_path / "readings.jsonl", *(reading(n) for n in (1, 2, 11)), '{"frame": "cam/4f/12", "stag', end="")
    for frame, number in (("last", 11), ("cam/4f/1", 1), ("2", 2)):
        found = find(frame, [file])
        assert found is not None and found["sequence"] == number
    assert find("cam/4f/9", [file]) is None


def test_a_frame_that_was_put_aside_is_found(tmp_path: Path) -> None:
    write(tmp_path / "readings.000000000000100.jsonl", reading(1), reading(2))
    write(tmp_path / "readings.000000000000200.jsonl", reading(3))
    file = write(tmp_path / "readings.jsonl", end="")
    for frame, number in (("last", 3), ("cam/4f/2", 2)):
        found = find(frame, [file])
        assert found is not None and found["sequence"] == number


def test_of_a_large_file_only_the_end_is_read(tmp_path: Path) -> None:
    file = tmp_path / "readings.jsonl"
    with file.open("wb") as sparse:
        sparse.truncate(2**33)
        sparse.seek(0, 2)
        sparse.write(b"\n" + json.dumps(reading(5)).encode() + b"\n")
    found = find("last", [file])
    assert found is not None and found["sequence"] == 5


def test_a_line_that_is_too_long_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waterfall, "BLOCK", 64)
    monkeypatch.setattr(waterfall, "LONGEST", 200)
    for lines in (["a", "b" * 1000, "c"], ["b" * 1000, "c"], ["a", "b" * 1000], ["a", "b" * 200, "c" * 63, "d" * 201]):
        file = tmp_path / "lines"
        file.write_text("\n".join(lines))
        whole = [line for line in reversed(lines) if len(line) <= 200]
        assert [line.decode() for line in lines_backwards(file)] == whole


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        reading(9, stages_ms=None),
        reading(9, stages_ms={"pack": "1"}),
        reading(9, stages_ms={"pack": float("nan")}),
        reading(9, stages_ms={"pack": 10**400}),
        reading(9, latency_ms="soon"),
        reading(9, frame=9),
    ],
)
def test_a_line_that_is_no_reading_is_passed_over(tmp_path: Path, line: object) -> None:
    file = write(tmp_path / "readings.jsonl", reading(1), line)
    found = find("last", [file])
    assert found is not None and found["sequence"] == 1


def test_what_strangers_wrote_moves_no_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J[red]x[/nothing]"
    stages = {"pack": 10.0, evil: 5.0, f"engine/{evil}": 1.0}
    more = {name: evil for name in ("frame", "name", "reason", "priority", "outcome", "model")}
    write(tmp_path / "readings.jsonl", reading(1, **more, stages_ms=stages, regions=5, captured_unix_ns="x"))
    assert trace(["last", "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\x07" not in shown and "[red]x[/nothing]" in shown.replace("\n", "")


def test_the_waterfall_adds_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "porch" / "readings.jsonl", reading(3))
    write(tmp_path / "gate" / "readings.jsonl", reading(4, reason="[b]broken[/b]", outcome="failed"))
    assert trace(["last", "--output", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("cam/4f/4" in line for line in lines) and any("[b]broken[/b]" in line for line in lines)
    rows = {words[0]: words for line in lines if (words := line.split())}
    assert rows["pack"][1:3] == ["edge", "10.0"] and rows["engine"][1:3] == ["cloud", "40.0"]
    assert rows["uplink"][1:3] == ["link", "20.0"] and rows["enhance"][1:3] == ["cloud", "30.0"]
    assert rows["between"][2] == "10.0"


def test_bars_follow_each_other() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(waterfall.waterfall(reading(1), 120))
    bars = [line[line.index(".0") + 2 :] for line in console.export_text().splitlines() if "█" in line]
    ends = [len(bar.rstrip()) for bar in bars]
    starts = [len(bar) - len(bar.lstrip()) for bar in bars]
    assert ends[0] <= starts[1] + 1 and ends[1] <= starts[2] + 1 and starts[3] >= starts[2]


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no readings.jsonl in .*: name the folder"):
        trace(["last", "--output", str(tmp_path)])
    write(tmp_path / "readings.jsonl", reading(1))
    with pytest.raises(SettingsError, match="no frame cam/4f/9 in"):
        trace(["cam/4f/9", "--output", str(tmp_path)])
