"""A folder whose new images are taken as they arrive."""

import logging
import os
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.errors import SourceError
from edge_node.sources.images import JPEG_MAGIC, is_image_name, natural_key, read_image
from edge_node.sources.source import Captured, SourceStatus

logger = logging.getLogger(__name__)

POLL_S: Final = 0.5
OVERWRITTEN_S: Final = 5.0
SETTLE_S: Final = 1.0
BROKEN_S: Final = 30.0
ENDS: Final = {JPEG_MAGIC: b"\xff\xd9", b"\x89PNG": b"IEND\xaeB`\x82"}


@dataclass(frozen=True, slots=True)
class Version:
    """What tells one content of a file from the next."""

    inode: int  # of the name, where that is a link
    size: int
    mtime_ns: int


@dataclass(slots=True)
class _Waiting:
    """A version that was seen and not given yet."""

    version: Version
    since_s: float  # monotonic, when it was seen first
    tried: bool = False
    told: bool = False


class WatchedFolder:
    """The images of a folder, then each new or overwritten one as soon as it is whole; never ends.

    A file is whole when it has not changed for `settle_s` (or was last written before that, as one that was
    renamed into the folder) and can be decoded to its end. One that cannot is tried again when it changes, so
    that a writer may take as long as it likes; unchanged for `broken_s`, it is logged and counted as broken.
    Nothing is lost to a slow node: files wait in the folder.

    The folder is polled, not watched by inotify: cameras upload over FTP or SMB, and on a network share nobody
    is told of what another machine writes. Files that settle must be looked at twice in any case. Each poll reads
    the names; files that were given are asked for their times only every `overwritten_s`, as that costs far more.
    """

    live = False
    total: int | None = None

    def __init__(
        self,
        folder: Path,
        *,
        poll_s: float = POLL_S,
        settle_s: float = SETTLE_S,
        broken_s: float = BROKEN_S,
        overwritten_s: float = OVERWRITTEN_S,
    ) -> None:
        self.folder, self.name, self.status = folder, folder.name or str(folder), SourceStatus()
        self._poll_s, self._settle_s, self._broken_s = poll_s, settle_s, broken_s
        self._overwritten_s, self._asked_all_s = overwritten_s, 0.0
        self._given: dict[str, Version] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._closed = threading.Event()
        self._look()  # shows now whether it can be read

    def frames(self) -> Iterator[Captured]:
        while not self._closed.is_set():
            given = 0
            for name in self._ready():
                if self._closed.is_set():
                    return
                if (captured := self._read(name)) is not None:
                    given += 1
                    yield captured
            if given == 0:
                self._closed.wait(self._poll_s)

    def close(self) -> None:
        self._closed.set()

    def _ready(self) -> list[str]:
        """Names of the files that may be whole, in natural order."""
        try:
            found = self._look()
        except SourceError as error:
            if str(error) != self.status.problem:
                logger.warning("%s; waiting for it", error)
            self.status.problem = str(error)
            return []
        if self.status.problem:
            logger.warning("%s can be read again", self.folder)
            self.status.problem = ""
        now_s, now_ns = time.monotonic(), time.time_ns()
        self._given = {name: version for name, version in self._given.items() if name in found}
        before = self._waiting
        self._waiting = {}
        ready = []
        for name, version in found.items():
            if self._given.get(name) == version:
                continue
            waiting = before.get(name)
            if waiting is None or waiting.version != version:
                waiting = _Waiting(version, now_s)
            self._waiting[name] = waiting
            rested = now_s - waiting.since_s >= self._settle_s
            old = now_ns - version.mtime_ns >= self._settle_s * 1e9
            if (rested or old) and not waiting.tried:
                ready.append(name)
            elif waiting.tried and not waiting.told and now_s - waiting.since_s >= self._broken_s:
                self._tell_broken(name, waiting)
        return sorted(ready, key=lambda name: natural_key(Path(name)))

    def _look(self) -> dict[str, Version]:
        """The image files that are there now. Raises SourceError when the folder cannot be read."""
        now_s, found = time.monotonic(), {}
        ask_all = now_s - self._asked_all_s >= self._overwritten_s
        if ask_all:
            self._asked_all_s = now_s
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    known = self._given.get(entry.name)
                    if known is not None and known.inode == entry.inode() and not ask_all:
                        found[entry.name] = known
                    elif is_image_name(entry.name) and (version := _version(entry)) is not None:
                        found[entry.name] = version
        except OSError as error:
            raise SourceError(f"cannot look into {self.folder}: {error.strerror}") from None
        return found

    def _read(self, name: str) -> Captured | None:
        """The image, unless it is not whole yet."""
        path, waiting = self.folder / name, self._waiting[name]
        waiting.tried = True
        try:
            if cut_off(path):
                raise SourceError(f"{path} is not whole")
            image = read_image(path)
        except (SourceError, OSError) as error:
            logger.debug("not whole yet: %s", error)
            return None
        del self._waiting[name]
        self._given[name] = waiting.version
        self.status.frames += 1
        return Captured(image, time.time_ns(), name)

    def _tell_broken(self, name: str, waiting: _Waiting) -> None:
        waiting.told = True
        self.status.broken += 1
        try:
            read_image(self.folder / name)
            reason = f"{self.folder / name} is cut off"
        except SourceError as error:
            reason = str(error)
        logger.warning("left out until it changes: %s", reason)


def _version(entry: "os.DirEntry[str]") -> Version | None:
    """None for what is empty, no file, or gone meanwhile."""
    try:
        facts = entry.stat()
    except OSError:
        return None
    if not stat.S_ISREG(facts.st_mode) or not facts.st_size:
        return None
    return Version(entry.inode(), facts.st_size, facts.st_mtime_ns)


def cut_off(path: Path) -> bool:
    """Whether a JPEG or PNG is one that its writer made room for and has not filled yet: decoders take zeros for
    grey or black. Bitmaps and TIFF files may end in zeros, so there it cannot be told."""
    content = path.read_bytes()
    if not content.endswith(b"\0"):
        return False
    filled = content.rstrip(b"\0")
    return any(content.startswith(magic) and not filled.endswith(end) for magic, end in ENDS.items())
