"""Frames to keep, and a clock that does what the test says."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.frame import Frame, FrameId, Priority
from common.packing import Filter, PackedImage
from common.pixels import ColorMatrix, ColorRange, PixelFormat
from edge_node.spool import Spool
from edge_node.spool.entry import Moment

EDGE = "pole"


@dataclass
class HandClock:
    unix_s: int = 1_800_000_000
    boot: str = "0000beef"
    up_s: int = 1000

    def __call__(self) -> Moment:
        return Moment(self.unix_s, self.boot, self.up_s)

    def advance(self, seconds: int) -> None:
        self.unix_s += seconds
        self.up_s += seconds


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def make_frame() -> Callable[..., Frame]:
    def make(
        sequence: int, size: int = 1000, priority: Priority = Priority.ESSENTIAL, session: str = "s1", edge: str = EDGE
    ) -> Frame:
        image = PackedImage(
            40, 30, PixelFormat.GRAY8, ColorRange.FULL, ColorMatrix.BT601, Filter.NONE, os.urandom(size)
        )
        return Frame(FrameId(edge, session, sequence), image, 1_700_000_000_000_000_000 + sequence, priority)

    return make


@pytest.fixture
def open_spool(tmp_path: Path, clock: HandClock) -> Iterator[Callable[..., Spool]]:
    """Opens the same folder again and again; what was open is closed, as at the end of a process."""
    opened: list[Spool] = []

    def make(limit_bytes: int = 10**9, max_age_s: float = 3600) -> Spool:
        for spool in opened:
            spool.close()
        bounds = {"limit_bytes": limit_bytes, "max_age_s": max_age_s, "free_bytes": 0}
        opened.append(Spool(tmp_path / "spool", EDGE, clock=clock, **bounds))
        return opened[-1]

    yield make
    for spool in opened:
        spool.close()
