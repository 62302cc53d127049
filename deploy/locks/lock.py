"""Reads a lock: a requirements file in which every line has its version and hashes."""

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
EXTRAS = ("edge", "cloud")
LINE = re.compile(r"^([a-z0-9-]+)==([^\s;]+)(?: ; (.+))?$")
HASH = re.compile(r"^--hash=sha256:([0-9a-f]{64})$")


@dataclass(frozen=True)
class Pin:
    """A distribution of a lock: normalised name, version, marker ("" = everywhere), the SHA-256 of its files."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]


def normalised(name: str) -> str:
    """A distribution's name as PEP 503 has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def entries(text: str) -> list[str]:
    """The requirements of a lock, each with its lines, comments left out."""
    bare = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return [entry for entry in re.split(r"\n(?=\S)", bare) if entry.strip()]


def parsed(text: str) -> list[Pin]:
    """The pins of a lock's text. ValueError names a line that is not pinned or not hashed."""
    pins = []
    for entry in entries(text):
        first, *rest = [part.strip() for part in entry.split("\\\n")]
        line, hashes = LINE.match(first), [HASH.match(part) for part in rest]
        if not line or not hashes or not all(hashes):
            raise ValueError(f"{first!r}: not a version with --hash=sha256 lines; run make locks")
        pins.append(Pin(line[1], line[2], line[3] or "", tuple(match[1] for match in hashes if match)))
    return pins


def read(name: str) -> list[Pin]:
    """The pins of deploy/locks/NAME.txt."""
    return parsed((FOLDER / f"{name}.txt").read_text())
