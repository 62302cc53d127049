"""Notices that files were replaced: weights and the policy, to be read again while the node runs."""

from collections.abc import Iterable
from pathlib import Path

Stamp = tuple[int, ...] | None  # inode, size, times of change in ns; None: not there


class FileWatch:
    """Call `changed` every few seconds."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._seen = {file: _stamp(file) for file in files}
        self._moving: dict[Path, Stamp] = {}

    def changed(self) -> list[Path]:
        """Files that are other than they were, and the same as at the last call: whoever writes them has finished."""
        settled = []
        for file, seen in self._seen.items():
            now = _stamp(file)
            if now is None or now == seen:
                self._moving.pop(file, None)
            elif self._moving.get(file) == now:
                del self._moving[file]
                self._seen[file] = now
                settled.append(file)
            else:
                self._moving[file] = now
        return settled


def _stamp(file: Path) -> Stamp:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
