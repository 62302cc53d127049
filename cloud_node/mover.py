"""Copies that must not hold up the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeVar

T = TypeVar("T")

AT_ONCE: Final = 256 * 1024  # bytes that are copied sooner than a thread wakes up


class Mover:
    """Does one thing after another: small ones at once, large ones, and what comes behind these, on a thread.

    To be called from the event loop, which also gets the outcome.
    """

    def __init__(self, name: str) -> None:
        self._name, self._waiting = name, 0
        self._thread: ThreadPoolExecutor | None = None

    def do(self, size: int, work: Callable[[], T], then: Callable[[T | Exception], None]) -> None:
        """Have `work` copy `size` bytes; what it returned or raised is for `then`, which may be called at once."""
        if size <= AT_ONCE and not self._waiting:
            then(_outcome(work))
            return
        loop = asyncio.get_running_loop()
        self._waiting += 1

        def done(outcome: T | Exception) -> None:
            self._waiting -= 1
            then(outcome)

        def deliver(future: "Future[T | Exception]") -> None:
            with suppress(RuntimeError):  # the loop is over
                loop.call_soon_threadsafe(done, future.result())

        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{self._name} copies")
        self._thread.submit(_outcome, work).add_done_callback(deliver)

    def end(self, last: Callable[[], None]) -> None:
        """Call `last` once all is done; nothing may be asked for after it."""
        if self._thread is None:
            last()
            return
        self._thread.submit(last)
        self._thread.shutdown(wait=False)


def _outcome(work: Callable[[], T]) -> T | Exception:
    try:
        return work()
    except Exception as error:
        return error
