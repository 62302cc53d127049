"""Frames from a source, which blocks, into a queue of the event loop."""

import asyncio
import contextlib
import threading
import time

from common.flow import BoundedQueue, QueueClosed
from edge_node.care import Slowdown
from edge_node.selection import Selection
from edge_node.sources import Captured, Source

THREAD_END_S = 2.0  # for a source that is closed to end its read


async def capture(
    source: Source,
    queue: BoundedQueue[Captured],
    fps: float = 0.0,
    selection: Selection | None = None,
    slowdown: Slowdown | None = None,
) -> None:
    """Read a source in a thread of its own until it ends, then close the queue.

    Args:
        fps: at most so many frames a second; 0 = as they come. A live source skips frames, a file is held back.
        selection: which frames are taken at all; None = every one.
        slowdown: how many of those frames to leave out, for now.

    Raises:
        SourceError: the source broke.
    """
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[None] = loop.create_future()

    def finish(error: Exception | None) -> None:
        if finished.done():
            return
        if error is None:
            finished.set_result(None)
        else:
            finished.set_exception(error)

    def run() -> None:
        error: Exception | None = None
        try:
            _pump(source, queue, loop, fps, selection or Selection(), slowdown or Slowdown())
        except (QueueClosed, asyncio.CancelledError):
            pass
        except Exception as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is gone
            loop.call_soon_threadsafe(finish, error)

    threading.Thread(target=run, name="source", daemon=True).start()
    try:
        await asyncio.shield(finished)
    finally:
        await queue.close()
        # The thread may be about to put a frame: let it see that the queue is closed while this loop still runs.
        await asyncio.wait({finished}, timeout=THREAD_END_S)
        if finished.done():
            finished.exception()


def _pump(
    source: Source,
    queue: BoundedQueue[Captured],
    loop: asyncio.AbstractEventLoop,
    fps: float,
    selection: Selection,
    slowdown: Slowdown,
) -> None:
    due, passes = time.monotonic(), slowdown.pass_for(source.live)
    for captured in source.frames():
        if not selection.is_due():
            continue
        if fps:
            wait_s = due - time.monotonic()
            if wait_s > 0 and source.live:
                source.status.thinned += 1
                continue  # a newer one will be there when it is due
            if wait_s > 0:
                time.sleep(wait_s)
            due = max(due + 1 / fps, time.monotonic())
        if not passes() or not selection.is_new(captured.image):
            continue
        putting = queue.put(captured)
        try:
            future = asyncio.run_coroutine_threadsafe(putting, loop)
        except RuntimeError:  # the loop is gone
            putting.close()
            return
        future.result()
