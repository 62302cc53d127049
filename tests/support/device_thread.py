"""A thread that one engine lives on."""

import asyncio
import logging
import threading
from collections.abc import Callable, Generator
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from cloud_node.device_child import pin

T = TypeVar("T")

log = logging.getLogger(__name__)


class Call(Generic[T]):
    """One call of a device's thread; await it for its answer, or what it raised.

    Nobody hears of the answer of an await that was cancelled.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work: Callable[[], T] | None = work
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[T] = self._loop.create_future()
        self._claim = threading.Lock()  # of who comes first, `revoke` or the thread

    def __await__(self) -> Generator[Any, None, T]:
        return self._answer.__await__()

    def revoke(self) -> bool:
        """True if it did not begin; it never will."""
        revoked = self._claim.acquire(blocking=False)
        if revoked:
            self._work = None  # and what it holds
        return revoked

    def run(self) -> None:
        """On the thread."""
        work, self._work = self._work, None
        if work is None or not self._claim.acquire(blocking=False):
            return
        answer: T | None = None
        error: BaseException | None = None
        try:
            answer = work()
        except BaseException as raised:
            error = raised

        def deliver() -> None:
            if self._answer.done():
                return
            if error is not None:
                self._answer.set_exception(error)
            else:
                self._answer.set_result(answer)  # type: ignore[arg-type]  # None only where T allows it

        try:
            self._loop.call_soon_threadsafe(deliver)
        except RuntimeError:  # the loop is over
            log.info("the answer of %s came too late", threading.current_thread().name)


class DeviceThread:
    """Makes one call after another on a thread of its own, which can be left behind.

    The threads of a pool could not: the interpreter waits for them at its end, and a call that hangs in a driver
    never returns.

    Args:
        name: of the thread.
        cpus: the processors that it, and the threads that its calls start, may run on; None = all.
    """

    def __init__(self, name: str, cpus: frozenset[int] | None = None) -> None:
        self._calls: SimpleQueue[Call[Any] | None] = SimpleQueue()
        self._halted = False
        self._thread = threading.Thread(target=self._run, args=(name, cpus), name=name, daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], T]) -> Call[T]:
        """Have `work` called after what was asked for before; the answer comes to the running loop."""
        call = Call(work)
        self._calls.put(call)
        return call

    def halt(self) -> None:
        """Begin no other call; those that wait can be revoked. To be called by one that runs."""
        self._halted = True

    def leave(self) -> None:
        """No more calls: the thread ends after those that it has, should they ever return."""
        self._calls.put(None)

    async def ended(self, timeout_s: float) -> bool:
        """Whether the thread has ended within `timeout_s`; call `leave` before."""
        await asyncio.to_thread(self._thread.join, timeout_s)
        return not self._thread.is_alive()

    def _run(self, name: str, cpus: frozenset[int] | None) -> None:
        if cpus is not None:
            pin(name, cpus)
        while (call := self._calls.get()) is not None and not self._halted:
            call.run()
            del call  # and what it holds
