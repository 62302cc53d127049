"""The files of a record that grows: the one that is written, and those before it, of which the oldest go.

readings.000000134217728.jsonl holds what ends at that byte of all that was ever written to readings.jsonl: so the
place of a line is known however often the file was begun anew, and whatever went.
"""

import contextlib
import errno
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Final

from common.files import sync_folder
from edge_node.machine import MIB, free_mib
from edge_node.readings.clock import Clock

log = logging.getLogger(__name__)

PARTS: Final = 8  # files that share the room, or the time
DAY_S: Final = 86_400
TRY_AGAIN_S: Final = 60.0
_BEGIN_BYTES: Final = 4096
_COPIED_BYTES: Final = 2**20  # at a time
_SPARE_BYTES: Final = 4 * MIB  # beside a copy, for what else is written until the room of the first comes back
_CAPTURED = re.compile(rb'"captured_unix_ns": ?(\d{1,19})')


@dataclass(frozen=True, slots=True)
class Bound:
    """How much of a record is kept, and for how long: at most an eighth more, or longer.

    Attributes:
        mib: of all its files; 0 = no bound.
        days: what was written last before goes, while the clock may be believed; 0 = never.
    """

    mib: float = 0.0
    days: float = 0.0


UNBOUNDED: Final = Bound()


def earlier(path: Path) -> list[tuple[Path, int]]:
    """The files before the one that is written, the oldest first, each with the byte of the record at which it ends."""
    path = path.resolve()
    name = re.compile(rf"{re.escape(path.stem)}\.(\d{{15}}){re.escape(path.suffix)}")
    try:
        found = [(each, match[1]) for each in path.parent.iterdir() if (match := name.fullmatch(each.name))]
    except FileNotFoundError:
        return []
    return sorted(((each, int(end)) for each, end in found), key=lambda one: one[1])


class Shelf:
    """Puts the file of a record aside once it has its share of the bound, and lets the oldest go.

    Args:
        file: that file, open.
    """

    def __init__(self, path: Path, file: int, bound: Bound) -> None:
        self._path, self._bound = path.resolve(), bound
        self._clock, self._not_before_s, self._renew_not_before_s = Clock(), 0.0, 0.0
        self._since_s = time.time()  # the first line of the file
        self._told = False
        self._take_back(file)
        if abs(time.time() - os.fstat(file).st_mtime) > DAY_S:  # it was off, or the clock is wrong
            self._clock.doubt()
        with contextlib.suppress(OSError):  # a pipe
            if (match := _CAPTURED.search(os.pread(file, _BEGIN_BYTES, 0))) is not None:
                self._since_s = int(match[1]) / 1e9

    def is_due(self, size: int) -> bool:
        """Whether a file of this size should be put aside."""
        mib, days = self._bound.mib, self._bound.days
        if not size or time.monotonic() < self._not_before_s:
            return False
        if mib and size >= mib * MIB / PARTS:
            return True
        return bool(days) and self._clock.believed and time.time() - self._since_s > days * DAY_S / PARTS

    def put_aside(self, file: int, end: int, to_disk: Callable[[], None]) -> bool:
        """Name the file, which ends there, after that, and begin another: `file` is that one then. Raises OSError.

        `to_disk` has all of it on the disk to stay, or raises OSError.

        Returns:
            Whether the names are there to stay. Else a power cut may take the new file, and what is written to it.
        """
        self._not_before_s = time.monotonic() + TRY_AGAIN_S
        to_disk()
        path, new = self._path, self._path.with_name(self._path.name + ".new")
        aside = path.with_name(f"{path.stem}.{end:015d}{path.suffix}")
        self._take_back(file)
        made = os.open(new, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            try:
                os.link(path, aside)
            except OSError:  # FAT has no links
                os.rename(path, aside)
            os.rename(new, path)
        except OSError:
            os.close(made)
            with contextlib.suppress(OSError):  # else with the next try
                self._take_back(file)
            raise
        _become(file, made)
        self._not_before_s, self._since_s = 0.0, time.time()
        try:
            sync_folder(path.parent)
        except OSError:
            return False
        return True

    def renew(self, file: int, start: int, end: int, zeros: int = 0) -> None:
        """Put another file with the same bytes up to `end` in place of this one, on the disk to stay: `file` is that.

        For lines from `start` on that an `fsync` failed for: Linux says so once, does not try again, and where it had
        room set aside for them ext4 takes them for zeros after a power cut, however often they are written there.

        Args:
            zeros: bytes from `start` on that were zeros when somebody last looked: with more, lines are gone.

        Raises:
            OSError: it cannot be done for now; or not any more, for the lines are gone. `file` is what has the name.
        """
        found = self._path.stat()
        if not stat.S_ISREG(found.st_mode) or not os.path.samestat(found, os.fstat(file)):
            raise OSError(errno.EINVAL, f"{self._path} is another file by now, or none")
        if time.monotonic() < self._renew_not_before_s:
            raise OSError(errno.EIO, "what was written last may be lost")
        if free_mib(self._path.parent) * MIB < end + _SPARE_BYTES:
            raise OSError(
                errno.ENOSPC, f"{end / MIB:.0f} MiB and {_SPARE_BYTES // MIB} more are needed to write it anew"
            )
        self._renew_not_before_s = time.monotonic() + TRY_AGAIN_S
        for _ in self._pieces(file, start, start, end, zeros):
            pass
        new = self._path.with_name(self._path.name + ".new")
        made = os.open(new, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            for piece in self._pieces(file, 0, start, end, zeros):
                while piece:
                    piece = piece[os.write(made, piece) :]
            os.fsync(made)
            os.rename(new, self._path)
        except OSError:
            os.close(made)
            with contextlib.suppress(OSError):
                new.unlink()
            raise
        _become(file, made)
        sync_folder(self._path.parent)
        self._renew_not_before_s = 0.0

    def _pieces(self, file: int, at: int, start: int, end: int, zeros: int) -> Iterator[bytes]:
        """The file from there on. Raises OSError: of what comes after `start` something is gone, for good."""
        while at < end:
            piece = os.pread(file, min(_COPIED_BYTES, end - at), at)
            zeros -= piece.count(0, max(0, start - at))
            if not piece or zeros < 0:
                self._renew_not_before_s = inf
                raise OSError(errno.EIO, f"what was written from byte {start} on is gone")
            yield piece
            at += len(piece)

    def _take_back(self, file: int) -> None:
        """What was put aside and not replaced, for that failed or a kill came between, has its first name alone."""
        for aside, _ in earlier(self._path):
            if not os.path.samestat(aside.stat(), os.fstat(file)):
                continue
            if not self._path.exists():
                os.rename(aside, self._path)
            elif os.path.samefile(aside, self._path):
                aside.unlink()

    def tidy(self) -> None:
        """Let go what is too old or too much. Of the last one before the file the name stays: it tells where we are."""
        try:
            self._tidy()
        except OSError as error:
            log.error("old lines of %s cannot be removed: %s", self._path, error.strerror)

    def _tidy(self) -> None:
        files = [(path, path.stat()) for path, _ in earlier(self._path)]
        last = len(files) - 1  # for size alone it goes with the next: from before a bound, it may be all there is
        total = self._path.stat().st_size + sum(found.st_size for _, found in files)
        days = self._bound.days if self._clock.believed else 0.0
        for index, (path, found) in enumerate(files):
            too_much = self._bound.mib and total > self._bound.mib * MIB and index < last
            if not too_much and not (days and time.time() - found.st_mtime > days * DAY_S):
                continue
            total -= found.st_size
            if found.st_size and not self._told:
                self._told = True
                why = f"there are more than {self._bound.mib:g} MiB" if too_much else f"older than {days:g} days"
                log.warning("%s goes, the oldest lines of %s: %s", path.name, self._path, why)
            if index < last:
                path.unlink()
            elif found.st_size:
                os.truncate(path, 0)


def _become(file: int, made: int) -> None:
    """The number of one open file is that of the other from now on; whoever has it goes on with that."""
    os.dup2(made, file, inheritable=False)
    with contextlib.suppress(OSError):  # it is open all the same
        os.close(made)
