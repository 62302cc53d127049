"""readings.jsonl: one JSON object a line for every settled frame; the schema is in docs/edge.md."""

import contextlib
import errno
import json
import logging
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from common.errors import SettingsError
from common.files import sync_folder
from common.frame import Reading
from common.telemetry import STAGES
from edge_node.record import UNBOUNDED, Bound, Shelf, earlier
from edge_node.sinks.sight_json import rounded
from edge_node.sinks.sink import Failures, Shown, check_writable

log = logging.getLogger(__name__)

SCHEMA: Final = 1


class JsonLines:
    """Appends readings to a file, each line whole and on its way to the disk before the next.

    Args:
        bound: of the file and those that were put aside for it (edge_node/record.py).

    Attributes:
        size: bytes of all that was ever written, what is gone of it too.

    Raises:
        SettingsError: the file cannot be written.
    """

    def __init__(self, path: Path | str, unit: str = "frames", bound: Bound = UNBOUNDED) -> None:
        self.path = Path(path)
        check_writable(self.path.parent)
        try:
            self._file: int | None = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            self._broken_line = not _ends_whole(self._file)
            sync_folder(self.path.resolve().parent if self.path.is_file() else self.path.parent)
            self._shelf = Shelf(self.path, self._file, bound)
            self._doubt = self.path.with_name(self.path.name + ".doubt")
            self._in_doubt = self._doubt.exists()
            # Bytes of the file: all whole lines; those on the disk to stay, or as good as that.
            self._end = self._stays = os.fstat(self._file).st_size
            self._zeros = 0  # of the others
            if self._in_doubt:  # which of the lines that can be read, no one knows
                self._stays, self._zeros = 0, _zeros_in(self._file)
            self.size = self._end + max((end for _, end in earlier(self.path)), default=0)
        except OSError as error:
            raise SettingsError(f"cannot write readings to {self.path}: {error.strerror}") from None
        self._swapping = threading.Lock()  # another thread syncs
        self._writing = threading.Lock()  # before that one
        self._stuck = False
        self.written = True  # the last line, whole
        self.failures = Failures(str(self.path), unit)
        self.unsynced = Failures(
            str(self.path),
            failed="the last lines of {what} may be lost if the power goes: {why}",
            again="all lines of {what} are on the disk to stay again",
        )
        self._shelf.tidy()

    def write(self, shown: Shown) -> None:
        self.append(reading_to_json(shown.reading))

    def append(self, item: dict[str, Any]) -> None:
        """Write an object as a line."""
        if self._file is None:
            self.written = False
            return
        line = json.dumps(item, ensure_ascii=False, allow_nan=False) + "\n"
        # A file name that is not UTF-8 has lone surrogates; as \udcXX they are valid JSON.
        data = line.encode("utf-8", "backslashreplace")
        if self._broken_line:
            data = b"\n" + data
        self.written = False
        with self.failures.counted(), self._writing:
            before = os.fstat(self._file).st_size
            if self._shelf.is_due(before) and not self._broken_line:
                self._begin_anew()
                before = os.fstat(self._file).st_size
            written = os.write(self._file, data)
            if written < len(data):
                self._broken_line = True
                os.ftruncate(self._file, before)
                self._broken_line = data.startswith(b"\n")  # as it was
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._broken_line, self.written, self._end = False, True, before + written
            self.size += written

    def _begin_anew(self) -> None:
        """What was written goes aside. Where that cannot be, the file grows on for a while."""
        assert self._file is not None
        with self._swapping:
            try:
                self._renew()
                named = self._shelf.put_aside(self._file, self.size, self._to_disk)
            except OSError as error:
                if not self._stuck:
                    log.error("%s cannot be put aside, it grows on: %s", self.path, error.strerror)
                self._stuck = True
                return
            self._stuck, self._end, self._stays = False, 0, 0
            if not named:
                self._doubts()
        self._shelf.tidy()

    def sync(self) -> bool:
        """Whether all lines so far are on the disk to stay. What an earlier call failed for is in doubt until then."""
        if self._file is None:
            return False
        with self.unsynced.counted():
            if self._in_doubt:
                with self._writing, self._swapping:
                    self._renew()
            with self._swapping:
                if self._file is None or self._in_doubt:  # by now
                    return False
                self._to_disk()
            return True
        return False

    def _to_disk(self) -> None:
        """Raises OSError: which of what was written since it did not is there will not be told again."""
        assert self._file is not None
        end = self._end  # another thread writes
        try:
            os.fsync(self._file)
        except OSError:
            self._doubts()
            raise
        self._stays = end

    def _doubts(self) -> None:
        self._in_doubt = True
        with contextlib.suppress(OSError):
            self._doubt.touch()  # for the next run

    def _renew(self) -> None:
        """What is in doubt has a new place on the disk. Raises OSError."""
        if self._file is None or not self._in_doubt:
            return
        self._shelf.renew(self._file, self._stays, self._end, self._zeros)
        self._in_doubt, self._stays, self._zeros = False, self._end, 0
        self._doubt.unlink(missing_ok=True)

    def close(self) -> None:
        with self._swapping:
            if self._file is not None:
                os.close(self._file)
                self._file = None


def _ends_whole(file: int) -> bool:
    """Whether the last line is complete; it is not after a crash or a full disk."""
    size = os.fstat(file).st_size
    return size == 0 or os.pread(file, 1, size - 1) == b"\n"


def _zeros_in(file: int) -> int:
    """How many bytes are zeros, as none of a line is; up to where it cannot be read."""
    count = at = 0
    with contextlib.suppress(OSError):
        while piece := os.pread(file, 2**20, at):
            count, at = count + piece.count(0), at + len(piece)
    return count


def reading_to_json(reading: Reading) -> dict[str, Any]:
    """A reading as the object that readings.jsonl holds; see docs/edge.md for the schema."""
    return {
        "schema": SCHEMA,
        "frame": str(reading.id),
        "edge": reading.id.edge,
        "session": reading.id.session,
        "sequence": reading.id.sequence,
        "name": reading.name,
        "captured_unix_ns": reading.captured_unix_ns,
        "priority": reading.priority.name.lower(),
        "outcome": reading.outcome.name.lower(),
        "path": reading.path.value,
        "reason": reading.reason,
        "model": reading.model,
        "sharpness": {
            "before": rounded(reading.sharpness_before, 6),
            "after": rounded(reading.sharpness_after, 6),
        },
        "latency_ms": rounded(reading.latency_ns / 1e6, 3),
        "stages_ms": {stage: rounded(reading.stages_ns[stage] / 1e6, 3) for stage in in_order(reading.stages_ns)},
        "bytes": {"raw": reading.bytes_raw, "up": reading.bytes_up, "down": reading.bytes_down},
        "sent_as": reading.sent_as,
        "regions": [
            {
                "polygon": [[rounded(x, 2), rounded(y, 2)] for x, y in region.polygon],
                "score": rounded(region.score, 4),
                "text": region.text,
                "confidence": rounded(region.confidence, 4),
                "sight": region.sight,
            }
            for region in reading.regions
        ],
    }


def in_order(stages: Iterable[str]) -> list[str]:
    """Stage names in the order a frame walks them, parts ("engine/enhance") after their stage, unknown ones last."""

    def place(stage: str) -> tuple[int, str, str]:
        name, _, part = stage.partition("/")
        return STAGES.index(name) if name in STAGES else len(STAGES), name, part

    return sorted(stages, key=place)
