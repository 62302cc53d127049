"""Frames on disk that must not be lost: a file each, bounded in bytes and age; why so is in docs/spool.md.

What `store` returned for is there after a kill -9 or a power loss. `remove` is not waited for: a file that comes
back with the power is known by its line in readings.jsonl (`settled.py`).
"""

import contextlib
import fcntl
import logging
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from common.errors import SpoolFull, SpoolInUse
from common.files import sync_folder
from common.frame import Frame, Priority
from edge_node.machine import FREE_BYTES
from edge_node.spool.entry import SUFFIX, Entry, Moment, from_file_name, now
from edge_node.spool.record import DESCRIPTION_BYTES, RECORD_BYTES, CorruptRecord, Description, decode, describe, encode
from edge_node.spool.settled import settled_ids

log = logging.getLogger(__name__)

CORRUPT_KEPT = 8  # files set aside, the newest
LOCK = "lock"


class Spool:
    """One edge's kept frames in a folder; for one thread at a time.

    Args:
        folder: made if it is not there.
        edge: whose frames these are.
        limit_bytes: bound on the files.
        max_age_s: older frames are `expired`.
        free_bytes: what is left free on the disk.
        clock: both clocks now.

    Raises:
        SpoolInUse: another process, or another node of this one, has it.
        OSError: the folder cannot be made, read or written to.
    """

    def __init__(
        self,
        folder: Path,
        edge: str,
        *,
        limit_bytes: int,
        max_age_s: float,
        free_bytes: int = FREE_BYTES,
        clock: Callable[[], Moment] = now,
    ) -> None:
        self.folder, self.edge = folder, edge
        self.limit_bytes, self.max_age_s, self.free_bytes = limit_bytes, max_age_s, free_bytes
        self.held_bytes = 0
        self._clock = clock
        self._entries: dict[Priority, dict[int, Entry]] = {priority: {} for priority in Priority}  # oldest first
        self._order = 0
        _make_folder(folder)
        self._lock = os.open(folder / LOCK, os.O_RDONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._scan()
        except BlockingIOError:
            os.close(self._lock)
            raise SpoolInUse(
                f"the spool {folder} is in use by another edge node: stop that one, or give this one another --spool"
            ) from None
        except BaseException:
            os.close(self._lock)
            raise

    def __len__(self) -> int:
        return sum(map(len, self._entries.values()))

    def __iter__(self) -> Iterator[Entry]:
        """Most urgent first, then oldest."""
        for entries in self._entries.values():
            yield from entries.values()

    def __contains__(self, entry: Entry) -> bool:
        return entry.order in self._entries[entry.priority]

    def close(self) -> None:
        """Let another process have it. May be called again."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # --- in and out ---

    def store(
        self,
        frame: Frame,
        name: str,
        bytes_raw: int,
        readings_bytes: int,
        *,
        size: tuple[int, int] = (0, 0),
        sent_as: str = "lossless",
    ) -> Entry:
        """Keep a frame: when this returns it is on the disk to stay.

        Make room first: see `room_for`.

        Args:
            name: the file or camera that it came from.
            bytes_raw: its size as the camera gave it.
            readings_bytes: size of the readings' file now.
            size: width and height as captured, if the frame is smaller.
            sent_as: what was given up for a slow link, in words.

        Raises:
            OSError: the disk refused it; nothing of it is left.
        """
        moment = self._clock()
        self._order += 1  # whatever becomes of it: a file that stays where it was refused must not share it
        entry = Entry(self._order - 1, frame.priority, frame.id, readings_bytes, moment, since_up_s=moment.up_s)
        path = self.folder / entry.file_name
        id, captured = frame.id, frame.captured_unix_ns
        described = Description(id.edge, id.session, id.sequence, name, bytes_raw, captured, size, sent_as)
        try:
            entry.size = _write(path, encode(frame, described))
            sync_folder(self.folder)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        self._add(entry)
        return entry

    def load(self, entry: Entry) -> tuple[Frame, Description]:
        """The frame as it was stored.

        Raises:
            CorruptRecord: its file is gone or damaged: `set_aside` it.
            OSError: the disk does not give it.
        """
        if entry.size > RECORD_BYTES:
            raise CorruptRecord(f"it has {entry.size:,} bytes, more than any frame")
        try:
            frame, description = decode((self.folder / entry.file_name).read_bytes())
        except FileNotFoundError:
            raise CorruptRecord("its file is gone") from None
        if frame.id != entry.id:
            raise CorruptRecord(f"it holds frame {frame.id}")
        return frame, description

    def describe(self, entry: Entry) -> Description:
        """What a reading says of it, as far as its file can still tell."""
        try:
            with (self.folder / entry.file_name).open("rb") as file:
                return describe(file.read(DESCRIPTION_BYTES))
        except (OSError, CorruptRecord):
            return Description(self.edge, entry.id.session, entry.id.sequence, "", 0, entry.stored.unix_s * 10**9)

    def remove(self, entry: Entry) -> None:
        """Its reading is written. Removing it twice does nothing."""
        self._forget(entry)
        with contextlib.suppress(FileNotFoundError):
            (self.folder / entry.file_name).unlink()

    def set_aside(self, entry: Entry) -> None:
        """Its file is damaged: keep it as `.corrupt` for whoever wants to look."""
        self._forget(entry)
        self._set_aside(entry.file_name)

    # --- bounds ---

    def room_for(self, size: int, priority: Priority, out: Collection[int] = ()) -> list[Entry]:
        """What has to go for a frame of so many bytes: the least urgent first, then the oldest, none more urgent.

        Never what is `out`, by its order: it is under way, and here in case that fails.

        Raises:
            SpoolFull: that would not be enough.
        """
        missing = self.missing(size)
        victims: list[Entry] = []
        for entry in [
            each for other in sorted(Priority, reverse=True) if other >= priority for each in self._of(other)
        ]:
            if missing <= 0:
                return victims
            if entry.order not in out:
                victims.append(entry)
                missing -= entry.size
        if missing > 0:
            raise SpoolFull(
                f"no room in the spool {self.folder}: {self.held_bytes / 2**20:.0f} of "
                f"{self.limit_bytes / 2**20:.0f} MiB used, {self._free() / 2**20:.0f} MiB free on the disk"
            )
        return victims

    def missing(self, size: int) -> int:
        """Bytes that have to go for a frame of so many; none if this is not above 0."""
        size += DESCRIPTION_BYTES // 64  # about what comes with the payload
        return max(self.held_bytes + size - self.limit_bytes, size + self.free_bytes - self._free())

    def _of(self, priority: Priority) -> list[Entry]:
        return list(self._entries[priority].values())

    def oldest(self) -> list[Entry]:
        """The oldest frame of each priority. Safe from another thread."""
        return [entry for entries in self._entries.values() for entry in list(entries.values())[:1]]

    def expired(self) -> list[Entry]:
        """Frames over the age."""
        before = self._clock().up_s - self.max_age_s
        return [entry for entry in self if entry.since_up_s < before]

    def settled(self, readings: Path) -> list[Entry]:
        """What has its line in the readings' file already: to be removed once that is on the disk to stay.

        The run that wrote the lines may have ended before.

        Raises:
            OSError: it cannot be read.
        """
        held = {str(entry.id): entry for entry in self}
        if not held:
            return []
        start = min(entry.readings_bytes for entry in held.values())
        return [held[frame] for frame in settled_ids(readings, start, held)]

    # --- the folder ---

    def _scan(self) -> None:
        moment, found = self._clock(), []
        with os.scandir(self.folder) as files:
            listed = [(file.name, _size_of(file)) for file in files if file.name.endswith(SUFFIX)]
        for name, size in sorted(listed):
            entry = from_file_name(name, self.edge, size, moment) if size >= 0 else None
            if entry is None:
                self._set_aside(name)
            else:
                found.append(entry)
        found.sort(key=lambda entry: entry.order)
        self._order = found[-1].order + 1 if found else 0
        if found and not self._is_whole(found[-1]):  # it was being written when the process or the power went
            self._set_aside(found.pop().file_name)
        for entry in found:
            self._add(entry)

    def _is_whole(self, entry: Entry) -> bool:
        try:
            self.load(entry)
        except CorruptRecord:
            return False
        except OSError:  # it is one frame that cannot be read now: whoever sends it will see
            return True
        return True

    def _add(self, entry: Entry) -> None:
        self._entries[entry.priority][entry.order] = entry
        self.held_bytes += entry.size

    def _forget(self, entry: Entry) -> None:
        if self._entries[entry.priority].pop(entry.order, None) is not None:
            self.held_bytes -= entry.size

    def _set_aside(self, name: str) -> None:
        path = self.folder / name
        log.error("%s in the spool is not whole: set aside as %s.corrupt", path, name)
        with contextlib.suppress(OSError):
            path.rename(path.with_name(name + ".corrupt"))
            for old in sorted(self.folder.glob("*.corrupt"))[:-CORRUPT_KEPT]:
                old.unlink()

    def _free(self) -> int:
        disk = os.statvfs(self.folder)
        return disk.f_bavail * disk.f_frsize


def _size_of(file: "os.DirEntry[str]") -> int:
    """-1 for what is no file, as a pipe that would never end."""
    return file.stat().st_size if file.is_file(follow_symlinks=False) else -1


def _make_folder(folder: Path) -> None:
    """With every parent, on the disk to stay."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def _write(path: Path, pieces: tuple[bytes, bytes]) -> int:
    """Write and sync a file; returns its size."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        written = 0
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                count = os.write(file, rest)
                written, rest = written + count, rest[count:]
        os.fsync(file)
        return written
    finally:
        os.close(file)
