import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from common.errors import SourceError
from common.flow import BoundedQueue, Policy
from common.pixels import RawImage
from edge_node.capture import capture
from edge_node.care import Slowdown
from edge_node.selection import Selection
from edge_node.sources import Captured, open_source


class Numbers:
    """A source of numbered frames; may break, or go on for ever."""

    def __init__(self, count: int | None, live: bool = False, breaks: bool = False) -> None:
        self.name, self.live, self.total = "numbers", live, count
        self.closed = threading.Event()
        self._breaks = breaks

    def frames(self) -> Iterator[Captured]:
        number = 0
        while not self.closed.is_set() and number != self.total:
            yield Captured(RawImage.from_rgb(np.zeros((2, 2, 3), np.uint8)), number, str(number))
            number += 1
        if self._breaks:
            raise SourceError("it broke")

    def close(self) -> None:
        self.closed.set()


def queue(policy: Policy = Policy.WAIT) -> BoundedQueue[Captured]:
    return BoundedQueue("source", 2, policy)


async def names(from_queue: BoundedQueue[Captured]) -> list[str]:
    return [item.name async for item in from_queue]


async def test_a_file_loses_nothing() -> None:
    frames = queue()
    reading = asyncio.create_task(names(frames))
    await capture(Numbers(50), frames)
    assert await reading == [str(number) for number in range(50)]


async def test_what_came_before_a_break_is_there() -> None:
    frames = queue()
    reading = asyncio.create_task(names(frames))
    with pytest.raises(SourceError, match="it broke"):
        await capture(Numbers(3, breaks=True), frames)
    assert await reading == ["0", "1", "2"]


async def test_closing_the_queue_ends_the_thread() -> None:
    frames, source = queue(), Numbers(None)
    running = asyncio.create_task(capture(source, frames))
    await frames.get()
    await frames.close()
    await asyncio.wait({running}, timeout=60)
    assert running.done() and running.exception() is None


async def test_a_cancelled_capture_waits_for_its_thread() -> None:
    frames, source = queue(), Numbers(None)
    running = asyncio.create_task(capture(source, frames))
    await frames.get()
    source.close()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    threads = [thread for thread in threading.enumerate() if thread.name == "source"]
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


async def test_a_live_source_is_thinned_and_replaces_what_waits() -> None:
    frames = queue(Policy.DROP_OLDEST)
    source = open_source(camera="lavfi:testsrc=size=64x48:rate=50")
    running = asyncio.create_task(capture(source, frames, fps=10))
    while frames.dropped < 3:
        await asyncio.sleep(0.05)
    assert len(frames) == 2
    await frames.close()
    source.close()
    async with asyncio.timeout(60):
        await running


async def test_frames_that_are_not_selected_are_counted_and_not_taken() -> None:
    frames, selection = queue(), Selection(every=4, on_change=True, still_s=1e9)
    reading = asyncio.create_task(names(frames))
    await capture(Numbers(10), frames, selection=selection)
    assert await reading == ["0"], "all look the same"
    assert selection.skipped == {"between each N-th": 7, "nothing new": 2}


async def test_a_slowdown_leaves_live_frames_out_and_only_delays_a_file() -> None:
    slowdown = Slowdown()
    slowdown.factor = 3
    for live, expected in ((True, [2, 5, 8, 11]), (False, list(range(12)))):
        frames = queue()
        reading = asyncio.create_task(names(frames))
        await capture(Numbers(12, live=live), frames, slowdown=slowdown)
        assert await reading == [str(number) for number in expected]
