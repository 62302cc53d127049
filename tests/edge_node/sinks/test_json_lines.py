import errno
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.errors import SettingsError
from common.files import sync_folder
from common.frame import Outcome, Priority
from common.telemetry import STAGES
from edge_node import record
from edge_node.record import Bound, earlier
from edge_node.sinks import JsonLines, json_lines, reading_to_json
from edge_node.sinks.json_lines import in_order

REPOSITORY = Path(__file__).resolve().parents[3]


def test_the_schema(make_shown) -> None:
    reading = make_shown(17, priority=Priority.ESSENTIAL).reading
    assert reading_to_json(reading) == {
        "schema": 1,
        "frame": "gate-1/s1/17",
        "edge": "gate-1",
        "session": "s1",
        "sequence": 17,
        "name": "street17.jpg",
        "captured_unix_ns": 1_700_000_000_000_000_017,
        "priority": "essential",
        "outcome": "enhanced",
        "path": "cloud",
        "reason": "",
        "model": "fast-1",
        "sharpness": {"before": 0.012346, "after": 0.25},
        "latency_ms": 123.457,
        "stages_ms": {"source": 0.001, "engine": 7.654, "reader": 5.0},
        "bytes": {"raw": 9216, "up": 4000, "down": 5000},
        "sent_as": "lossless",
        "regions": [
            {
                "polygon": [[4.0, 5.0], [40.25, 5.0], [40.25, 20.0], [4.0, 20.0]],
                "score": 0.8765,
                "text": "",
                "confidence": 0.0,
                "sight": "",
            }
        ],
    }
    assert list(reading_to_json(reading)["stages_ms"]) == ["source", "engine", "reader"]


def test_stages_are_in_the_order_of_the_walk() -> None:
    mixed = ["sinks", "other/part", "reader", "another", "other", "engine/enhance", "uplink", "engine", "source"]
    assert in_order(mixed) == [
        "source", "uplink", "engine", "engine/enhance", "reader", "sinks", "another", "other", "other/part",
    ]  # fmt: skip
    assert in_order(reversed(STAGES)) == list(STAGES)


def test_every_line_is_there_at_once_and_later_runs_append(tmp_path: Path, make_shown) -> None:
    path = tmp_path / "new" / "readings.jsonl"
    sink = JsonLines(path)
    sink.write(make_shown(1))
    assert json.loads(path.read_text())["sequence"] == 1
    sink.write(make_shown(2, outcome=Outcome.EXPIRED))
    sink.close()
    sink.close()
    again = JsonLines(str(path))
    again.write(make_shown(3))
    again.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["sequence"] for line in lines] == [1, 2, 3]
    assert lines[1]["outcome"] == "expired"
    assert lines[1]["reason"] == "its deadline passed"


def test_numbers_and_names_that_json_does_not_have(tmp_path: Path, make_shown) -> None:
    path = tmp_path / "readings.jsonl"
    sink = JsonLines(path)
    sink.write(make_shown(1, sharpness_after=float("nan"), name="stra\u00dfe \u8857 \udce9\n.jpg"))
    sink.close()
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["sharpness"]["after"] is None
    assert json.loads(line)["name"] == "stra\u00dfe \u8857 \udce9\n.jpg"


def test_a_link_to_another_folder_or_to_a_pipe(tmp_path: Path, make_shown, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a new file is on the disk where the file is."""
    (tmp_path / "disk").mkdir()
    path, synced, begin = tmp_path / "readings.jsonl", list[Path](), sync_folder
    path.symlink_to(tmp_path / "disk" / "lines.jsonl")
    monkeypatch.setattr(json_lines, "sync_folder", lambda folder: synced.append(folder) or begin(folder))
    JsonLines(path).close()
    assert synced == [(tmp_path / "disk").resolve()]
    path.unlink()
    reading, writing = os.pipe()
    path.symlink_to(f"/proc/self/fd/{writing}")
    (tmp_path / "readings.jsonl.doubt").touch()  # a pipe is never sure
    sink = JsonLines(path)
    sink.write(make_shown(1))
    assert json.loads(os.read(reading, 4096))["sequence"] == 1 and not sink.sync()
    sink.close()
    os.close(reading)
    os.close(writing)


def test_a_line_cut_by_a_crash_stays_alone(tmp_path: Path, make_shown) -> None:
    path = tmp_path / "readings.jsonl"
    path.write_text('{"schema": 1, "fra')
    sink = JsonLines(path)
    sink.write(make_shown(4))
    sink.close()
    assert json.loads(path.read_text().splitlines()[1])["sequence"] == 4


def test_what_cannot_be_written_is_an_error_at_opening(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot write readings"):
        JsonLines(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot write in"):
        JsonLines(tmp_path / "file" / "readings.jsonl")
    with pytest.raises(SettingsError, match="cannot write in /proc"):
        JsonLines("/proc/readings.jsonl")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SettingsError, match="Permission denied"):
        JsonLines(tmp_path / "readings.jsonl")


def test_a_full_disk_later_is_logged_once_and_the_lines_after_it_are_whole(
    tmp_path: Path, make_shown, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "readings.jsonl"
    sink = JsonLines(path)
    sink.write(make_shown(1))
    size = path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with caplog.at_level(logging.WARNING):
        try:  # a real limit on the file's size; Python ignores SIGXFSZ, so writes fail with EFBIG
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
            for sequence in (2, 3, 4):
                sink.write(make_shown(sequence))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sink.write(make_shown(5))
    sink.close()
    assert sink.failures.count == 3
    assert caplog.text.count("cannot write") == 1
    assert "3 frames are missing" in caplog.text
    lines = path.read_text().splitlines()
    assert json.loads(lines[0])["sequence"] == 1
    assert json.loads(lines[-1])["sequence"] == 5


def numbers(path: Path) -> list[int]:
    files = [*(file for file, _ in earlier(path)), path]
    return [json.loads(line)["sequence"] for file in files for line in file.read_text().splitlines()]


def test_the_oldest_lines_go_when_there_is_no_more_room(
    tmp_path: Path, make_shown, caplog: pytest.LogCaptureFixture
) -> None:
    path, bound = tmp_path / "readings.jsonl", Bound(mib=16 / 1024)
    sink = JsonLines(path, bound=bound)
    for number in range(60):
        if number == 40:  # a later run
            sink.close()
            sink = JsonLines(path, bound=bound)
        sink.write(make_shown(number))
        assert sink.sync()
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 18 * 1024
    kept = numbers(path)
    assert 15 < len(kept) < 40 and kept == list(range(60 - len(kept), 60)), "the newest, in order, each once"
    assert sink.size == earlier(path)[-1][1] + path.stat().st_size > 30 * 1024 and not sink.failures.count
    sink.close()
    assert caplog.text.count("the oldest lines of") == 2, "once a run"


def test_lines_go_by_their_age(tmp_path: Path, make_shown) -> None:
    path = tmp_path / "readings.jsonl"
    day_ns, now_ns = 86_400 * 10**9, time.time_ns()
    for age_days in (20, 10, 1, 0):
        sink = JsonLines(path, bound=Bound(days=30))
        sink.write(make_shown(age_days, captured_unix_ns=now_ns - age_days * day_ns))
        sink.close()
        for file in tmp_path.iterdir():
            os.utime(file, (0, (now_ns - json.loads(file.read_text().splitlines()[0])["sequence"] * day_ns) / 1e9))
        os.utime(path)  # the clock is not doubted
    assert numbers(path) == [20, 10, 1, 0] and len(earlier(path)) == 2
    JsonLines(path, bound=Bound(days=15)).close()
    assert numbers(path) == [10, 1, 0]
    JsonLines(path, bound=Bound(days=5)).close()
    assert numbers(path) == [1, 0] and len(earlier(path)) == 1, "of the last one put aside the name stays"


def test_a_file_from_before_there_was_a_bound_goes_with_the_second_rotation(tmp_path: Path, make_shown) -> None:
    path = tmp_path / "readings.jsonl"
    sink = JsonLines(path)
    for number in range(50):
        sink.write(make_shown(number))
    sink.close()
    sink = JsonLines(path, bound=Bound(mib=16 / 1024))  # some four lines a file
    sink.write(make_shown(50))
    assert numbers(path) == list(range(51)) and len(earlier(path)) == 1, "also what is newest of it"
    for number in range(51, 60):
        sink.write(make_shown(number))
    sink.close()
    assert numbers(path) == list(range(50, 60)) and sink.size == JsonLines(path).size


def test_what_cannot_be_put_aside_grows_on(
    tmp_path: Path, make_shown, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "readings.jsonl"
    (tmp_path / "readings.jsonl.new").mkdir()  # in the way
    monkeypatch.setattr(record, "TRY_AGAIN_S", 0.0)
    sink = JsonLines(path, bound=Bound(mib=0.001))
    for number in range(5):
        sink.write(make_shown(number))
        assert sink.written
    assert caplog.text.count("cannot be put aside, it grows on: Is a directory") == 1
    (tmp_path / "readings.jsonl.new").rmdir()
    assert sink.sync(), "the lines are on the disk"
    sink.close()
    assert numbers(path) == list(range(5))


def test_a_file_that_cannot_be_synced_is_told_once(
    tmp_path: Path, make_shown, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Linux says it once: whoever asks next would hear that all is well."""

    def fails(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    sink = JsonLines(tmp_path / "readings.jsonl", bound=Bound(mib=0.001))
    sink.write(make_shown(0))
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fails)
        sink.write(make_shown(1))
    assert caplog.text.count("cannot be put aside, it grows on: Input/output error") == 1
    before, doubt = sink.path.stat().st_ino, tmp_path / "readings.jsonl.doubt"
    assert doubt.exists() and sink.sync() and sink.path.stat().st_ino != before, "it is written anew, elsewhere"
    assert numbers(sink.path) == [0, 1] and not doubt.exists() and sink.sync()
    sink.close()


def test_what_fails_on_its_way_aside_is_not_vouched_for_meanwhile(
    tmp_path: Path, make_shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux tells the writing thread, and not the one that waits for it to ask."""
    sink, reached, on = JsonLines(tmp_path / "readings.jsonl"), threading.Event(), threading.Event()

    def fails(file: int) -> None:
        reached.set()
        assert on.wait(60)
        monkeypatch.undo()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    class Lock:
        """Whoever comes second lets the first go on, and so has seen no doubt before."""

        def __init__(self) -> None:
            self._lock = threading.Lock()

        def __enter__(self) -> None:
            if not self._lock.acquire(blocking=False):
                on.set()
                assert self._lock.acquire(timeout=60)

        def __exit__(self, *error: object) -> None:
            self._lock.release()

    sink.write(make_shown(0))
    sink._shelf._bound, sink._swapping = Bound(mib=0.001), Lock()
    monkeypatch.setattr(os, "fsync", fails)
    writing = threading.Thread(target=sink.write, args=(make_shown(1),))
    writing.start()
    assert reached.wait(60) and not sink.sync()
    writing.join()
    assert sink.sync() and numbers(sink.path) == [0, 1]
    sink.close()


def in_doubt(path: Path, make_shown) -> tuple[JsonLines, int]:
    """Three lines, of which the disk failed to take two, and where these begin."""
    sink = JsonLines(path)
    sink.write(make_shown(0))
    assert sink.sync()
    stays = path.stat().st_size
    sink.write(make_shown(1))
    sink.write(make_shown(2))
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(os, "fsync", lambda file: os.close(-1))
        assert not sink.sync()
    return sink, stays


def test_lines_that_may_be_lost_are_told_once_though_others_are_written(
    tmp_path: Path, make_shown, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(record, "TRY_AGAIN_S", 0.0)
    sink, _ = in_doubt(tmp_path / "readings.jsonl", make_shown)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", lambda file: os.close(-1))
        for number in range(3, 6):
            sink.write(make_shown(number))
            assert sink.written and not sink.sync()
    sink.write(make_shown(6))
    assert sink.sync() and numbers(sink.path) == list(range(7))
    assert [line.getMessage().replace(str(tmp_path), "") for line in caplog.records] == [
        "the last lines of /readings.jsonl may be lost if the power goes: Bad file descriptor",
        "all lines of /readings.jsonl are on the disk to stay again",
    ]
    sink.close()


def test_a_copy_is_in_doubt_until_its_name_is_on_the_disk(
    tmp_path: Path, make_shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folder that has it; lines go to the copy meanwhile, and a minute passes before the next."""
    (tmp_path / "disk").mkdir()
    path, real, asked = tmp_path / "readings.jsonl", tmp_path / "disk" / "lines.jsonl", list[Path]()
    path.symlink_to(real)
    sink, _ = in_doubt(path, make_shown)
    files = len(os.listdir("/proc/self/fd"))

    def fails(folder: Path) -> None:
        asked.append(folder)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(record, "sync_folder", fails)
        before = real.stat().st_ino
        assert not sink.sync() and real.stat().st_ino != before and asked == [real.parent.resolve()]
        before = real.stat().st_ino
        sink.write(make_shown(3))
        assert not sink.sync() and real.stat().st_ino == before and len(asked) == 1
    assert (tmp_path / "readings.jsonl.doubt").exists() and len(os.listdir("/proc/self/fd")) == files
    sink._shelf._renew_not_before_s = 0.0
    assert sink.sync() and numbers(path) == [0, 1, 2, 3] and path.is_symlink()
    assert not os.get_inheritable(sink._file)
    sink.close()


def test_no_number_of_a_file_is_used_after_it_was_given_back(
    tmp_path: Path, make_shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing may fail, and the number is given back all the same: to somebody else's file then."""
    close, path = os.close, tmp_path / "readings.jsonl"

    def fails(file: int) -> None:
        ours = os.path.realpath(f"/proc/self/fd/{file}").startswith(str(path))
        close(file)
        if ours:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    sink, _ = in_doubt(path, make_shown)
    with monkeypatch.context() as broken:
        broken.setattr(os, "close", fails)
        assert sink.sync()
        sink._shelf._bound = Bound(mib=0.01)
        sink.write(make_shown(3))
        assert sink.written and len(earlier(path)) == 1 and sink._end == path.stat().st_size
    sink.write(make_shown(4))
    assert sink.written and sink.sync() and numbers(path) == list(range(5))
    sink.close()


def test_a_copy_leaves_room_on_the_disk(tmp_path: Path, make_shown, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "readings.jsonl"
    sink, _ = in_doubt(path, make_shown)
    before = path.stat().st_ino
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=path.stat().st_size + 4 * 2**20 - 1))
        assert not sink.sync() and path.stat().st_ino == before
        full.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=path.stat().st_size + 4 * 2**20))
        assert sink.sync() and path.stat().st_ino != before, "at once"
    assert numbers(path) == [0, 1, 2]
    sink.close()


def test_lines_that_are_zeros_by_now_are_not_vouched_for(
    tmp_path: Path, make_shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in this run, whatever comes, and nothing is copied for that."""
    path, opened, begin = tmp_path / "readings.jsonl", list[str](), os.open
    monkeypatch.setattr(record, "TRY_AGAIN_S", 0.0)
    sink, stays = in_doubt(path, make_shown)
    before, lines = path.stat().st_ino, path.read_bytes()
    monkeypatch.setattr(os, "open", lambda path, *more: opened.append(str(path)) or begin(path, *more))
    for there in (bytes(len(lines) - stays), lines[stays:]):
        with path.open("r+b") as other:
            other.seek(stays)
            other.write(there)
        assert not sink.sync() and path.stat().st_ino == before and not opened
    sink.close()
    sink = JsonLines(path)
    assert sink.sync() and numbers(path) == [0, 1, 2], "the next run looks again"
    sink.close()


def test_lines_of_a_former_run_that_turn_into_zeros_are_not_vouched_for(
    tmp_path: Path, make_shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its start they could be read, from memory alone: whoever relied on that must not be told that they stay."""
    monkeypatch.setattr(record, "TRY_AGAIN_S", 0.0)
    path = tmp_path / "readings.jsonl"
    path.write_bytes(bytes(4096) + b"\n")  # of an earlier power cut
    sink, stays = in_doubt(path, make_shown)
    sink.close()
    sink, lines = JsonLines(path), path.read_bytes()
    with path.open("r+b") as other:  # the disk has none of the last two
        other.seek(stays)
        other.write(bytes(len(lines) - stays))
    assert not sink.sync() and (tmp_path / "readings.jsonl.doubt").exists()
    sink.close()
    sink = JsonLines(path)
    assert sink.sync() and path.read_bytes() == lines[:stays] + bytes(len(lines) - stays), "what is gone is known now"
    sink.close()


def test_a_new_file_whose_name_may_be_lost_is_not_vouched_for(
    tmp_path: Path, make_shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = JsonLines(tmp_path / "readings.jsonl", bound=Bound(mib=0.001))
    sink.write(make_shown(0))

    def fails(folder: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(record, "sync_folder", fails)
        sink.write(make_shown(1))
        assert len(earlier(sink.path)) == 1 and sink.written and not sink.sync()
    assert (tmp_path / "readings.jsonl.doubt").exists(), "for the next run"
    sink._shelf._renew_not_before_s = 0.0
    assert sink.sync() and numbers(sink.path) == [0, 1] and sink.size == JsonLines(sink.path).size
    sink.close()


def test_a_record_that_is_closed_says_nothing_of_its_lines(
    tmp_path: Path, make_shown, caplog: pytest.LogCaptureFixture
) -> None:
    sink, _ = in_doubt(tmp_path / "readings.jsonl", make_shown)
    sink.close()
    assert not sink.sync() and "to stay again" not in caplog.text


def test_zeros_from_before_harm_no_line(tmp_path: Path, make_shown) -> None:
    path = tmp_path / "readings.jsonl"
    path.write_bytes(bytes(4096) + b"\n")
    sink, _ = in_doubt(path, make_shown)
    assert sink.sync() and path.read_bytes().startswith(bytes(4096) + b'\n{"schema"')
    sink.close()


def test_another_file_in_its_place_is_left_alone(tmp_path: Path, make_shown) -> None:
    path = tmp_path / "readings.jsonl"
    sink, _ = in_doubt(path, make_shown)
    (tmp_path / "other").write_text("other\n")
    os.rename(tmp_path / "other", path)
    before = path.stat().st_ino
    assert not sink.sync() and path.stat().st_ino == before and path.read_text() == "other\n"
    sink.close()


def test_a_pipe_stays_one_though_it_cannot_be_synced(tmp_path: Path) -> None:
    path = tmp_path / "readings.jsonl"
    os.mkfifo(path)
    sink = JsonLines(path)
    assert not sink.sync() and not sink.sync() and path.is_fifo()
    sink.close()


@pytest.mark.parametrize("links", [True, False])
def test_a_rotation_that_fails_half_way_is_taken_back(
    tmp_path: Path, make_shown, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    path, rename, there = tmp_path / "readings.jsonl", os.rename, list[bool]()

    def fails(before: Path, after: Path) -> None:
        if before.suffix == ".new":
            there.append(path.exists())
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(before, after)

    def refused(before: Path, after: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(record, "TRY_AGAIN_S", 0.0)
    if not links:
        monkeypatch.setattr(os, "link", refused)
    sink = JsonLines(path, bound=Bound(mib=1))
    sink._shelf._bound = Bound(mib=0.001)  # each line is due
    sink._shelf.tidy = lambda: None  # and none goes
    with monkeypatch.context() as broken:
        broken.setattr(os, "rename", fails)
        for number in range(4):
            sink.write(make_shown(number))
            assert sink.written and sink.sync() and not earlier(path) and sink.size == path.stat().st_size
    assert there == [links] * 3, "with a link it never lacks"
    sink.write(make_shown(4))
    sink.close()
    assert numbers(path) == list(range(5)) and len(earlier(path)) == 1
    assert JsonLines(path).size == sink.size == earlier(path)[0][1] + path.stat().st_size


def test_one_that_was_killed_half_way_begins_with_one_name(tmp_path: Path, make_shown) -> None:
    path = tmp_path / "readings.jsonl"
    sink = JsonLines(path)
    for number in range(3):
        sink.write(make_shown(number))
    sink.close()
    os.link(path, tmp_path / f"readings.{sink.size:015d}.jsonl")
    assert JsonLines(path).size == sink.size and numbers(path) == [0, 1, 2] and not earlier(path)


def test_a_link_to_another_disk_is_followed(tmp_path: Path, make_shown) -> None:
    (tmp_path / "disk").mkdir()
    path = tmp_path / "readings.jsonl"
    path.symlink_to(tmp_path / "disk" / "lines.jsonl")
    sink = JsonLines(path, bound=Bound(mib=0.01))
    for number in range(9):
        sink.write(make_shown(number))
    sink.close()
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["readings.jsonl"] and path.is_symlink()
    assert len(list((tmp_path / "disk").iterdir())) > 2 and numbers(path)[-1] == 8


def test_a_full_disk_is_told_as_such(tmp_path: Path, make_shown, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "readings.jsonl").symlink_to("/dev/full")
    sink = JsonLines(tmp_path / "readings.jsonl")
    sink.write(make_shown(1))
    sink.close()
    assert not sink.written and "the disk is full (No space left on device): free space there" in caplog.text


def test_lines_survive_a_node_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "readings.jsonl"
    program = f"""
import os, signal
from common.frame import FrameId, Outcome, Priority, Reading
from edge_node.sinks.json_lines import JsonLines
from edge_node.sinks.sink import Shown
sink = JsonLines({str(path)!r})
for i in range(50):
    sink.write(Shown(Reading(FrameId("e", "s", i), "a", 0, Priority.STANDARD, Outcome.FAILED), None, None))
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, timeout=60, check=False)
    assert [json.loads(line)["sequence"] for line in path.read_text().splitlines()] == list(range(50))
