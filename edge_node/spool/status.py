"""`python -m edge_node spool`: what is held, without touching it."""

import argparse
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.errors import SettingsError, SpoolError
from common.frame import Priority
from edge_node.spool.entry import Entry, age_s, from_file_name, now
from edge_node.spool.store import LOCK


def show(argv: Sequence[str]) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m edge_node spool", description="Show the frames that are kept and not yet read."
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("readings/spool"), metavar="DIR",
        help="the spool (default: readings/spool)",
    )  # fmt: skip
    folder = parser.parse_args(argv).folder
    for line in describe(folder):
        print(line)
    return 0


def describe(folder: Path) -> Iterator[str]:
    """A line for each edge name.

    Raises:
        SettingsError: there is no such folder, or it is no spool.
        SpoolError: it cannot be read.
    """
    advice = f"name the folder given with --spool, or DIR/spool of --output DIR (seen from {Path.cwd()})"
    try:
        edges = sorted(path for path in folder.iterdir() if (path / LOCK).exists())
        if not edges:
            raise SettingsError(f"{folder} is no spool: {advice}")
        for edge in edges:
            yield _line(edge)
    except (FileNotFoundError, NotADirectoryError):
        raise SettingsError(f"there is no folder {folder}: {advice}") from None
    except OSError as error:
        raise SpoolError(f"cannot read the spool {folder}: {error.strerror}") from None


def _line(folder: Path) -> str:
    moment, entries, corrupt = now(), list[Entry](), 0
    with os.scandir(folder) as files:
        for file in files:
            entry = from_file_name(file.name, folder.name, file.stat().st_size, moment)
            corrupt += file.name.endswith(".corrupt")
            if entry is not None:
                entries.append(entry)
    state = "in use" if _locked(folder / LOCK) else "no edge node runs here"
    if not entries:
        words = "nothing is kept"
    else:
        kinds = [(priority, sum(entry.priority is priority for entry in entries)) for priority in Priority]
        counted = ", ".join(f"{count} {priority.name.lower()}" for priority, count in kinds if count)
        size, oldest = sum(entry.size for entry in entries), max(age_s(entry.stored, moment) for entry in entries)
        words = f"{counted}; {size / 2**20:.1f} MiB, the oldest {oldest / 3600:.1f} h old"
    return f"{folder.name}: {words}{f'; {corrupt} damaged files set aside' if corrupt else ''} ({state})"


def _locked(lock: Path) -> bool:
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
