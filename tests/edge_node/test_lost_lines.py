"""A disk that fails to take lines of the record, says so to one `fsync`, and holds zeros where they should be.

The next `fsync` succeeds: what counts is what is there after the power was cut.
"""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import FailingDisk, failing_disk

from common.frame import Frame, FrameId, Outcome, Priority, Reading
from common.packing import Filter, PackedImage
from common.pixels import ColorMatrix, ColorRange, PixelFormat
from common.settings import load
from edge_node import record as edge_record
from edge_node.keeping import Keeping
from edge_node.settings import EdgeSettings
from edge_node.sinks import JsonLines, Shown
from edge_node.spool import Description, Entry

IMAGE = PackedImage(4, 3, PixelFormat.GRAY8, ColorRange.FULL, ColorMatrix.BT601, Filter.NONE, bytes(12))
BLOCKS = 9_000  # bytes: a line of them needs blocks of its own


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FailingDisk]:
    """With less than 16 MiB free."""
    with failing_disk(tmp_path) as disk:
        first = disk.mounted / "readings.jsonl"
        first.write_text(json.dumps({"frame": "e/s/before", "name": "x" * 8_156}) + "\n")
        assert first.stat().st_size == 8_192, "what comes then is in no block that is there already"
        os.sync()
        yield disk


async def keeping_of(tmp_path: Path, record: JsonLines) -> Keeping:
    async def lost(entry: Entry, known: Description, reason: str) -> bool:
        write(record, entry)
        return record.written

    spool = ["--spool", str(tmp_path / "spool"), "--output", str(tmp_path)]  # on a disk that works
    keeping = Keeping(load(EdgeSettings, ["--camera", "0", "--edge", "e", "--keep-all", *spool], {}), record, lost)
    await keeping.open()
    return keeping


async def kept(keeping: Keeping, sequence: int) -> Entry:
    frame = Frame(FrameId("e", "s", sequence), IMAGE, 10**18, Priority.ESSENTIAL)
    entry = await keeping.store(frame, "camera#0", 12, (4, 3), "lossless")
    assert entry is not None
    return entry


def write(record: JsonLines, entry: Entry) -> None:
    record.write(Shown(Reading(entry.id, "x" * BLOCKS, 1, entry.priority, Outcome.FAILED), None, None))
    assert record.written


def ends(disk: FailingDisk, folder: Path, spool: Path) -> dict[str, int]:
    """How often each frame would be there after a power cut: its line, or the frame itself."""
    with disk.after_a_power_cut(folder) as after:
        text = (after / "readings.jsonl").read_bytes()
    lines = [json.loads(line)["frame"] for each in text.splitlines() if (line := each.strip(b"\0"))]
    files = [".".join(file.name.split(".")[2:4]) for file in spool.rglob("*.frame")]
    frames = [line for line in lines if line != "e/s/before"] + [f"e/{name.replace('.', '/')}" for name in files]
    return {frame: frames.count(frame) for frame in frames}


async def test_what_one_fsync_failed_for_no_later_one_vouches_for(disk: FailingDisk, tmp_path: Path) -> None:
    record = JsonLines(disk.mounted / "readings.jsonl")
    keeping = await keeping_of(tmp_path, record)
    entries = [await kept(keeping, number) for number in range(3)]
    disk.fails()
    write(record, entries[0])
    write(record, entries[1])
    await keeping.settled(entries[0])
    assert len(keeping._spool) == 3 and record.unsynced.count == 1 and not record.failures.count, "the disk said it"
    disk.works()
    await keeping.settled(entries[1])
    await asyncio.to_thread(write, record, entries[2])
    await keeping.settled(entries[2])
    assert ends(disk, tmp_path, tmp_path / "spool") == {"e/s/0": 1, "e/s/1": 1, "e/s/2": 1}
    assert not len(keeping._spool), "and what had to wait for that went with it"
    await keeping.close()
    record.close()


async def test_a_line_that_the_next_run_finds_may_not_be_on_the_disk(
    disk: FailingDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the memory of the system all the same, until the power goes."""
    monkeypatch.setattr(edge_record, "TRY_AGAIN_S", 0.0)
    record = JsonLines(disk.mounted / "readings.jsonl")
    keeping = await keeping_of(tmp_path, record)
    entry = await kept(keeping, 0)
    disk.fails()
    write(record, entry)
    await keeping.settled(entry)
    assert entry in keeping._spool
    await kept(keeping, 2)
    await keeping.close()
    record.close()

    record = JsonLines(disk.mounted / "readings.jsonl")
    keeping = await keeping_of(tmp_path, record)
    assert len(list((tmp_path / "spool").rglob("*.frame"))) == 2, "it cannot be made sure of"
    assert len(keeping) == keeping.counts["restored"] == 1 and not keeping.counts["not kept"]
    other = await keeping.next()
    assert other is not None and other.id.sequence == 2 and await keeping.next() is None, "it holds no other up"
    another = await kept(keeping, 1)
    disk.works()
    write(record, another)
    await keeping.settled(another)
    assert not len(keeping._unsure) and [entry.id.sequence for entry in keeping._spool] == [2]
    assert ends(disk, tmp_path, tmp_path / "spool") == {"e/s/0": 1, "e/s/1": 1, "e/s/2": 1}
    await keeping.close()
    record.close()
