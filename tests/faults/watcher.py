"""Which frames were ever whole in a spool: seen as they are written, by inotify."""

import contextlib
import ctypes
import os
import select
import struct
import threading
from pathlib import Path

from edge_node.spool import CorruptRecord
from edge_node.spool.entry import SUFFIX
from edge_node.spool.record import decode

IN_CLOSE_WRITE = 0x8
_EVENT = struct.Struct("iIII")


class SpoolWatcher:
    """Collects what was promised in one folder, which must exist; `promised` grows until `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.promised = folder, set[str]()
        libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._inotify < 0 or libc.inotify_add_watch(self._inotify, os.fsencode(folder), IN_CLOSE_WRITE) < 0:
            raise OSError(ctypes.get_errno(), f"cannot watch {folder}")
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch {folder}", daemon=True)
        self._thread.start()

    def look(self) -> set[str]:
        """What is whole in the folder now."""
        return {frame for path in self.folder.glob(f"*{SUFFIX}") if (frame := whole(path))}

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        os.close(self._inotify)

    def _run(self) -> None:
        while not self._closing.is_set():
            if not select.select([self._inotify], [], [], 0.2)[0]:
                continue
            data, at = os.read(self._inotify, 65_536), 0
            while at < len(data):
                _, _, _, length = _EVENT.unpack_from(data, at)
                name = data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0").decode()
                at += _EVENT.size + length
                if name.endswith(SUFFIX) and (frame := whole(self.folder / name)):
                    self.promised.add(frame)


def whole(path: Path) -> str:
    """The frame that a file of a spool holds, "edge/session/sequence"; "" for one that is gone or not whole."""
    with contextlib.suppress(OSError, CorruptRecord):
        return str(decode(path.read_bytes())[0].id)
    return ""
