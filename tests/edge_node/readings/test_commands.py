"""`search` and `export` as they are called."""

import csv
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from rich.text import Text

from common import settings
from common.errors import ReadingsError, SettingsError
from edge_node.making import _kept
from edge_node.readings import Store
from edge_node.readings.command import search, table
from edge_node.readings.export import export, whole
from edge_node.readings.store import search_all, stores_in
from edge_node.readings.when import unix_ns
from edge_node.settings import EdgeSettings

ROOT = Path(__file__).resolve().parents[3]
NOW = datetime(2026, 11, 27, 22, 30, 15)


def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_node", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def test_search_in_the_terminal(keep, make_sight, capsys: pytest.CaptureFixture[str]) -> None:
    evil = make_sight(2, "EXIT \x1b[2J\u202e[red]x[/red]", name="cam\x1b]0;title\x07")
    folder = str(keep("EXIT", make_sight(1, "way out", edge="other"), evil))
    assert search(["exit", "--output", folder]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("EXIT") == 2 and "90%" in shown.out and "camera 0" in shown.out
    assert "\x1b" not in shown.out and "\u202e" not in shown.out and "\x07" not in shown.out
    assert "[red]x[/red]" in shown.out  # markup of strangers is text
    assert search(["--output", folder, "--limit", "1"]) == 0
    assert "there may be more" in capsys.readouterr().err


def test_nothing_found_is_said_and_ends_with_1(keep, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(keep("EXIT"))
    assert search(["none", "--since", "2h", "--output", folder]) == 1
    shown = capsys.readouterr()
    assert not shown.out and "nothing found for 'none' with --since 2h among 1 readings; --fuzzy" in shown.err
    assert search(["x1t", "--fuzzy", "--output", str(keep())]) == 1


@pytest.mark.parametrize(
    "wrong", [["x", "--since", "soon"], ["x", "--limit", "0"], ["x", "--since", "1h", "--until", "2h"]]
)
def test_what_is_not_understood(keep, wrong: list[str]) -> None:
    with pytest.raises(SettingsError, match=wrong[1]):
        search([*wrong, "--output", str(keep("x"))])


def test_json_has_all_that_is_known(keep, make_sight, capsys: pytest.CaptureFixture[str]) -> None:
    sight = make_sight(0, "Straße 5")
    assert search(["strasse", "--json", "--output", str(keep(sight))]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["text"] == "Straße 5" and line["frame"] == "gate/5f0c/0" and line["frames"] == 5
    assert line["first_unix_ns"] == sight.first_unix_ns and line["priority"] == "standard" and line["path"] == "cloud"
    assert datetime.fromisoformat(line["first"]).timestamp() == sight.first_unix_ns / 1e9
    assert line["polygon"] == [[10.0, 20.0], [50.0, 20.0], [50.0, 30.0], [10.0, 30.0]] and line["crop"] is None


def test_json_on_a_terminal_does_not_steer_it(
    keep, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = "EXIT \x1b[2J \x9b2J \u202eTIXE Straße"
    folder = str(keep(evil))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert search(["exit", "--json", "--output", folder]) == 0
    assert export(["--format", "jsonl", "--output", folder, "-"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.isascii() and line.isprintable() and json.loads(line)["text"] == evil


def test_what_is_escaped_leaves_the_match_where_it_is(keep) -> None:
    found = search_all(stores_in(keep("a\x1b[2Jb EXIT")), "exit", limit=9)
    cells = [cell for column in table(found, several=False).columns for cell in column.cells]
    [shown] = [cell for cell in cells if isinstance(cell, Text) and "EXIT" in cell.plain]
    assert shown.plain == "a\\x1b[2Jb EXIT" and [shown.plain[span.start : span.end] for span in shown.spans] == ["EXIT"]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2h", datetime(2026, 11, 27, 20, 30, 15)),
        ("90 s ago", datetime(2026, 11, 27, 22, 28, 45)),
        ("1.5d", datetime(2026, 11, 26, 10, 30, 15)),
        ("14:30", datetime(2026, 11, 27, 14, 30)),
        ("yesterday", datetime(2026, 11, 26)),
        ("2026-11-01", datetime(2026, 11, 1)),
        ("2026-11-01 08:15", datetime(2026, 11, 1, 8, 15)),
        ("2026-11-01T08:15:00+00:00", datetime.fromisoformat("2026-11-01T08:15:00+00:00")),
    ],
)
def test_times_as_people_give_them(said: str, meant: datetime) -> None:
    assert unix_ns(said, "--since", NOW) == int(meant.timestamp()) * 10**9


def exported(folder: Path, kind: str, *more: str) -> str:
    out = folder / "out" / f"file.{kind}"
    out.parent.mkdir(exist_ok=True)
    assert export(["--format", kind, "--output", str(folder), str(out), *more]) == 0
    assert [path.name for path in out.parent.iterdir()] == [out.name]  # nothing is left beside it
    return out.read_text(encoding="utf-8")


def test_csv_that_no_spreadsheet_runs(keep) -> None:
    texts = ["=HYPERLINK(1)", "+1", "-2", "@SUM(A1)", " =1+1", "\t=1", 'quote " and\nline', "plain", "Größe"]
    folder = keep(*texts)
    rows = list(csv.DictReader(exported(folder, "csv").splitlines(keepends=True)))
    assert [row["text"] for row in rows] == [f"'{text}" for text in texts[:6]] + texts[6:]
    assert rows[0]["polygon"] == "10,20 50,20 50,30 10,30" and rows[0]["frame"] == "gate/5f0c/0"


def test_json_lines_have_what_the_database_has(keep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_node.readings.store.PAGE", 3)  # several reads
    folder = keep(*(f"sign {n}" for n in range(10)))
    lines = [json.loads(line) for line in exported(folder, "jsonl").splitlines()]
    assert [line["text"] for line in lines] == [f"sign {n}" for n in range(10)]
    some = exported(folder, "jsonl", "--until", datetime.fromtimestamp(1_790_000_004).isoformat(), "--camera", "0")
    assert len(some.splitlines()) == 5


class CocoText:
    """Reads annotations as the API of the data set does (coco_text.py, Veit 2016): with whole numbers for ids."""

    def __init__(self, text: str) -> None:
        data = json.loads(text)
        self.of_image = {int(id): data["imgToAnns"][id] for id in data["imgToAnns"]}
        self.images = {int(id): data["imgs"][id] for id in data["imgs"]}
        self.annotations = {int(id): data["anns"][id] for id in data["anns"]}
        self.train = [int(id) for id in data["imgs"] if data["imgs"][id]["set"] == "train"]
        assert set(data) == {"cats", "anns", "imgs", "imgToAnns", "info"}


def test_coco_text_as_its_own_reader_takes_it(keep, make_sight) -> None:
    first = make_sight(0, 'EXIT "12"', name="street.jpg")
    folder = keep(first, make_sight(1, "way", name="street.jpg", best=first.best), make_sight(2, ""))
    data = CocoText(exported(folder, "coco-text"))
    assert sorted(data.train) == sorted(data.images) == sorted(data.of_image)
    for id, image in data.images.items():
        assert image["id"] == id and (image["width"], image["height"]) == (600, 400)
        assert all(data.annotations[ann]["image_id"] == id for ann in data.of_image[id])
    assert sorted(image["file_name"] for image in data.images.values()) == ["gate-5f0c-2.jpg", "street.jpg"]
    assert sorted(len(anns) for anns in data.of_image.values()) == [1, 2]
    for id, ann in data.annotations.items():
        assert ann["id"] == id and ann["bbox"] == [10.0, 20.0, 40.0, 10.0] and ann["area"] == 400.0
        assert ann["mask"] == [10.0, 20.0, 50.0, 20.0, 50.0, 30.0, 10.0, 30.0]
        assert ann["class"] in ("machine printed", "handwritten") and ann["language"] in (
            "english",
            "not english",
            "na",
        )
    legible = [ann["utf8_string"] for ann in data.annotations.values() if ann["legibility"] == "legible"]
    assert legible == ['EXIT "12"', "way"]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "coco-text"])
def test_nothing_kept_makes_an_empty_file(keep, kind: str) -> None:
    text = exported(keep(), kind)
    assert len(text.splitlines()) == {"csv": 1, "jsonl": 0}.get(kind, len(text.splitlines()))
    if kind == "coco-text":
        assert CocoText(text).images == {}


def test_a_file_is_replaced_when_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("before")
    with pytest.raises(RuntimeError), whole(path) as file:
        file.write("half")
        raise RuntimeError
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(ReadingsError, match="cannot write"), whole(tmp_path / "none" / "out.csv"):
        pass


def test_the_commands_and_a_node_that_keeps(tmp_path: Path) -> None:
    """A real node makes the database; `search` and `export` read it, and end as they say."""
    from PIL import Image

    Image.new("RGB", (64, 48), (200, 200, 200)).save(tmp_path / "bright.png")
    out = str(tmp_path / "out")
    node = ran("--source", str(tmp_path / "bright.png"), "--detector", "none", "--local", "only", "--output", out)
    assert node.returncode == 0, node.stderr
    assert Store(tmp_path / "out").count() == 0
    with pytest.raises(ReadingsError, match="no readings are kept in"):
        export(["--format", "csv", "--output", str(tmp_path / "none"), "-"])
    nothing = ran("search", "--output", out)
    assert nothing.returncode == 1 and "nothing is kept" in nothing.stderr


def test_what_the_node_makes_of_its_settings(tmp_path: Path) -> None:
    base = ["--camera", "0", "--output", str(tmp_path / "out")]
    off = settings.load(EdgeSettings, [*base, "--no-keep-readings"], {})
    assert _kept(off, tmp_path / "out") == [] and not (tmp_path / "out").exists()
    with pytest.raises(SettingsError, match="--readings-mib 0: at least 1"):
        settings.load(EdgeSettings, [*base, "--readings-mib", "0"], {})
    [sink] = _kept(settings.load(EdgeSettings, base, {}), tmp_path / "out")
    sink.close()
    assert (tmp_path / "out" / "readings.db").exists()
