import re
from collections.abc import Iterator

import numpy as np
import pytest

from common.pixels import RawImage
from edge_node.sources import Captured
from edge_node.sources.fused import FusedSource, fuse
from edge_node.sources.source import SourceStatus


class Still:
    """A source of one still, dark, noisy scene."""

    name, live = "still", False

    def __init__(self, count: int) -> None:
        self.total, self.closed, self.skipped = count, False, 3
        self.status = SourceStatus()

    def frames(self) -> Iterator[Captured]:
        for number in range(self.total):
            rgb = np.random.default_rng(number).normal(20, 4, (120, 160, 3)).clip(0, 255).astype(np.uint8)
            yield Captured(RawImage.from_rgb(rgb), 1000 + number, f"still#{number}")

    def close(self) -> None:
        self.closed = True


def test_as_many_frames_come_out_each_with_its_own_name_and_time() -> None:
    source = fuse(Still(6), 4)
    frames = list(source.frames())
    assert [(one.name, one.captured_unix_ns) for one in frames] == [(f"still#{k}", 1000 + k) for k in range(6)]
    noise = [one.image.data.std() for one in frames]
    assert noise[3] < 0.6 * noise[0]
    assert isinstance(source, FusedSource)
    told = re.fullmatch(r"fused: ([0-9.]+) frames in each on average, 0 new starts", source.words())
    assert told and float(told[1]) == pytest.approx((1 + 2 + 3 + 4 + 4 + 4) / 6, abs=0.2)


def test_it_is_the_source_in_everything_else() -> None:
    still = Still(6)
    source = fuse(still, 4)
    assert (source.name, source.live, source.total) == ("still", False, 6)
    assert isinstance(source, FusedSource) and source.skipped == 3
    source.close()
    assert still.closed


def test_one_is_off() -> None:
    still = Still(1)
    assert fuse(still, 1) is still
