"""What does it cost to keep a frame: frames/s, the wait for the disk, bytes that the disk writes, memory?

    python benchmarks/spool.py                # as root: on an ext4 of its own, whose writes the kernel counts

The spool as it is, with and without the reading's line, against SQLite (WAL, synchronous=FULL) and an append-only
log that is never cleaned up. With a cloud node each holds the last few frames and removes the older ones. Without the
right to mount, bytes are those that the kernel counts for the process, without the file system's own. Writes
benchmarks/results/spool.json.
"""

import argparse
import contextlib
import itertools
import json
import os
import sqlite3
import statistics
import struct
import subprocess
import tempfile
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from common.frame import Frame, FrameId, Outcome, Priority, Reading
from common.packing import Filter, PackedImage
from common.pixels import ColorMatrix, ColorRange, PixelFormat
from edge_node.sinks import JsonLines, Shown
from edge_node.spool import Entry, Spool

SIZES = {"30 kB": 30_000, "136 kB": 136_000, "1 MB": 1_000_000}  # small; 600x400 4:2:0; 1616x1080
HELD = {"there": 3, "away": 10**9}  # frames at a time, as with a cloud node that answers, and without one
ENTRIES = 10_000
RESULTS = Path(__file__).parent / "results" / "spool.json"
Keep = Callable[[bytes], None]


def frame_of(sequence: int, payload: bytes) -> Frame:
    image = PackedImage(64, 48, PixelFormat.GRAY8, ColorRange.FULL, ColorMatrix.BT601, Filter.NONE, payload)
    return Frame(FrameId("pole", "5f0c9a17e2b4", sequence), image, time.time_ns(), Priority.ESSENTIAL)


@contextlib.contextmanager
def spool(folder: Path, most: int, with_line: bool = False) -> Iterator[Keep]:
    record = JsonLines(folder / "readings.jsonl")
    store = Spool(folder / "spool", "pole", limit_bytes=2**40, max_age_s=1e9, free_bytes=0)
    held: deque[Entry] = deque()

    def keep(payload: bytes) -> None:
        frame = frame_of(keep.sequence, payload)
        keep.sequence += 1
        held.append(store.store(frame, "camera 0", len(payload), record.size))
        if len(held) > most:
            entry = held.popleft()
            if with_line:
                reading = Reading(entry.id, "camera 0", frame.captured_unix_ns, entry.priority, Outcome.ENHANCED)
                record.write(Shown(reading, None, None))
                record.sync()
            store.remove(entry)

    keep.sequence = 0
    yield keep
    store.close()
    record.close()


@contextlib.contextmanager
def sqlite(folder: Path, most: int) -> Iterator[Keep]:
    """One transaction a frame: in with the new, out with the old."""
    database = sqlite3.connect(folder / "spool.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE frames (id INTEGER PRIMARY KEY, priority INTEGER, crc INTEGER, frame BLOB)")

    def keep(payload: bytes) -> None:
        database.execute("BEGIN")
        database.execute("DELETE FROM frames WHERE id <= (SELECT max(id) FROM frames) - ?", (most - 1,))
        database.execute("INSERT INTO frames VALUES (NULL, 1, ?, ?)", (zlib.crc32(payload), payload))
        database.execute("COMMIT")

    yield keep
    database.close()


@contextlib.contextmanager
def log(folder: Path, most: int) -> Iterator[Keep]:
    frames, settled = (
        os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) for name in ("frames", "settled")
    )

    def keep(payload: bytes) -> None:
        os.write(frames, struct.pack("<IQ", zlib.crc32(payload), len(payload)) + payload)
        os.fdatasync(frames)
        os.write(settled, bytes(8))

    yield keep
    os.close(frames)
    os.close(settled)


STORES = {
    "spool": spool,
    "spool and line": lambda folder, most: spool(folder, most, with_line=True),
    "SQLite": sqlite,
    "log": log,
}


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[tuple[Path, Callable[[], int], str]]:
    """A folder to write to, how many bytes went to its disk so far, and what that counts."""
    image, mounted = folder / "disk.ext4", folder / "disk"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(2 * 2**30)
    quiet = {"capture_output": True, "env": {**os.environ, "PATH": os.environ["PATH"] + ":/sbin:/usr/sbin"}}
    with contextlib.suppress(OSError):
        made = subprocess.run(["mkfs.ext4", "-q", "-F", image], **quiet).returncode == 0
        if made and subprocess.run(["mount", "-o", "loop", image, mounted], **quiet).returncode == 0:
            [device] = [line.split()[0] for line in Path("/proc/mounts").open() if line.split()[1] == str(mounted)]
            figures = Path("/sys/block") / Path(device).name / "stat"
            try:
                yield mounted, lambda: int(figures.read_text().split()[6]) * 512, "ext4 on a device of its own"
            finally:
                subprocess.run(["umount", mounted], check=True)
            return
    yield mounted, _process_bytes, "this process alone, no file system metadata"


def _process_bytes() -> int:
    return int(Path("/proc/self/io").read_text().split("write_bytes: ")[1].split()[0])


def measure(store: str, size: int, most: int, count: int, folder: Path, written: Callable[[], int]) -> dict[str, float]:
    folder.mkdir()
    payloads = [os.urandom(size) for _ in range(8)]
    with STORES[store](folder, most) as keep:
        for _ in range(4):
            keep(payloads[0])
        os.sync()
        before, times = written(), []
        for number in range(count):
            start = time.perf_counter()
            keep(payloads[number % 8])
            times.append(time.perf_counter() - start)
    os.sync()
    spent = sorted(times)
    return {
        "frames_per_s": count / sum(times),
        "p50_ms": 1000 * statistics.median(spent),
        "p95_ms": 1000 * spent[int(0.95 * count)],
        "written_bytes": (written() - before) / count,
    }


def measure_index(folder: Path) -> dict[str, float]:
    """A spool of many frames: opening it, and what it takes in memory."""
    store = Spool(folder, "pole", limit_bytes=2**40, max_age_s=1e9, free_bytes=0)
    name = store.store(frame_of(0, bytes(100)), "camera 0", 100, 0).file_name
    store.close()
    for number in range(1, ENTRIES):
        (folder / f"{number:012d}{name[12:]}").write_bytes((folder / name).read_bytes())
    before, start = _resident_bytes(), time.perf_counter()
    store = Spool(folder, "pole", limit_bytes=2**40, max_age_s=1e9, free_bytes=0)
    figures = {"frames": len(store), "open_ms": 1000 * (time.perf_counter() - start)}
    figures["bytes_a_frame"] = (_resident_bytes() - before) / len(store)
    figures["resident_mib"] = _resident_bytes() / 2**20
    store.close()
    return figures


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=200, help="frames of each size and store (default: 200)")
    given = parser.parse_args()
    table: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        table["index"] = measure_index(Path(folder) / "index")
        with disk(Path(folder)) as (mounted, written, counted):
            table["counted"] = counted
            print(f"bytes written: {counted}")
            print(f"{'frame':>7} cloud {'store':<15} {'frames/s':>8} {'p50 ms':>7} {'p95 ms':>7} {'kB':>10} {'x':>5}")
            for (name, size), (cloud, most) in itertools.product(SIZES.items(), HELD.items()):
                for store in STORES if cloud == "there" else ("spool", "SQLite"):
                    here = mounted / "here"
                    figures = measure(store, size, most, given.frames, here, written)
                    subprocess.run(["rm", "-rf", here], check=True)
                    table[f"{name}, cloud {cloud}, {store}"] = figures
                    print(
                        f"{name:>7} {cloud:<5} {store:<15} {figures['frames_per_s']:>8.0f} {figures['p50_ms']:>7.1f} "
                        f"{figures['p95_ms']:>7.1f} {figures['written_bytes'] / 1000:>10.0f} "
                        f"{figures['written_bytes'] / size:>5.2f}",
                        flush=True,
                    )
    print("{frames} frames held: opened in {open_ms:.0f} ms, {bytes_a_frame:.0f} bytes each".format(**table["index"]))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
