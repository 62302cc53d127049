"""`python -m edge_node trace FRAME`: where one frame's time went, from what the edge wrote down."""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.errors import SettingsError
from common.printable import printable
from common.telemetry import STAGES
from edge_node.record import earlier

BLOCK: Final = 256 * 1024
MOST_MS: Final = 1e15
LONGEST: Final = 16 * 2**20  # a line that is longer is none of ours
CLOUD: Final = ("ingress", "scheduler", "engine", "publisher")
COLORS: Final = {"edge": "cyan", "cloud": "magenta", "link": "yellow", "": "bright_black"}
NAME: Final = "readings.jsonl"


def trace(argv: Sequence[str]) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m edge_node trace", description="Show where one frame's time went, stage by stage."
    )
    parser.add_argument(
        "frame", metavar="FRAME", help="EDGE/SESSION/SEQUENCE, as in the readings; a sequence alone; or last"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("readings"), metavar="DIR", help="as given to the node (default: readings)"
    )
    given = parser.parse_args(argv)
    reading = find(given.frame, files_of(given.output))
    if reading is None:
        raise SettingsError(f"no frame {given.frame} in {given.output}: name one as readings.jsonl does, or last")
    Console(highlight=False).print(waterfall(reading, Console().width))
    return 0


def files_of(output: Path) -> list[Path]:
    """The readings in a folder, or in those of its cameras. Raises SettingsError when there are none."""
    files = [output / NAME] if (output / NAME).is_file() else sorted(output.glob(f"*/{NAME}"))
    if not files:
        raise SettingsError(f"no {NAME} in {output}: name the folder given to the node with --output")
    return files


def find(frame: str, files: Sequence[Path]) -> dict[str, Any] | None:
    """The newest reading of a frame; of several files the one captured last."""
    found = [reading for file in files if (reading := _find(frame, file)) is not None]
    return max(found, key=_captured, default=None)


def _captured(reading: dict[str, Any]) -> int:
    given = reading.get("captured_unix_ns")
    return given if isinstance(given, int) else 0


def _find(frame: str, file: Path) -> dict[str, Any] | None:
    wanted = b"" if frame == "last" else frame.encode(errors="surrogateescape")
    try:
        for each in (file, *(before for before, _ in reversed(earlier(file)))):
            for line in lines_backwards(each):
                if wanted in line:  # far cheaper than to parse each
                    reading = _parsed(line)
                    if reading is not None and frame in ("last", reading["frame"], str(reading.get("sequence"))):
                        return reading
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}") from None
    return None


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A reading; None for a line that is none, such as one cut off."""
    try:
        reading = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(reading, dict) or not isinstance(reading.get("frame"), str):
        return None
    stages = reading.get("stages_ms")
    whole = isinstance(stages, dict) and all(map(_is_time, [reading.get("latency_ms", ""), *stages.values()]))
    return reading if whole else None


def _is_time(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and 0 <= value < MOST_MS)


def lines_backwards(file: Path) -> Iterator[bytes]:
    """The lines of a file, the last first, with no more in memory than a block and a line.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as stream:
        left, parts, length = stream.seek(0, os.SEEK_END), list[bytes](), 0  # of the line that is read, the last first
        while left:
            size = min(BLOCK, left)
            left -= size
            stream.seek(left)
            first, *lines = stream.read(size).split(b"\n")
            if lines:
                parts.append(lines.pop())
                if length + len(parts[-1]) <= LONGEST:
                    lines.append(b"".join(reversed(parts)))
                yield from filter(None, reversed(lines))
                parts, length = [], 0
            parts.append(first)
            length += len(first)
            if length > LONGEST:
                parts = []
        if parts and length <= LONGEST:
            yield from filter(None, [b"".join(reversed(parts))])


def waterfall(reading: dict[str, Any], width: int) -> Table:
    """The stages one after the other, each with its share of the whole, and what lies between them."""
    stages = {name: spent for name, spent in reading["stages_ms"].items() if spent is not None}
    total = max(reading["latency_ms"] or 0.0, sum(spent for name, spent in stages.items() if "/" not in name), 0.001)
    room = max(10, min(60, width - 38))

    def say(name: str) -> str:
        return printable(str(reading.get(name) or ""))

    given = reading.get("regions")
    regions = len(given) if isinstance(given, list) else 0
    about = Text.assemble(say("frame"), "  ", (say("name"), "dim"), f"\n{say('priority')}, {say('outcome')}, ")
    about.append(f"{regions} text region{'s' * (regions != 1)}{', ' * bool(say('model'))}{say('model')}")
    about.append(f"; {total:,.1f} ms")
    if reason := say("reason"):
        about.append(f"\n{reason}", "red")
    table = Table("stage", "where", "ms", "", title=about, title_justify="left", title_style="", box=None)
    table.columns[2].justify = "right"
    start = 0.0
    for name, spent in sorted(stages.items(), key=lambda item: _place(item[0])):
        part = "/" in name
        begin = max(0.0, start - spent) if part else start  # a part ends with its stage
        shown = Text(printable(f"  {name.partition('/')[2]}" if part else name))
        table.add_row(shown, where(name), f"{spent:,.1f}",
                      bar(begin, spent, total, room, COLORS[where(name)]))  # fmt: skip
        start += 0.0 if part else spent
    if (between := total - start) >= 0.05:
        table.add_row("between them", "", f"{between:,.1f}", bar(start, between, total, room, COLORS[""]), style="dim")
    return table


def where(stage: str) -> str:
    """On which side a stage is."""
    name = stage.partition("/")[0]
    return "cloud" if name in CLOUD else "link" if name in ("uplink", "downlink") else "edge"


def bar(start: float, length: float, total: float, room: int, color: str) -> Text:
    """A stage's place within the whole, in eighths of a column.

    >>> str(bar(50, 25, 100, 8, "cyan"))
    '    ██'
    """
    begin, eighths = int(start / total * room), round(length / total * room * 8)
    full, part = divmod(max(1, eighths), 8)
    return Text(" " * begin + "█" * full + ("▏▎▍▌▋▊▉"[part - 1] if part else ""), style=color, no_wrap=True)


def _place(stage: str) -> tuple[int, str]:
    name = stage.partition("/")[0]
    return (STAGES.index(name) if name in STAGES else len(STAGES)), stage
