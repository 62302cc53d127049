"""Which frames have their line in readings.jsonl, or one put aside, already: the record of what is settled."""

import json
import re
from collections.abc import Collection
from pathlib import Path

from edge_node.record import earlier

_FRAME = re.compile(rb'"frame": ?"([^"\\]{1,256})"')
_LINE_BYTES = 16 * 1024 * 1024  # longer lines are junk


def settled_ids(readings: Path, start: int, wanted: Collection[str]) -> set[str]:
    """Which of the `wanted` frames ("edge/session/sequence") have a whole line from byte `start` of the record on.

    A last line without its end counts when it is whole JSON: whoever reads the file sees it. From the beginning of
    a file, if `start` is not where a line begins: then it is another file than it was.

    Raises:
        OSError: a file is there and cannot be read.
    """
    found, begins = set[str](), 0
    for before, end in earlier(readings):
        begins = end
        if end > start:
            found |= _within(before, 0, wanted)
    return found | _within(readings, max(0, start - begins), wanted)


def _within(readings: Path, start: int, wanted: Collection[str]) -> set[str]:
    found: set[str] = set()
    try:
        file = readings.open("rb")
    except FileNotFoundError:
        return found
    with file:
        if start:
            file.seek(start - 1)
            if file.read(1) != b"\n":
                file.seek(0)
        while line := file.readline(_LINE_BYTES):
            match = _FRAME.search(line)
            if match is not None and (frame := match[1].decode("ascii", "replace")) in wanted and _whole(line):
                found.add(frame)
    return found


def _whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
