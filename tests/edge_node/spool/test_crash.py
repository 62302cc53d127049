"""A process that is killed in the middle of its writes, and a disk that loses its power then."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.frame import Priority
from edge_node.record import Bound, earlier
from edge_node.sinks import JsonLines
from edge_node.spool import Spool
from edge_node.spool.settled import settled_ids

ROOT = Path(__file__).resolve().parents[3]
# Keeps frames and settles some of them, as the node does, and says on stdout what it has the spool's word for.
WRITER = """
import os, signal, sys
from pathlib import Path
from common.frame import Frame, FrameId, Outcome, Priority, Reading
from common.packing import Filter, PackedImage
from common.pixels import ColorMatrix, ColorRange, PixelFormat
from edge_node import record as rotation
from edge_node.record import Bound
from edge_node.sinks import JsonLines, Shown
from edge_node.spool import Spool
rotation.PARTS = 10**6  # a file has 1 kB, and none goes
folder, session, pause_at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
record = JsonLines(folder / "readings.jsonl", bound=Bound(mib=1000))
spool = Spool(folder / "spool", "pole", limit_bytes=10**9, max_age_s=1e9, free_bytes=0)
settled = spool.settled(record.path)
assert not settled or record.sync()
for entry in settled:
    spool.remove(entry)
held = list(spool)
def say(word, id):
    os.write(1, f"{word} {id}\\n".encode())
say("ready", "-")
for sequence in range(10**6):
    payload = (f"{session}/{sequence}".encode() * 9000)[: 20_000 + sequence % 7 * 30_000]
    image = PackedImage(4, 3, PixelFormat.GRAY8, ColorRange.FULL, ColorMatrix.BT601, Filter.NONE, payload)
    id = FrameId("pole", session, sequence)
    held.append(spool.store(Frame(id, image, 1, Priority(sequence % 3 + 1)), f"{sequence}", 0, record.size))
    say("kept", id)
    if sequence == pause_at:
        signal.pause()
    if sequence % 2:
        entry = held.pop(0)
        record.write(Shown(Reading(entry.id, "", 1, entry.priority, Outcome.FAILED), None, None))
        assert record.written and record.sync()
        say("settled", entry.id)
        spool.remove(entry)
"""


def start_writer(folder: Path, session: str, pause_at: int = -1, before: str = "") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", before + WRITER, str(folder), session, str(pause_at)]
    writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert writer.stdout is not None and writer.stdout.readline() == b"ready -\n"
    return writer


def words(text: bytes) -> tuple[set[str], set[str]]:
    """What was kept, and settled; a last line that was cut off is none."""
    said = [line.split() for line in text.decode().split("\n")[:-1]]
    return {id for word, id in said if word == "kept"}, {id for word, id in said if word == "settled"}


def check(folder: Path, kept: set[str], settled: set[str]) -> None:
    """Every promise holds: kept is in the spool or has its line; settled has one line; none has two or both."""
    path = folder / "readings.jsonl"
    JsonLines(path).close()  # as the next run begins
    texts = [file.read_text() for file in (*(before for before, _ in earlier(path)), path)]
    written = [json.loads(line)["frame"] for text in texts for line in text.splitlines() if line.endswith("}")]
    assert len(written) == len(set(written)) and settled <= set(written)
    spool = Spool(folder / "spool", "pole", limit_bytes=10**9, max_age_s=1e9, free_bytes=0)
    settled, held = spool.settled(path), set()
    for entry in spool:
        if entry in settled:
            continue
        frame, _ = spool.load(entry)
        assert frame.image.payload.startswith(f"{entry.id.session}/{entry.id.sequence}".encode())
        held.add(str(entry.id))
    spool.close()
    assert not held & set(written)
    assert kept <= held | set(written), "what was acknowledged is there"


def test_killed_in_the_middle_of_its_writes(tmp_path: Path) -> None:
    chance, kept, settled = random.Random(7), set[str](), set[str]()
    for life in range(4):
        writer = start_writer(tmp_path, f"life{life}")
        assert writer.stdout is not None
        first = [writer.stdout.readline() for _ in range(chance.randrange(2, 40))]
        time.sleep(chance.uniform(0, 0.01))
        writer.send_signal(signal.SIGKILL)
        said = b"".join(first) + writer.communicate()[0]
        now_kept, now_settled = words(said)
        kept |= now_kept
        settled |= now_settled
        check(tmp_path, kept, settled)
    assert len(kept) > 4


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("number", [1, 2])
def test_killed_while_the_record_is_put_aside(tmp_path: Path, number: int, links: bool) -> None:
    """Before a name changes, or between the two, where there are links and where there are none."""
    kill = """
import itertools, os, signal
calls, link, rename = itertools.count(1), os.link, os.rename
def name(action, *names):
    if next(calls) == {number}:
        os.kill(os.getpid(), signal.SIGKILL)
    action(*names)
def refused(*names):
    raise PermissionError(1, "no links")
os.link, os.rename = (lambda *names: name(link, *names)) if {links} else refused, lambda *names: name(rename, *names)
"""
    kept, settled = set[str](), set[str]()
    for life in range(3):
        writer = start_writer(tmp_path, f"life{life}", before=kill.format(number=number, links=links))
        now_kept, now_settled = words(writer.communicate()[0])
        assert writer.returncode == -signal.SIGKILL and now_kept
        kept |= now_kept
        settled |= now_settled
        check(tmp_path, kept, settled)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """An ext4 of its own and the file that is its device: what is in there is what a power cut would leave."""
    device, mounted = tmp_path / "device", tmp_path / "disk"
    mounted.mkdir()
    with device.open("wb") as file:
        file.truncate(96 * 2**20)
    made = subprocess.run(["mkfs.ext4", "-q", "-F", device], env={**os.environ, "PATH": os.environ["PATH"] + ":/sbin"})
    if made.returncode or subprocess.run(["mount", "-o", "loop", device, mounted], capture_output=True).returncode:
        pytest.skip("no right to mount a disk")
    yield device, mounted
    subprocess.run(["umount", "-l", mounted], check=True)


def test_the_power_fails(disk: tuple[Path, Path], tmp_path: Path) -> None:
    """The device is copied in the middle of the process's writes; what it had acknowledged before is in the copy."""
    device, mounted = disk
    writer = start_writer(mounted, "one", pause_at=40)  # nothing that comes after may save the last frame
    assert writer.stdout is not None
    copies, said = [], b""
    try:
        for number in range(3):
            while said.count(b"kept") < (12, 24, 41)[number]:
                said += writer.stdout.readline()
            copy = tmp_path / f"copy{number}"
            writer.send_signal(signal.SIGSTOP)  # wherever it is: a device that changes in the copying is no such moment
            os.waitpid(writer.pid, os.WUNTRACED)
            subprocess.run(["cp", "--sparse=always", device, copy], check=True)
            writer.send_signal(signal.SIGCONT)
            copies.append((copy, said))
    finally:
        writer.kill()
        writer.communicate()
    for copy, before in copies:
        after = tmp_path / "after"
        after.mkdir(exist_ok=True)
        subprocess.run(["mount", "-o", "loop", copy, after], check=True)
        try:
            kept, settled = words(before)
            assert len(kept) >= 12
            check(after, kept, settled)
        finally:
            subprocess.run(["umount", "-l", after], check=True)


def test_a_reading_that_is_there_is_known(tmp_path: Path, make_frame, open_spool) -> None:
    """Killed between the line and the removal: the next run finds the line, wherever it begins to look."""
    path = tmp_path / "readings.jsonl"
    before, line = b'{"schema": 1, "frame": "pole/s1/1"}\n', b'{"schema": 1, "frame": "pole/s1/%d", "name": "x"}\n'
    path.write_bytes(before + line % 2 + line % 3)
    wanted = {f"pole/s1/{number}" for number in range(9)}
    assert settled_ids(path, len(before), wanted) == {"pole/s1/2", "pole/s1/3"}
    assert settled_ids(path, 0, wanted) == {"pole/s1/1", "pole/s1/2", "pole/s1/3"}
    assert settled_ids(path, 3, wanted) == settled_ids(path, 10**6, wanted) == settled_ids(path, 0, wanted)
    assert settled_ids(tmp_path / "none", 5, wanted) == set()
    path.write_bytes(before + b'torn {"frame": "pole/s1/4", \n' + (line % 5)[:-1])  # whole but for its end
    assert settled_ids(path, 0, wanted) == {"pole/s1/1", "pole/s1/5"}
    path.write_bytes(before + (line % 5)[:-4])
    assert settled_ids(path, 0, wanted) == {"pole/s1/1"}

    path.write_bytes(before)
    record = JsonLines(path)
    spool = open_spool()
    for sequence in (1, 5):
        spool.store(make_frame(sequence, priority=Priority.STANDARD), "", 0, record.size)
    record.close()
    assert spool.settled(path) == [], "the line of frame 1 is older than its place in the spool"
    path.write_bytes(path.read_bytes() + line % 5)
    assert [entry.id.sequence for entry in spool.settled(path)] == [5]


def test_a_reading_that_was_put_aside_is_known(tmp_path: Path, make_frame, open_spool) -> None:
    """Killed at any time: each frame has its line in the file in use, or in one before it, or is sent again."""
    path, spool, written = tmp_path / "readings.jsonl", open_spool(), set[int]()
    record = JsonLines(path, bound=Bound(mib=8 * 200 / 2**20))
    for sequence in range(20):
        frame = make_frame(sequence)
        entry = spool.store(frame, "", 0, record.size)
        assert entry.readings_bytes == sum(end - start for start, end in spans(path))
        if sequence % 3:  # else it was killed before
            record.append({"frame": str(frame.id), "name": "x" * (20 + sequence)})
            written.add(sequence)
        if sequence % 7 == 6:
            record.close()
            record = JsonLines(path, bound=Bound(mib=8 * 200 / 2**20))
    record.close()
    assert len(earlier(path)) > 2
    settled = [entry.id.sequence for entry in spool.settled(path)]
    assert len(settled) == len(written) and set(settled) == written


def test_a_line_older_than_a_frame_is_not_its_own_after_the_file_was_put_aside(tmp_path: Path) -> None:
    line = b'{"frame": "pole/s1/%d"}\n'
    (tmp_path / "readings.000000000000046.jsonl").write_bytes(line % 1 + line % 2)
    (tmp_path / "readings.jsonl").write_bytes(line % 3 + line % 4)
    wanted = {f"pole/s1/{number}" for number in range(9)}
    found = [settled_ids(tmp_path / "readings.jsonl", start, wanted) for start in (0, 46, 69)]
    assert [{int(name[-1]) for name in one} for one in found] == [{1, 2, 3, 4}, {3, 4}, {4}]


def spans(path: Path) -> list[tuple[int, int]]:
    ends = [end for _, end in earlier(path)]
    begins = ends[-1] if ends else 0
    return [*zip([0, *ends], ends, strict=False), (begins, begins + path.stat().st_size)]
