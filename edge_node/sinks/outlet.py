"""What goes to another machine: a bounded queue, and a thread of its own that delivers it, however long that takes."""

import asyncio
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from common.backoff import Backoff

log = logging.getLogger(__name__)

QUEUE: Final = 1000  # messages
FIRST_DELAY_S: Final = 0.5
LONGEST_DELAY_S: Final = 30.0
LONGEST_ASKED_S: Final = 300.0  # the longest Retry-After that is heeded
FLUSH_S: Final = 3.0  # for what waits when the node ends
CLOSE_S: Final = 1.0  # then, for an orderly goodbye


@dataclass(frozen=True, slots=True)
class Message:
    """What is delivered, once or more often, under one id."""

    id: str
    body: bytes  # JSON, one line
    kind: str = "reading"  # or "ended", "alert"
    made_s: float = field(default_factory=time.monotonic)


class NotDelivered(Exception):
    """Not now; it is tried again, after `after_s` where the other side says when."""

    def __init__(self, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.after_s = after_s


class Refused(Exception):
    """The other side will not take this message, ever."""


class Carrier(Protocol):
    """A way to another machine. All of it runs in the event loop of its outlet."""

    where: str  # as it may be logged

    async def open(self) -> None:
        """Begin to connect; returns at once."""
        ...

    async def send(self, message: Message) -> None:
        """Deliver, within seconds. Raises NotDelivered or Refused."""
        ...

    async def close(self) -> None:
        """Say goodbye; may be called without `open`."""
        ...

    async def probe(self) -> str:
        """Look whether it can be reached, without `open` and without delivering anything.

        Returns: what was seen, in words. Raises NotDelivered.
        """
        ...


class Outlet:
    """Delivers messages in the background. `put` never waits: when the queue is full, the oldest message goes.

    Args:
        what: what is delivered, for the log: "readings", "alerts".
        max_age_s: what could not be delivered for so long is given up.
        workers: messages on their way at once.
        in_turn: a message that failed waits behind the others; else the order is kept.
        on_delivered: called with the id of each message that arrived, from this outlet's thread.

    `counts` has, by reason: delivered, dropped (the queue was full), refused, given up, left (at the end).
    """

    def __init__(
        self,
        what: str,
        carrier: Carrier,
        *,
        limit: int = QUEUE,
        max_age_s: float = 900.0,
        workers: int = 1,
        in_turn: bool = False,
        on_delivered: Callable[[str], None] | None = None,
        first_delay_s: float = FIRST_DELAY_S,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.name = f"{what} to {carrier.where}"
        self._carrier, self._limit, self._max_age_s, self._workers = carrier, limit, max_age_s, workers
        self._in_turn, self._on_delivered = in_turn, on_delivered
        self._backoff = Backoff(first_delay_s, LONGEST_DELAY_S)
        self._queue: deque[Message] = deque()
        self._on_way = 0
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed, self._ending = asyncio.Event(), asyncio.Event()
        self._finishing = False
        self._trouble = ""
        self._flush_s = FLUSH_S
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def put(self, message: Message) -> None:
        """Take a message; from any thread."""
        with self._lock:
            if self._finishing:
                self.counts["left"] += 1
                return
            self._add(message, last=True)
        self._call(self._changed.set)

    def finish(self, flush_s: float = FLUSH_S) -> None:
        """Let nothing more in and deliver what waits, for `flush_s` at most; `join` waits for it."""
        with self._lock:
            self._finishing, self._flush_s = True, flush_s
        self._call(self._ending.set)
        self._call(self._changed.set)

    def join(self) -> None:
        """Wait for the end after `finish`; what is left then is counted and said."""
        self._thread.join(self._flush_s + 2 * CLOSE_S)
        with self._lock:
            if left := len(self._queue) + self._on_way:
                self.counts["left"] += left
            self._queue.clear()
            self._on_way = 0
        lost = {reason: count for reason, count in self.counts.items() if count and reason != "delivered"}
        if lost:
            words = ", ".join(f"{count} {reason}" for reason, count in lost.items())
            log.warning("%s: %d delivered, %s", self.name, self.counts["delivered"], words)

    def _call(self, function: Callable[[], object]) -> None:
        with self._lock:
            loop = self._loop
            if loop is not None:  # else it looks by itself when it begins
                loop.call_soon_threadsafe(function)

    def _add(self, message: Message, last: bool) -> None:
        if last:
            self._queue.append(message)
        else:
            self._queue.appendleft(message)
        if len(self._queue) > self._limit:
            self._queue.popleft()
            self.counts["dropped"] += 1
            if self.counts["dropped"] == 1:
                log.warning("%s: more than %d wait, the oldest are dropped", self.name, self._limit)

    # --- in its thread ---

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except Exception:
            log.exception("%s: ended", self.name)

    async def _live(self) -> None:
        with self._lock:
            self._loop = asyncio.get_running_loop()
            if self._finishing:
                self._ending.set()
        try:
            await self._carrier.open()
            workers = [asyncio.create_task(self._work()) for _ in range(self._workers)]
            await self._ending.wait()
            _, late = await asyncio.wait(workers, timeout=self._flush_s)
            for worker in late:
                worker.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        finally:
            with self._lock:
                self._loop = None
            try:
                async with asyncio.timeout(CLOSE_S):
                    await self._carrier.close()
            except Exception as error:
                log.debug("%s: closing: %r", self.name, error)

    async def _work(self) -> None:
        while True:
            self._changed.clear()
            with self._lock:
                message = self._queue.popleft() if self._queue else None
                self._on_way += message is not None
            if message is None:
                if self._ending.is_set():
                    return
                await self._changed.wait()
            elif not await self._deliver(message) and self._ending.is_set():
                return

    async def _deliver(self, message: Message) -> bool:
        """Whether the message is done with."""
        try:
            await self._carrier.send(message)
        except NotDelivered as error:
            return await self._keep(message, error)
        except Refused as error:
            self._done("refused")
            self._say(f"refused: {error}")
        except Exception as error:  # of a library: it must not stop what comes after
            self._done("refused")
            log.exception("%s: %s", self.name, error)
        else:
            self._done("delivered")
            self._backoff.reset()
            if self._trouble:
                log.warning("%s: works again", self.name)
                self._trouble = ""
            if self._on_delivered is not None:
                self._on_delivered(message.id)
        return True

    async def _keep(self, message: Message, error: NotDelivered) -> bool:
        self._say(f"{error}; trying again")
        if time.monotonic() - message.made_s > self._max_age_s:
            self._done("given up")
            return True
        with self._lock:
            self._on_way -= 1
            self._add(message, last=self._in_turn)
        try:
            async with asyncio.timeout(self._backoff.next_s(least_s=min(error.after_s, LONGEST_ASKED_S))):
                await self._ending.wait()
        except TimeoutError:
            pass
        return False

    def _done(self, reason: str) -> None:
        with self._lock:
            self._on_way -= 1
            self.counts[reason] += 1

    def _say(self, trouble: str) -> None:
        """One line for each kind of trouble, not one for each message."""
        if trouble != self._trouble:
            self._trouble = trouble
            log.warning("%s: %s", self.name, trouble)


def close_all(outlets: Iterable[Outlet], flush_s: float = FLUSH_S) -> None:
    """End outlets side by side."""
    ending = list(outlets)
    for outlet in ending:
        outlet.finish(flush_s)
    for outlet in ending:
        outlet.join()
