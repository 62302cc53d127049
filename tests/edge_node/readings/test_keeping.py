"""The sink: what is kept of sights and frames, and what happens when disk or database fail it."""

import contextlib
import logging
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import ReadingsError
from common.frame import FrameId, Outcome, Priority, Reading, Region
from edge_node.readings import Store, bounds
from edge_node.readings import sink as sinks
from edge_node.readings.rows import row_of
from edge_node.readings.schema import VERSION
from edge_node.readings.sink import KeptReadings
from edge_node.readings.writer import Writer
from edge_node.sights import SightSink
from edge_node.sinks import Shown

ROOT = Path(__file__).resolve().parents[3]
BOX = ((4.0, 5.0), (40.0, 5.0), (40.0, 20.0), (4.0, 20.0))
CROP = np.full((24, 80, 3), 200, np.uint8)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "EVERY_S", 0.02)
    monkeypatch.setattr(sinks, "RETRY_S", 0.05)
    monkeypatch.setattr(sinks, "BUSY_S", 0.001)
    monkeypatch.setattr(bounds, "LOOK_EVERY_S", 0.05)


def until(holds: Callable[[], bool]) -> None:
    def held() -> bool:
        try:
            return holds()
        except ReadingsError:  # the database is just being made
            return False

    deadline = time.monotonic() + 60
    while not held():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def kept(folder: Path, text: str = "") -> list[str]:
    with Store(folder) as store:
        return [found.text for found in store.search(text, limit=10_000)]


def sound(folder: Path) -> bool:
    """Whether the database and its indexes hold together, by SQLite's own checks."""
    database = sqlite3.connect(folder / "readings.db")
    for index in ("grams", "row_words", "word_grams"):
        database.execute(f"INSERT INTO {index} ({index}) VALUES ('integrity-check')")
    (answer,) = database.execute("PRAGMA integrity_check").fetchone()
    database.close()
    return answer == "ok"


def shown(sequence: int, *regions: Region) -> Shown:
    id = FrameId("gate", "s1", sequence)
    reading = Reading(id, "camera 0", time.time_ns(), Priority.STANDARD, Outcome.ENHANCED, regions=regions)
    return Shown(reading, np.zeros((48, 64, 3), np.uint8), None)


def test_a_sight_is_one_row_and_a_later_one_replaces_it(tmp_path: Path, make_sight) -> None:
    sink = KeptReadings(tmp_path, days=0)
    assert isinstance(sink, SightSink)
    first = make_sight(0, "EX1T", ended=False, crop=CROP)
    sink.sights([first])
    until(lambda: kept(tmp_path) == ["EX1T"])  # while the node runs
    [found] = Store(tmp_path).search("ex1t")
    assert found.crop is not None and found.crop.parent.parent == tmp_path / "sights"
    sink.sights([replace(first, text="EXIT", frames=9, crop=None)])
    until(lambda: kept(tmp_path) == ["EXIT"])
    sink.sights([replace(first, text="EXIT", frames=12, ended=True)])
    sink.close()
    sink.close()
    [found] = Store(tmp_path).search("")
    assert (found.text, found.frames, found.ended) == ("EXIT", 12, True)
    assert found.crop is not None and found.crop.read_bytes().startswith(b"\xff\xd8")
    assert kept(tmp_path, "ex1t") == [] and sound(tmp_path)


def test_a_sight_that_only_goes_on_is_written_seldom(tmp_path: Path, make_sight) -> None:
    sink = KeptReadings(tmp_path, days=0)
    sight = make_sight(0, "EXIT", ended=False, frames=1)
    sink.sights([sight])
    until(lambda: kept(tmp_path) == ["EXIT"])
    for frames in range(2, 40):
        sink.sights([replace(sight, frames=frames)])
        time.sleep(0.005)
    assert Store(tmp_path).search("")[0].frames == 1
    sink.close()
    assert Store(tmp_path).search("")[0].frames == 39


def test_regions_with_text_are_kept_where_nothing_is_tracked(tmp_path: Path) -> None:
    sink = KeptReadings(tmp_path, picture_of=lambda one: f"annotated/{one.reading.id.sequence}.jpg")
    (tmp_path / "annotated").mkdir()
    (tmp_path / "annotated" / "7.jpg").write_bytes(b"")
    sink.write(shown(7, Region(BOX, 0.9, "EXIT", 0.8), Region(BOX, 0.9), Region(BOX, 0.9, "TRACKED", 0.8, "s1-1")))
    sink.write(shown(8))
    sink.close()
    [found] = Store(tmp_path).search("")
    assert (found.text, found.confidence, found.score, found.polygon) == ("EXIT", 0.8, 0.9, BOX)
    assert (found.best, found.size, found.frames) == (FrameId("gate", "s1", 7), (64, 48), 1)
    assert found.picture == tmp_path / "annotated" / "7.jpg"


def test_the_oldest_go_with_their_pictures(tmp_path: Path, make_sight) -> None:
    now = time.time_ns()
    (tmp_path / "sights" / "2001-01-01").mkdir(parents=True)  # of a node that was killed before it wrote their rows
    for name in ("orphan.jpg", "half.new"):
        (tmp_path / "sights" / "2001-01-01" / name).write_bytes(b"x")
        os.utime(tmp_path / "sights" / "2001-01-01" / name, (now / 1e9 - 2 * 86_400,) * 2)
    sink = KeptReadings(tmp_path, days=1)
    day = 86_400 * 10**9
    old = make_sight(0, "OLD STUFF", first_unix_ns=now - 2 * day, crop=CROP)
    lasting = make_sight(1, "STILL THERE", first_unix_ns=now - 2 * day, last_unix_ns=now, crop=CROP)
    sink.sights([old, lasting, make_sight(2, "NEW STUFF", first_unix_ns=now, crop=CROP)])
    until(lambda: kept(tmp_path) == ["NEW STUFF", "STILL THERE"])
    until(lambda: not (tmp_path / "sights" / "2001-01-01").exists())
    sink.close()
    assert len(list(tmp_path.glob("sights/*/*.jpg"))) == 2
    assert sound(tmp_path)
    database = sqlite3.connect(tmp_path / "readings.db")
    words = {word for (word,) in database.execute("SELECT word FROM words")}
    database.close()
    assert words == {"new", "stuff", "still", "there"}  # what nobody says any more is forgotten


def test_the_database_stays_within_its_bound_and_gives_room_back(tmp_path: Path, make_sight) -> None:
    sink = KeptReadings(tmp_path, mib=1, days=0)
    for begin in range(0, 4000, 500):
        sink.sights([make_sight(n, f"plate {n * 7919 % 100_003} number {n}") for n in range(begin, begin + 500)])
        until(lambda: not sink._waiting)
    path = tmp_path / "readings.db"
    bound = 2**20
    until(lambda: len(kept(tmp_path)) < 3000 and path.stat().st_size <= 1.05 * bound)
    sink.close()
    left = kept(tmp_path)
    assert left[0].endswith("number 3999") and 1500 < len(left) < 3000
    assert path.stat().st_size <= 1.05 * bound
    assert sound(tmp_path)


def test_pictures_count_as_what_they_take_on_the_disk_and_the_log_is_short(tmp_path: Path, make_sight) -> None:
    sink = KeptReadings(tmp_path, mib=1, days=0)
    for begin in range(0, 600, 100):
        sink.sights([make_sight(n, f"plate number {n}", crop=CROP) for n in range(begin, begin + 100)])
        until(lambda: not sink._waiting)

    def on_disk() -> int:
        total = (tmp_path / "readings.db").stat().st_size
        for path in tmp_path.glob("sights/*/*"):
            with contextlib.suppress(FileNotFoundError):  # it has just gone
                total += path.stat().st_blocks * 512
        return total

    until(lambda: on_disk() <= 1.05 * 2**20)
    assert 0 < len(list(tmp_path.glob("sights/*/*.jpg"))) < 256  # a picture of some 700 bytes takes a block
    assert (tmp_path / "readings.db-wal").stat().st_size <= 1.1 * 2**20
    sink.close()
    assert sound(tmp_path)


def test_a_full_disk_later_is_said_once_and_nothing_that_fits_into_memory_is_lost(
    tmp_path: Path, make_sight, caplog: pytest.LogCaptureFixture
) -> None:
    sink = KeptReadings(tmp_path, days=0)
    sink.sights([make_sight(0, "before")])
    until(lambda: kept(tmp_path) == ["before"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with caplog.at_level(logging.WARNING):
        try:  # a real limit on the size of files; Python ignores SIGXFSZ, so writes fail with EFBIG
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
            for number in range(1, 6):
                sink.sights([make_sight(number, f"during {number}")])
                time.sleep(0.1)
            until(lambda: "cannot keep readings" in caplog.text)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        until(lambda: len(kept(tmp_path)) == 6)
        until(lambda: "is written again" in caplog.text)
    sink.close()
    assert caplog.text.count("cannot keep readings") == 1
    assert sink.lost == 0 and sound(tmp_path)


def test_memory_is_bounded_while_nothing_can_be_written(tmp_path: Path, make_sight) -> None:
    (tmp_path / "readings.db").mkdir()  # cannot be opened
    sink = KeptReadings(tmp_path, days=0)
    sink.sights([make_sight(n, "x", crop=CROP) for n in range(sinks.WAITING + 50)])
    with_crops = [one for one, _ in list(sink._waiting.values()) if one.crop is not None]
    assert len(sink._waiting) <= sinks.WAITING and len(with_crops) <= sinks.CROPS
    box = ((0.0, 0.0), (9.0, 0.0), (9.0, 9.0), (0.0, 9.0))
    sink.write(shown(0, *(Region(box, 0.9, "x", 0.9, f"5f0c-{n}") for n in range(sinks.WAITING + 50))))
    assert len(sink._seen) <= sinks.WAITING
    sink.close()
    assert sink.lost == sinks.WAITING + 50


def test_a_newer_database_is_left_as_it_is_and_the_node_goes_on(
    tmp_path: Path, make_sight, caplog: pytest.LogCaptureFixture
) -> None:
    database = sqlite3.connect(tmp_path / "readings.db")
    database.execute("CREATE TABLE future (a)")
    database.execute("PRAGMA user_version = 99")
    database.close()
    before = (tmp_path / "readings.db").read_bytes()
    sink = KeptReadings(tmp_path, days=0)
    sink.sights([make_sight(0, "x")])
    time.sleep(0.2)
    sink.close()
    assert (tmp_path / "readings.db").read_bytes() == before
    assert caplog.text.count("made by a newer Lamplight (schema 99, this one knows") == 1
    assert sink.lost == 1


def test_a_database_that_is_removed_is_begun_anew(tmp_path: Path, make_sight) -> None:
    sink, store = KeptReadings(tmp_path, days=0), Store(tmp_path / "readings.db")
    sink.sights([make_sight(0, "before")])
    until(lambda: kept(tmp_path) == ["before"])
    assert len(store.search("")) == 1
    (tmp_path / "readings.db").unlink()
    until(lambda: (tmp_path / "readings.db").exists())
    sink.sights([make_sight(1, "after")])
    until(lambda: kept(tmp_path) == ["after"])
    assert [found.text for found in store.search("")] == ["after"]  # that was open all the time
    sink.close()
    store.close()
    assert sound(tmp_path)


def damaged(folder: Path) -> list[Path]:
    return [path for path in folder.glob("readings.db.damaged-*") if path.name[-6:].isdigit()]


def filled(folder: Path, make_sight, count: int = 3000) -> Path:
    writer = Writer(folder / "readings.db")
    writer.put([row_of(make_sight(n, f"sign {n}")) for n in range(count)])
    writer.close()
    return folder / "readings.db"


@pytest.mark.parametrize("how", ["cut off", "no database", "hole", "empty"])
def test_a_damaged_database_is_set_aside_and_what_is_sound_comes_back(
    tmp_path: Path, make_sight, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    path = filled(tmp_path, make_sight)
    size = path.stat().st_size
    if how == "cut off":
        os.truncate(path, size // 2 + 100)
    elif how == "no database":
        path.write_bytes(b"something else entirely " * 1000)
    elif how == "empty":
        path.write_bytes(b"")
    else:
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(size // 2 // 4096 * 4096))
    sink = KeptReadings(tmp_path, days=0)
    for number in range(3000, 3004):
        sink.sights([make_sight(number, f"sign {number}")])
        time.sleep(0.1)
    if how == "empty":  # a new one, as far as SQLite knows
        sink.close()
        assert len(kept(tmp_path)) == 4 and not damaged(tmp_path)
        return
    until(lambda: bool(list(tmp_path.glob("*.recovered"))) and kept(tmp_path)[:1] == ["sign 3003"])
    sink.close()
    assert (
        len(list(tmp_path.glob("*.recovered"))) == 1 and not damaged(tmp_path) and caplog.text.count("is damaged") == 1
    )
    back = kept(tmp_path)
    assert back[:4] == [f"sign {n}" for n in (3003, 3002, 3001, 3000)] and len(set(back)) == len(back)
    assert all(text.removeprefix("sign ").isdigit() for text in back)
    assert sound(tmp_path) and sink.lost == 0


PROGRAM = """
import sys, time
sys.path.insert(0, {here!r})
from common.frame import FrameId, Priority, Route
from edge_node.readings import sink
from edge_node.sights import Sight
sink.EVERY_S = 0.01
kept, start, number = sink.KeptReadings({folder!r}), time.time_ns(), 0
while True:
    number += 1
    box = ((0.0, 0.0), (9.0, 0.0), (9.0, 9.0))
    kept.sights([Sight(f"{{start}}-{{number}}", "gate", "camera 0", f"sign {{number}}", 0.9, 0.9, time.time_ns(),
        time.time_ns(), 1, FrameId("gate", "s", number), box, (60, 40), Priority.STANDARD, Route.CLOUD, True)])
    time.sleep(0.001)
"""


def test_what_was_written_survives_a_node_that_is_killed(tmp_path: Path) -> None:
    before = 0
    for more in (1, 200):
        seen = killed_after(before + more, tmp_path)
        assert sound(tmp_path)
        with Store(tmp_path) as store:
            before = store.count()
        assert before >= seen
        assert len(kept(tmp_path, "sign")) == before and not damaged(tmp_path)


def killed_after(rows: int, folder: Path) -> int:
    """Let a process keep sights and kill it when there are so many; returns how many there were to be seen."""
    child = subprocess.Popen([sys.executable, "-c", PROGRAM.format(here=str(ROOT), folder=str(folder))], cwd=ROOT)
    try:
        with Store(folder) as store:
            until(lambda: store.count() >= rows)
            return store.count()
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()


def test_the_version_is_in_the_file(tmp_path: Path, make_sight) -> None:
    path = filled(tmp_path, make_sight, 1)
    assert int.from_bytes(path.read_bytes()[60:64], "big") == VERSION == 1
