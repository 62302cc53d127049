"""What the spool promises on a sound disk, and what it says on one that is not."""

import errno
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import disk_of
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import SettingsError, SpoolFull, SpoolInUse
from common.frame import Priority
from edge_node.spool import CorruptRecord, Spool
from edge_node.spool.entry import from_file_name, now
from edge_node.spool.record import decode
from edge_node.spool.settled import settled_ids
from edge_node.spool.status import describe

ROOT = Path(__file__).resolve().parents[3]


def test_a_frame_comes_back_as_it_was(open_spool, make_frame) -> None:
    frame = make_frame(3, session="a_b-C9")
    open_spool().store(frame, "street\udcff.jpg", 12_345, 77, size=(80, 60), sent_as="size 0.5")
    [entry] = spool = open_spool()
    assert (entry.id, entry.priority, entry.readings_bytes) == (frame.id, frame.priority, 77)
    loaded, description = spool.load(entry)
    assert loaded == frame
    assert (description.name, description.bytes_raw, description.id) == ("street\udcff.jpg", 12_345, frame.id)
    assert (description.size, description.sent_as) == ((80, 60), "size 0.5")
    assert spool.held_bytes == sum(path.stat().st_size for path in spool.folder.glob("*.frame"))


def test_the_most_urgent_then_oldest_comes_first(open_spool, make_frame) -> None:
    spool = open_spool()
    for sequence, priority in enumerate((3, 1, 2, 1, 2, 3)):
        spool.store(make_frame(sequence, priority=Priority(priority)), "", 0, 0)
    assert [entry.id.sequence for entry in spool] == [1, 3, 2, 4, 0, 5]
    spool = open_spool()
    spool.store(make_frame(0, session="s2"), "", 0, 0)  # a later run counts on
    assert [str(entry.id) for entry in open_spool()] == [
        "pole/s1/1", "pole/s1/3", "pole/s2/0", "pole/s1/2", "pole/s1/4", "pole/s1/0", "pole/s1/5",
    ]  # fmt: skip


def test_when_it_is_full_the_least_urgent_and_oldest_go(open_spool, make_frame) -> None:
    spool = open_spool(limit_bytes=30_000)
    for sequence, priority in enumerate((1, 3, 2, 3)):
        spool.store(make_frame(sequence, 5000, Priority(priority)), "", 0, 0)

    def victims(size: int, priority: Priority) -> list[int]:
        return [entry.id.sequence for entry in spool.room_for(size, priority)]

    assert victims(5000, Priority.SECONDARY) == []
    assert victims(15_000, Priority.SECONDARY) == [1, 3]
    assert victims(20_000, Priority.STANDARD) == [1, 3, 2]
    assert victims(25_000, Priority.ESSENTIAL) == [1, 3, 2, 0]
    for size, priority in ((20_000, Priority.SECONDARY), (25_000, Priority.STANDARD), (31_000, Priority.ESSENTIAL)):
        with pytest.raises(SpoolFull, match="no room in the spool"):
            spool.room_for(size, priority)


def test_some_of_the_disk_is_left_free(open_spool, make_frame) -> None:
    spool = open_spool()
    old = spool.store(make_frame(0, 5000), "", 0, 0)
    disk = os.statvfs(spool.folder)
    spool.free_bytes = disk.f_bavail * disk.f_frsize - 2000
    assert spool.room_for(4000, Priority.ESSENTIAL) in ([old], [])  # others write to the disk, too
    spool.free_bytes = 10**18
    with pytest.raises(SpoolFull):
        spool.room_for(4000, Priority.ESSENTIAL)


def test_what_is_held_for_too_long_is_expired(open_spool, make_frame, clock) -> None:
    spool = open_spool(max_age_s=100)
    spool.store(make_frame(0), "", 0, 0)
    clock.advance(60)
    spool.store(make_frame(1), "", 0, 0)
    clock.advance(50)
    assert [entry.id.sequence for entry in spool.expired()] == [0]
    assert [entry.id.sequence for entry in open_spool(max_age_s=100).expired()] == [0]
    clock.boot, clock.up_s = "00000b00", 5  # after a boot the wall clock tells
    assert [entry.id.sequence for entry in open_spool(max_age_s=100).expired()] == [0]
    clock.advance(70)
    assert [entry.id.sequence for entry in open_spool(max_age_s=100).expired()] == [0, 1]


@pytest.mark.parametrize("jump_s", [-(10**9), 10**9, 10_000])
def test_a_clock_that_jumps_throws_nothing_away(jump_s: int, open_spool, make_frame, clock) -> None:
    spool = open_spool(max_age_s=100)
    spool.store(make_frame(0), "", 0, 0)
    clock.unix_s += jump_s
    assert not spool.expired() and not open_spool(max_age_s=100).expired()
    if abs(jump_s) > 10_000:  # what cannot be counts as no time, even over a boot
        clock.boot, clock.up_s = "00000b00", 5
        spool = open_spool(max_age_s=100)
        assert not spool.expired()
        clock.advance(101)
        assert len(spool.expired()) == 1


def test_two_nodes_on_one_spool(open_spool, tmp_path: Path) -> None:
    first = open_spool()
    program = (
        "import sys; from pathlib import Path; from edge_node.spool import Spool\n"
        "Spool(Path(sys.argv[1]), 'pole', limit_bytes=1, max_age_s=1)"
    )
    second = subprocess.run([sys.executable, "-c", program, first.folder], cwd=ROOT, capture_output=True, text=True)
    assert "SpoolInUse" in second.stderr and "give this one another --spool" in second.stderr
    with pytest.raises(SpoolInUse):
        Spool(first.folder, "pole", limit_bytes=1, max_age_s=1)
    first.close()
    Spool(first.folder, "pole", limit_bytes=1, max_age_s=1).close()


@pytest.mark.parametrize("damage", ["short", "empty", "flipped", "longer", "swapped"])
def test_a_damaged_frame_is_set_aside_and_the_others_are_sound(damage: str, open_spool, make_frame) -> None:
    spool = open_spool()
    entries = [spool.store(make_frame(sequence), f"{sequence}.jpg", 5, 0) for sequence in range(4)]
    (spool.folder / entries[3].file_name).write_bytes(b"")  # the last: it never was whole
    path = spool.folder / entries[1].file_name
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    other = (spool.folder / entries[0].file_name).read_bytes()
    path.write_bytes(
        {"short": data[:-1], "empty": b"", "flipped": flipped, "longer": data + b"x", "swapped": other}[damage]
    )
    spool = open_spool()
    broken = [entry for entry in spool if entry.id.sequence == 1]
    with pytest.raises(CorruptRecord):
        spool.load(broken[0])
    assert spool.describe(broken[0]).id.edge == "pole"
    spool.set_aside(broken[0])
    assert [spool.load(entry)[1].name for entry in spool] == ["0.jpg", "2.jpg"]
    assert (spool.folder / (entries[1].file_name + ".corrupt")).exists()
    assert [entry.id.sequence for entry in open_spool()] == [0, 2]


def test_junk_in_the_folder(open_spool, make_frame, caplog: pytest.LogCaptureFixture) -> None:
    spool = open_spool()
    spool.store(make_frame(0), "", 0, 0)
    (spool.folder / "junk.frame").write_bytes(b"junk")
    (spool.folder / "notes.txt").write_text("mine")
    spool = open_spool()
    assert len(spool) == 1 and "junk.frame.corrupt" in caplog.text
    assert {path.name for path in spool.folder.iterdir() if path.suffix != ".frame"} == {
        "lock", "junk.frame.corrupt", "notes.txt",
    }  # fmt: skip
    for number in range(20):
        (spool.folder / f"junk{number:02}.frame").write_bytes(b"")
    open_spool()
    assert len(list(spool.folder.glob("*.corrupt"))) == 8


def test_the_status(open_spool, make_frame, clock, tmp_path: Path) -> None:
    spool = open_spool()
    (spool.folder.parent / "file").touch()
    for sequence, priority in enumerate((1, 1, 2)):
        spool.store(make_frame(sequence, 2**20, Priority(priority)), "", 0, 0)
    [line] = describe(tmp_path)
    assert line.startswith("spool: 2 essential, 1 standard; 3.0 MiB") and line.endswith("(in use)")
    spool.close()
    assert list(describe(tmp_path))[0].endswith("(no edge node runs here)")
    for folder, words in ((tmp_path / "nowhere", "there is no folder"), (spool.folder, "is no spool")):
        with pytest.raises(SettingsError, match=words):
            list(describe(folder))
    with pytest.raises(SettingsError, match="there is no folder"):
        list(describe(spool.folder.parent / "file"))


@given(data=st.data())
@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_model(data: st.DataObject, tmp_path_factory, make_frame, clock) -> None:
    """Random operations, restarts and damage against a plain dictionary."""
    folder, limit = tmp_path_factory.mktemp("model"), 12_000
    model: dict[int, tuple[Priority, bytes]] = {}  # sequence -> what was acknowledged

    def open_again() -> Spool:
        return Spool(folder, "pole", limit_bytes=limit, max_age_s=1e9, free_bytes=0, clock=clock)

    spool, sequence = open_again(), 0
    for _ in range(data.draw(st.integers(1, 25))):
        match data.draw(st.sampled_from(("store", "store", "remove", "restart", "damage", "torn"))):
            case "store":
                priority, size = data.draw(st.sampled_from(Priority)), data.draw(st.integers(0, 5000))
                frame = make_frame(sequence, size, priority)
                worst = sorted(model, key=lambda item: (-model[item][0], item))
                try:
                    victims = [entry.id.sequence for entry in spool.room_for(size, priority)]
                except SpoolFull:
                    urgent = sum(len(image) for kept, image in model.values() if kept < priority)
                    assert urgent + size > limit - 4000
                    continue
                assert victims == worst[: len(victims)] and all(model[item][0] >= priority for item in victims)
                for entry in [entry for entry in spool if entry.id.sequence in victims]:
                    spool.remove(entry)
                    del model[entry.id.sequence]
                spool.store(frame, "", 0, 0)
                model[sequence] = (priority, frame.image.payload)
                sequence += 1
                assert spool.held_bytes <= limit
            case "remove" if model:
                gone = data.draw(st.sampled_from(sorted(model)))
                [entry] = [entry for entry in spool if entry.id.sequence == gone]
                spool.remove(entry)
                spool.remove(entry)
                del model[gone]
            case "restart":
                spool.close()
                spool = open_again()
            case "damage" if model:
                hit = data.draw(st.sampled_from(sorted(model)))
                [entry] = [entry for entry in spool if entry.id.sequence == hit]
                path = spool.folder / entry.file_name
                content = bytearray(path.read_bytes())
                place = data.draw(st.integers(0, len(content) - 1))
                if data.draw(st.booleans()):
                    path.write_bytes(content[:place])
                else:
                    content[place] ^= data.draw(st.integers(1, 255))
                    path.write_bytes(content)
                with pytest.raises(CorruptRecord):
                    spool.load(entry)
                spool.describe(entry)
                spool.set_aside(entry)
                del model[hit]
            case "torn":  # a process that ends in the middle of a write
                entry = spool.store(make_frame(sequence, 0), "", 0, 0)
                sequence += 1
                path = spool.folder / entry.file_name
                spool.close()
                path.write_bytes(path.read_bytes()[: data.draw(st.integers(0, path.stat().st_size - 1))])
                spool = open_again()
        expected = sorted(model, key=lambda item: (model[item][0], item))
        assert [entry.id.sequence for entry in spool] == expected
        assert {entry.id.sequence: spool.load(entry)[0].image.payload for entry in spool} == {
            item: image for item, (_, image) in model.items()
        }
        assert spool.held_bytes == sum((folder / entry.file_name).stat().st_size for entry in spool)
    spool.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disk_of("1m", tmp_path / "disk") as disk:
        yield disk


def test_a_full_and_a_read_only_disk(small_disk: Path, make_frame) -> None:
    spool = Spool(small_disk / "spool", "pole", limit_bytes=10**9, max_age_s=1e9, free_bytes=0)
    first = spool.store(make_frame(0, 600_000), "", 0, 0)
    with pytest.raises(OSError, match="No space left"):
        spool.store(make_frame(1, 600_000), "", 0, 0)
    assert spool.room_for(600_000, Priority.ESSENTIAL) == [first]
    assert {path.name for path in spool.folder.iterdir()} == {"lock", first.file_name}
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(OSError, match="Read-only"):
        spool.store(make_frame(1), "", 0, 0)
    spool.close()
    spool = Spool(small_disk / "spool", "pole", limit_bytes=10**9, max_age_s=1e9)
    assert [spool.load(entry)[0].id.sequence for entry in spool] == [0]
    spool.close()


def test_a_frame_that_the_disk_did_not_take_is_not_kept_and_lends_its_place_to_none(
    open_spool, make_frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`fsync` fails, and the file cannot be removed either."""

    def fails(*arguments: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    spool = open_spool()
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fails)
        broken.setattr(Path, "unlink", fails)
        with pytest.raises(OSError, match="Input/output"):
            spool.store(make_frame(0), "", 0, 0)
    assert not len(spool)
    spool.store(make_frame(1), "", 0, 0)
    assert [entry.id.sequence for entry in open_spool()] == [0, 1], "it is whole, and never had a line"


def test_a_last_file_that_cannot_be_read_now_keeps_no_other_from_being_sent(
    open_spool, make_frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad block, where the power went while it was written."""
    first, last = (open_spool().store(make_frame(number), "", 0, 0) for number in range(2))
    read = Path.read_bytes

    def fails(path: Path) -> bytes:
        if path.name == last.file_name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "read_bytes", fails)
        spool = open_spool()
        entries = list(spool)
        assert [entry.order for entry in entries] == [first.order, last.order] and spool.load(entries[0])
        with pytest.raises(OSError, match="Input/output"):
            spool.load(entries[1])
        assert spool.store(make_frame(2), "", 0, 0).order == last.order + 1
    assert spool.load(entries[1])


def test_a_file_size_limit(tmp_path: Path) -> None:
    """EFBIG in the middle of a write, as a real process meets it: nothing of the frame is left."""
    program = """
import resource, sys
from pathlib import Path
from common.frame import Frame, FrameId, Priority
from common.packing import Filter, PackedImage
from common.pixels import ColorMatrix, ColorRange, PixelFormat
from edge_node.spool import Spool
spool = Spool(Path(sys.argv[1]), "pole", limit_bytes=10**9, max_age_s=1e9, free_bytes=0)
def store(sequence, size):
    image = PackedImage(4, 3, PixelFormat.GRAY8, ColorRange.FULL, ColorMatrix.BT601, Filter.NONE, bytes(size))
    spool.store(Frame(FrameId("pole", "s", sequence), image, 1, Priority.ESSENTIAL), "", 0, 0)
store(0, 100)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    store(1, 100_000)
except OSError as error:
    print(error.strerror)
store(2, 100)
print([entry.id.sequence for entry in spool])
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "File too large\n[0, 2]\n", done.stderr
    assert len(list(tmp_path.glob("*.frame"))) == 2 and len(list(tmp_path.iterdir())) == 3


def hostile_record(**changes: object) -> bytes:
    """A kept frame with a sound checksum whose description says something else."""
    fields = {"edge": "pole", "session": "s1", "sequence": 0, "name": "", "bytes_raw": 5, "captured_unix_ns": 1,
              "size": [4, 4], "sent_as": "lossless"} | changes  # fmt: skip
    description = json.dumps(fields).encode()
    rest = struct.pack("<IQ", len(description), 0) + description
    return struct.pack("<8sI", b"LAMPSPL1", zlib.crc32(rest)) + rest


@pytest.mark.parametrize(
    "changes",
    [{"size": [4]}, {"size": "44"}, {"size": [65_535, 65_535]}, {"size": ["4", 4]}, {"name": ["x"]}, {"bytes_raw": 1.5},
     {"captured_unix_ns": "now"}, {"sequence": None}, {"sent_as": 7}, {"more": 1}, {"edge": True}],
)  # fmt: skip
def test_a_description_of_other_kinds_is_corrupt(changes: dict[str, object]) -> None:
    with pytest.raises(CorruptRecord, match="its description is broken"):
        decode(hostile_record(**changes))


def test_a_description_without_end_is_corrupt() -> None:
    deep = b"[" * 60_000
    rest = struct.pack("<IQ", len(deep), 0) + deep
    with pytest.raises(CorruptRecord, match="its description is broken"):
        decode(struct.pack("<8sI", b"LAMPSPL1", zlib.crc32(rest)) + rest)


def test_what_is_no_file_or_too_large_for_a_frame_is_set_aside_unread(open_spool, make_frame) -> None:
    """A pipe would never end, and a file of a terabyte fits into no memory."""
    spool = open_spool()
    entry = spool.store(make_frame(0), "", 0, 0)
    os.mkfifo(spool.folder / entry.file_name.replace("000000000000", "000000000001"))
    (spool.folder / entry.file_name.replace("000000000000", "000000000002")).symlink_to("/dev/zero")
    with (spool.folder / entry.file_name.replace("000000000000", "000000000003")).open("wb") as file:
        file.truncate(2**40)
    assert len(open_spool()) == 1


def test_a_line_without_end_is_no_reading(tmp_path: Path) -> None:
    (tmp_path / "readings.jsonl").write_text('{"frame": "pole/s1/0", "x": ' + "[" * 100_000 + "\n")
    assert settled_ids(tmp_path / "readings.jsonl", 0, {"pole/s1/0"}) == set()


def test_names_with_other_digits_are_not_ours() -> None:
    name = "000000000001.2.s.1.0.1700000000.0123abcd.77.frame"
    assert from_file_name(name, "pole", 1, now()) is not None
    assert from_file_name(name.replace(".77.", ".\u0667\u0667."), "pole", 1, now()) is None
