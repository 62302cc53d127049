"""What must not be lost when clocks jump, databases go and come back, and rows are damaged."""

import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import ReadingsError
from common.frame import FrameId, Outcome, Priority, Reading, Region
from edge_node.readings import Store, bounds, clock, pictures
from edge_node.readings import sink as sinks
from edge_node.readings.bounds import Bounds
from edge_node.readings.export import export
from edge_node.readings.recovery import KEPT_S, Recovery, recovered_rows, remove_recovered, set_aside
from edge_node.readings.rows import row_of
from edge_node.readings.sink import KeptReadings
from edge_node.readings.writer import Writer
from edge_node.sinks import Shown

BOX = ((4.0, 5.0), (40.0, 5.0), (40.0, 20.0), (4.0, 20.0))
CROP = np.full((24, 80, 3), 200, np.uint8)
DAY_S = 86_400.0
DAY_NS = 86_400 * 10**9


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "EVERY_S", 0.02)
    monkeypatch.setattr(sinks, "BUSY_S", 0.001)
    monkeypatch.setattr(bounds, "LOOK_EVERY_S", 0.0)


class Time:
    """Clocks that a test moves: the wall's alone, or both."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead_s = self.passed_s = 0.0
        wall, steady = time.time_ns, clock.steady_s
        monkeypatch.setattr(time, "time_ns", lambda: wall() + int((self.ahead_s + self.passed_s) * 1e9))
        monkeypatch.setattr(clock, "steady_s", lambda: steady() + self.passed_s)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def found(folder: Path, text: str = "") -> list[str]:
    with Store(folder / "readings.db") as store:
        return [one.text for one in store.search(text, limit=10_000)]


def recent(make_sight, count: int = 20, days_ago: float = 0.0) -> list[dict]:
    begin = time.time_ns() - int(days_ago * DAY_NS)
    return [row_of(make_sight(n, f"sign {n}", first_unix_ns=begin - n * 10**9)) for n in range(count)]


def settle(bound: Bounds, writer: Writer) -> None:
    while bound.step(writer):
        pass


@pytest.mark.parametrize("days", [40, -40])
def test_a_clock_that_jumps_costs_no_reading_until_it_has_held_for_a_day(
    tmp_path: Path, make_sight, clocks: Time, days: int
) -> None:
    clocks.ahead_s = min(0, days) * DAY_S  # a device without a clock boots in the past
    writer, bound = Writer(tmp_path / "readings.db"), Bounds(tmp_path, 30, 1024)
    writer.put(recent(make_sight))
    settle(bound, writer)
    assert writer.rows == 20
    clocks.ahead_s += 40 * DAY_S
    settle(bound, writer)
    clocks.passed_s += 0.9 * DAY_S
    settle(bound, writer)
    assert writer.rows == 20
    clocks.passed_s += 0.2 * DAY_S  # it seems to be right
    settle(bound, writer)
    assert writer.rows == 0
    writer.close()


def test_time_that_passes_and_a_clock_that_is_set_right_are_no_jumps(tmp_path: Path, make_sight, clocks: Time) -> None:
    writer, bound = Writer(tmp_path / "readings.db"), Bounds(tmp_path, 30, 1024)
    writer.put(recent(make_sight))
    clocks.ahead_s, clocks.passed_s = 20 * 60.0, 31 * DAY_S
    settle(bound, writer)
    assert writer.rows == 0
    writer.close()


def test_a_clock_that_is_wrong_at_the_start_is_doubted_too(tmp_path: Path, make_sight, clocks: Time) -> None:
    writer = Writer(tmp_path / "readings.db")
    writer.put(recent(make_sight))
    writer.close()
    clocks.ahead_s = 40 * DAY_S
    sink = KeptReadings(tmp_path)
    until(lambda: sink._bounds._not_before_s > 0)  # it has looked
    sink.close()
    assert len(found(tmp_path)) == 20


def picture(folder: Path, name: str, days_ago: float) -> Path:
    path = folder / "sights" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\xff\xd8")
    os.utime(path, (time.time() - days_ago * DAY_S,) * 2)
    return path


def test_pictures_of_another_database_stay_for_their_days(tmp_path: Path, make_sight) -> None:
    """readings.db was moved away, and a new one has only what came since."""
    theirs = picture(tmp_path, "2026-01-02/5f0c-7.jpg", 3)
    mine = picture(tmp_path, "2026-01-02/5f0c-0.jpg", 50)  # of a sign that hangs there still
    old, half = picture(tmp_path, "2026-01-02/5f0c-8.jpg", 31), picture(tmp_path, "2026-01-02/5f0c-9.new", 31)
    other = picture(tmp_path, "2026-01-02/notes.txt", 50)
    writer, bound = Writer(tmp_path / "readings.db"), Bounds(tmp_path, 30, 1024)
    writer.put([row | {"crop": mine.relative_to(tmp_path).as_posix()} for row in recent(make_sight, 1)])
    settle(bound, writer)
    writer.close()
    assert [path.exists() for path in (theirs, mine, other, old, half)] == [True, True, True, False, False]


def test_a_sight_keeps_the_picture_of_its_best_frame(tmp_path: Path, make_sight) -> None:
    writer, sight = Writer(tmp_path / "readings.db"), make_sight(0, "EXIT")
    (tmp_path / "a.jpg").write_bytes(b"x")
    writer.put([row_of(sight, "a.jpg")])
    writer.put([row_of(replace(sight, frames=5000))])  # the frame was forgotten long ago
    assert Store(tmp_path).search("")[0].picture == tmp_path / "a.jpg"
    writer.put([row_of(replace(sight, best=FrameId("gate", "5f0c", 9)))])
    assert Store(tmp_path).search("")[0].picture is None
    writer.close()


def test_what_comes_back_does_not_replace_what_is_newer(tmp_path: Path, make_sight) -> None:
    writer, sight = Writer(tmp_path / "readings.db"), make_sight(0, "EXIT", frames=9)
    writer.put([row_of(sight)])
    writer.put([row_of(replace(sight, text="EX1T", frames=2)) | {"crop": "sights/d/a.jpg", "crop_bytes": 7}], False)
    writer.put([row_of(make_sight(1, "OLD"))], replace=False)
    writer.close()
    [old, now] = Store(tmp_path).search("")
    assert (now.text, now.frames, old.text) == ("EXIT", 9, "OLD")
    with sqlite3.connect(tmp_path / "readings.db") as database:
        assert database.execute("SELECT crop FROM sights WHERE id = ?", (sight.id,)).fetchone() == ("sights/d/a.jpg",)
        assert dict(database.execute("SELECT name, value FROM totals")) == {"crop_bytes": 7, "rows": 2}
    database.close()


def test_a_recovery_that_was_stopped_goes_on_in_the_next_run(tmp_path: Path, make_sight) -> None:
    path = tmp_path / "readings.db"
    for first, name in ((0, "first"), (300, "second")):  # the second is damaged before the first is through
        writer = Writer(path)
        writer.put([row_of(make_sight(n, f"{name} {n}")) for n in range(first, first + 300)])
        writer.close()
        set_aside(path, "a test")
    rows = recovered_rows(path)
    next(rows)
    rows.close()  # killed
    sink = KeptReadings(tmp_path, days=0)
    until(lambda: len(list(tmp_path.glob("*.recovered"))) == 2)
    sink.close()
    assert len(found(tmp_path, "first")) == len(found(tmp_path, "second")) == 300
    assert list(recovered_rows(path)) == []


def test_a_recovery_waits_for_a_full_disk(tmp_path: Path, make_sight) -> None:
    path = tmp_path / "readings.db"
    writer = Writer(path)
    writer.put([row_of(make_sight(n, f"sign {n}")) for n in range(250)])
    writer.close()
    set_aside(path, "a test")
    writer, recovery = Writer(path), Recovery(path)
    pages = writer._pragma("page_count")
    writer._pragma(f"max_page_count = {pages + 3}")
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="full"):
            recovery.step(writer)
    writer._pragma("max_page_count = 100000")
    while recovery.step(writer):
        pass
    assert writer.rows == 250
    writer.close()


def test_what_was_set_aside_goes_by_its_age_when_it_is_through(tmp_path: Path) -> None:
    path, now = tmp_path / "readings.db", time.time()
    for day, age_s, end in (("01", KEPT_S + 9, ".recovered"), ("02", 9, ".recovered"), ("03", KEPT_S + 9, "")):
        (tmp_path / f"readings.db.damaged-202601{day}-000000{end}").write_bytes(b"x")
        os.utime(tmp_path / f"readings.db.damaged-202601{day}-000000{end}", (now - age_s,) * 2)
    remove_recovered(path)
    left = [one.name.removeprefix("readings.db.damaged-202601") for one in sorted(tmp_path.iterdir())]
    assert left == ["02-000000.recovered", "03-000000"]
    for minute in range(6):
        (tmp_path / f"readings.db.damaged-20260104-00{minute:02}00.recovered").write_bytes(b"x")
    remove_recovered(path)
    assert len(list(tmp_path.glob("*.recovered"))) == 3


BAD = [
    ("polygon", "garbage"), ("polygon", "[[1e999, 2]]"), ("priority", 9), ("path", "no"), ("text", b"\xff\x00"),
    ("folded", b"exit"), ("name", b"x"), ("first_ns", "then"), ("confidence", "sure"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value"), BAD)
def test_a_damaged_row_is_left_out_and_no_search_fails(
    keep, caplog: pytest.LogCaptureFixture, column: str, value: object
) -> None:
    folder = keep("EXIT one", "EXIT two", "EXIT three")
    database = sqlite3.connect(folder / "readings.db")
    database.execute(f"UPDATE sights SET {column} = ? WHERE id = '5f0c-1'", (value,))
    database.commit()
    database.close()
    with caplog.at_level(logging.WARNING):
        assert found(folder, "exit") == found(folder) == ["EXIT three", "EXIT one"]
    assert export(["--format", "jsonl", "--output", str(folder), str(folder / "out")]) == 0
    texts = [json.loads(line)["text"] for line in (folder / "out").read_text().splitlines()]
    assert texts == ["EXIT one", "EXIT three"]
    set_aside(folder / "readings.db", "a test")
    rows = [row["text"] for some in recovered_rows(folder / "readings.db") for row in some]
    assert rows == ["EXIT three", "EXIT one"]


def test_text_that_is_no_utf_8_ends_no_search(keep) -> None:
    folder = keep("EXIT one", "EXIT two")
    database = sqlite3.connect(folder / "readings.db")
    database.execute("UPDATE sights SET name = CAST(x'ff41' AS TEXT) WHERE id = '5f0c-1'")
    database.commit()
    database.close()
    assert found(folder, "exit") == ["EXIT two", "EXIT one"]


def test_the_time_of_a_sight_whose_clock_was_set_right_moves_with_it(tmp_path: Path, make_sight) -> None:
    sink = KeptReadings(tmp_path, days=0)
    sight = make_sight(0, "EXIT", ended=False, crop=CROP)
    sink.sights([make_sight(1, "OTHER"), sight])
    until(lambda: (tmp_path / "readings.db").exists() and len(found(tmp_path)) == 2)
    [before] = Store(tmp_path).search("exit")
    days = 40 * DAY_NS
    moved = replace(
        sight, first_unix_ns=sight.first_unix_ns + days, last_unix_ns=sight.last_unix_ns + days, ended=True,
        best=FrameId("gate", "5f0c", 5),
    )  # fmt: skip
    sink.sights([moved])
    sink.close()
    [after] = Store(tmp_path).search("exit", since=moved.first_unix_ns - 10**9)
    assert after.crop is not None and after.crop != before.crop and not before.crop.exists()
    assert Store(tmp_path).search("exit", until=sight.last_unix_ns + DAY_NS) == []
    assert found(tmp_path) == ["EXIT", "OTHER"]
    database = sqlite3.connect(tmp_path / "readings.db")
    for index in ("grams", "row_words", "word_grams"):
        database.execute(f"INSERT INTO {index} ({index}) VALUES ('integrity-check')")
    database.close()


def test_a_sign_in_view_is_found_by_when_it_was_last_seen(
    tmp_path: Path, make_sight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A month after it came into sight the tracker tells of it every three days."""
    monkeypatch.setattr(sinks, "LASTING_S", 0.05)
    now = time.time_ns()
    sight = make_sight(0, "EXIT", first_unix_ns=now - 30 * DAY_NS, last_unix_ns=now - 2 * DAY_NS, ended=False)
    sink = KeptReadings(tmp_path, days=0)
    sink.sights([sight])
    id = FrameId("gate", "5f0c", 70)
    region = Region(BOX, 0.9, "EXIT", 0.8, sight.id)
    sink.write(Shown(Reading(id, "camera 0", now, Priority.STANDARD, Outcome.ENHANCED, regions=(region,)), None, None))
    until(lambda: (tmp_path / "readings.db").exists() and bool(Store(tmp_path).search("", since=now - 3600 * 10**9)))
    [seen] = Store(tmp_path).search("exit", since=now - 3600 * 10**9)
    assert seen.last_unix_ns == now
    sink.sights([replace(sight, text="EXIT 1")])  # made before
    until(lambda: found(tmp_path) == ["EXIT 1"])
    assert Store(tmp_path).search("")[0].last_unix_ns == now
    sink.close()


def test_a_crop_is_written_once_for_each_best_view(tmp_path: Path, make_sight, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    keep_crop = pictures.keep_crop
    monkeypatch.setattr(pictures, "keep_crop", lambda *about: (written.append(about[1]), keep_crop(*about))[1])
    sink, sight = KeptReadings(tmp_path, days=0), make_sight(0, "EXIT", ended=False, crop=CROP)
    for number in range(4):
        sink.sights([replace(sight, text=f"EXIT {number}")])
        until(lambda: not sink._waiting and (tmp_path / "readings.db").exists())
        until(lambda number=number: found(tmp_path) == [f"EXIT {number}"])
    assert len(written) == 1
    sink.sights([replace(sight, best=FrameId("gate", "5f0c", 5), ended=True)])
    sink.close()
    assert len(written) == 2 and Store(tmp_path).search("")[0].crop is not None


@pytest.mark.parametrize("mark", ["", "PRAGMA application_id = 77; PRAGMA user_version = 1;"])
def test_a_database_of_another_program_is_left_as_it_is(tmp_path: Path, mark: str) -> None:
    database = sqlite3.connect(tmp_path / "readings.db")
    database.executescript(f"CREATE TABLE temperatures (a);{mark}")
    database.close()
    before = (tmp_path / "readings.db").read_bytes()
    with pytest.raises(ReadingsError, match="another program"):
        Writer(tmp_path / "readings.db")
    with pytest.raises(ReadingsError, match="another program"):
        Store(tmp_path).search("")
    assert (tmp_path / "readings.db").read_bytes() == before


def test_a_database_from_before_there_was_a_mark_is_ours(keep) -> None:
    folder = keep("EXIT")
    with sqlite3.connect(folder / "readings.db") as database:
        assert database.execute("PRAGMA application_id").fetchone() == (0x4C616D70,)
        database.execute("PRAGMA application_id = 0")
    database.close()
    Writer(folder / "readings.db").close()
    assert found(folder) == ["EXIT"]


def test_a_row_leads_to_no_file_outside(keep, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.jpg"
    outside.write_bytes(b"x")
    folder = keep(*["EXIT"] * 4)
    (folder / "sights").mkdir()
    (folder / "sights" / "link.jpg").symlink_to(outside)
    names = (str(outside), f"../{outside.parent.name}/secret.jpg", f"sights/../../{outside.parent.name}/secret.jpg")
    database = sqlite3.connect(folder / "readings.db")
    for number, name in enumerate((*names, "sights/link.jpg")):
        database.execute("UPDATE sights SET crop = ?, picture = ? WHERE id = ?", (name, name, f"5f0c-{number}"))
    database.commit()
    database.close()
    assert [(one.crop, one.picture) for one in Store(folder).search("exit")] == [(None, None)] * 4
    assert export(["--format", "jsonl", "--output", str(folder), str(folder / "out")]) == 0
    assert "secret" not in (folder / "out").read_text() and "link.jpg" not in (folder / "out").read_text()


def test_a_folder_of_pictures_on_another_disk_is_no_way_out(keep, tmp_path_factory: pytest.TempPathFactory) -> None:
    disk = tmp_path_factory.mktemp("disk")
    (disk / "a.jpg").write_bytes(b"x")
    folder = keep("EXIT")
    (folder / "sights").symlink_to(disk)
    database = sqlite3.connect(folder / "readings.db")
    database.execute("UPDATE sights SET crop = 'sights/a.jpg'")
    database.commit()
    database.close()
    assert Store(folder).search("exit")[0].crop == folder / "sights" / "a.jpg"
