"""The one thread that may touch a device."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)


class DeviceThread:
    """Makes one call after another on a thread of its own, which can be left behind.

    The threads of a pool could not: the interpreter waits for them at its end, and a call that hangs in a driver
    never returns.

    Args:
        name: of the thread.
        cpus: the processors that it, and the threads that its calls start, may run on; None = all.
    """

    def __init__(self, name: str, cpus: frozenset[int] | None = None) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(name, cpus), name=name, daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Have `work` called; its answer, or what it raised, comes to the running loop.

        Nobody hears of the answer of a future that was cancelled.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._calls.put(lambda: _answer(work, future, loop))
        return future

    def leave(self) -> None:
        """No more calls: the thread ends after those that it has, should they ever return."""
        self._calls.put(None)

    async def ended(self, timeout_s: float) -> bool:
        """Whether the thread has ended within `timeout_s`; call `leave` before."""
        await asyncio.to_thread(self._thread.join, timeout_s)
        return not self._thread.is_alive()

    def _run(self, name: str, cpus: frozenset[int] | None) -> None:
        if cpus is not None:
            _pin(name, cpus)
        while (call := self._calls.get()) is not None:
            call()
            del call  # and what it holds


def _answer(work: Callable[[], T], future: "asyncio.Future[T]", loop: asyncio.AbstractEventLoop) -> None:
    answer: T | None = None
    error: BaseException | None = None
    try:
        answer = work()
    except BaseException as raised:
        error = raised

    def deliver() -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(answer)  # type: ignore[arg-type]  # None only where T allows it

    try:
        loop.call_soon_threadsafe(deliver)
    except RuntimeError:  # the loop is over
        log.info("the answer of %s came too late", threading.current_thread().name)


def _pin(name: str, cpus: frozenset[int]) -> None:
    try:
        os.sched_setaffinity(0, cpus)  # 0 is this thread
    except (AttributeError, OSError) as error:  # not on this platform, or no such processor
        log.warning("%s is not kept to processors %s: %s", name, ",".join(map(str, sorted(cpus))), error)
