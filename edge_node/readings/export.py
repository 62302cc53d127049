"""`python -m edge_node export`: kept readings into a file of another program."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import Progress

from common.errors import ReadingsError
from edge_node.readings.command import add_window, window
from edge_node.readings.formats import FORMATS, plain_row
from edge_node.readings.store import Store, stores_in

PROG = "python -m edge_node export"
SHOWN_EVERY = 500  # rows

DESCRIPTION = """Write what an edge node has read and kept into a file, the oldest first.

OUT appears when it is whole; - is standard output. In CSV a text that begins with = + - @ has a ' before it, or a
spreadsheet would run it as a formula: JSON lines have every text as it was read."""

EPILOG = """examples:
  python -m edge_node export --format csv --since 7d week.csv
  python -m edge_node export --format jsonl - | jq -r .text | sort | uniq -c
  python -m edge_node export --format coco-text labels.json"""


def export(argv: Sequence[str]) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog=PROG, description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="the file to write")
    parser.add_argument("--format", choices=tuple(FORMATS), required=True, help="docs/readings.md tells of each")
    add_window(parser)
    given = parser.parse_args(argv)
    stores, write = stores_in(given.output), FORMATS[given.format]
    counted = Counted(sum(store.count() for store in stores))
    rows = counted.each(rows_of(stores, **window(given)))
    with counted:
        if str(given.out) == "-":
            try:
                write(rows, sys.stdout)
                sys.stdout.flush()
            except BrokenPipeError:  # whoever reads has seen enough
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        else:
            with whole(given.out) as file:
                write(rows, file)
    if str(given.out) != "-":
        print(f"lamplight: {counted.count:,} readings in {given.out}", file=sys.stderr)
    return 0


def rows_of(stores: Sequence[Store], **bounds: Any) -> Iterator[dict[str, Any]]:
    """The rows of each store, one store after the other."""
    for store in stores:
        for row in store.rows(**bounds):
            yield plain_row(row, store.path.parent)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[IO[str]]:
    """A file that replaces `path` when the body has ended well; else it is gone and `path` is as it was.

    Raises:
        ReadingsError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        try:
            with beside.open("w", encoding="utf-8", newline="") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
    except OSError as error:
        raise ReadingsError(f"cannot write {path}: {error.strerror or error}") from None


class Counted:
    """Counts rows as they go by, with a bar on a terminal."""

    def __init__(self, total: int) -> None:
        self.count = 0
        self._progress = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
        self._task = self._progress.add_task("writing", total=total)

    def each(self, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for row in rows:
            yield row
            self.count += 1
            if self.count % SHOWN_EVERY == 0:
                self._progress.update(self._task, completed=self.count)

    def __enter__(self) -> None:
        self._progress.start()

    def __exit__(self, *failure: object) -> None:
        self._progress.stop()
