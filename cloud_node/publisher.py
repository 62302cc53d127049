"""Results to NATS: essential first, in parts, kept and tried again while NATS is away."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from common.broker import Broker
from common.errors import BrokerUnavailable, LamplightError
from common.frame import Priority, Result
from common.nats_connection import end_tasks
from common.packing import PackedImage
from common.subjects import HEADER_FRAME, Message
from common.wire import result_to_proto

log = logging.getLogger(__name__)

SPOOL_BYTES = 256 * 1024 * 1024
IN_FLIGHT = 4
FIRST_DELAY_S = 0.05
LONGEST_DELAY_S = 2.0


@dataclass(slots=True, eq=False)
class _Outgoing:
    """A result on its way: spooled, then cut into parts, then acknowledged part by part."""

    result: Result
    order: int
    size: int
    submitted_ns: int
    parts: list[Message] = field(default_factory=list)
    unacknowledged: int = 0
    gone: bool = False  # dropped while some of it was queued

    @property
    def priority(self) -> Priority:
        return self.result.priority


class Publisher:
    """Publishes results through a bounded spool, the most urgent first, first come first served within a priority.

    Parts of large results are queued one by one, so that an essential result overtakes between two parts. While
    NATS is away results stay in the spool. When it is full the oldest of the least urgent results go, never one
    more urgent than the result that comes in; edges send frames again whose results do not come.

    Args:
        broker: connected; its streams ensured.
        spool_bytes: bound on the images of results that wait or are on their way.
        in_flight: parts that may wait for JetStream's acknowledgement at once.
        on_published: called with a result once JetStream has all of it.
        on_dropped: called with a result that was given up, and the reason (a key of `dropped`).
    """

    def __init__(
        self,
        broker: Broker,
        *,
        spool_bytes: int = SPOOL_BYTES,
        in_flight: int = IN_FLIGHT,
        on_published: Callable[[Result], None] | None = None,
        on_dropped: Callable[[Result, str], None] | None = None,
    ) -> None:
        self.spool_bytes = spool_bytes
        self.published = 0
        self.dropped: Counter[str] = Counter()
        self._broker, self._in_flight = broker, in_flight
        self._on_published, self._on_dropped = on_published, on_dropped
        self._queue: asyncio.PriorityQueue[tuple[Priority, int, int, _Outgoing]] = asyncio.PriorityQueue()
        self._waiting: dict[Priority, dict[int, _Outgoing]] = {priority: {} for priority in Priority}
        self._held: set[_Outgoing] = set()
        self._held_bytes = 0
        self._order = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def pending(self) -> int:
        """Results that JetStream does not have yet."""
        return len(self._held)

    @property
    def pending_bytes(self) -> int:
        return self._held_bytes

    def submit(self, result: Result) -> None:
        """Take a result; returns at once. Call it from the event loop's thread."""
        self._order += 1
        item = _Outgoing(result, self._order, _size(result), time.perf_counter_ns())
        if not self._make_room(item):
            self._count_drop(result, "spool full")
            return
        self._held.add(item)
        self._held_bytes += item.size
        self._empty.clear()
        self._waiting[item.priority][item.order] = item
        self._queue.put_nowait((item.priority, item.order, -1, item))  # -1: not cut into parts yet

    async def run(self) -> None:
        """Publish until cancelled."""
        workers = [asyncio.create_task(self._work(), name="publisher") for _ in range(self._in_flight)]
        try:
            await asyncio.gather(*workers)
        finally:
            await end_tasks(workers)

    async def drain(self, timeout_s: float) -> int:
        """Wait until all is published, `timeout_s` at most; returns how many results are left."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            log.warning("%d results were not published within %.0f s", self.pending, timeout_s)
        return self.pending

    async def _work(self) -> None:
        delay_s = FIRST_DELAY_S
        while True:
            await self._broker.wait_connected()
            entry = await self._queue.get()
            priority, order, index, item = entry
            if item.gone:
                continue
            try:
                if index < 0:
                    self._cut(item)
                    for number in range(len(item.parts)):
                        self._queue.put_nowait((priority, order, number, item))
                    continue
                await self._broker.send(item.parts[index])
                self._acknowledged(item)
                delay_s = FIRST_DELAY_S
            except BrokerUnavailable as error:
                self._queue.put_nowait(entry)
                if self._broker.connected and delay_s == FIRST_DELAY_S:
                    log.warning("%s; trying again", error)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, LONGEST_DELAY_S)
            except LamplightError as error:
                self._drop(item, "refused")
                log.error("result %s is given up: %s", item.result.id, error)
            except Exception:
                self._drop(item, "error")
                log.exception("result %s is given up", item.result.id)

    def _cut(self, item: _Outgoing) -> None:
        result = item.result
        spent_ns = time.perf_counter_ns() - item.submitted_ns
        timed = replace(result, stages_ns={**result.stages_ns, "publisher": spent_ns})
        headers = {HEADER_FRAME: str(result.id)}
        headers |= {name: result.trace[name] for name in ("traceparent", "tracestate") if result.trace.get(name)}
        body = result_to_proto(timed).SerializeToString()
        item.parts = self._broker.split(result.id.edge, result.priority, body, f"{result.id}/{result.attempt}", headers)
        item.unacknowledged = len(item.parts)
        self._waiting[item.priority].pop(item.order, None)

    def _acknowledged(self, item: _Outgoing) -> None:
        item.unacknowledged -= 1
        if item.unacknowledged or item.gone:
            return
        self._release(item)
        self.published += 1
        if self._on_published is not None:
            self._on_published(item.result)

    def _make_room(self, item: _Outgoing) -> bool:
        """Drop less urgent, then older results until `item` fits."""
        free = self.spool_bytes - self._held_bytes
        if free >= item.size:
            return True
        evictable = [
            old
            for priority in sorted(Priority, reverse=True)
            if priority >= item.priority
            for old in self._waiting[priority].values()
        ]
        if free + sum(old.size for old in evictable) < item.size:
            return False
        for old in evictable:
            if free >= item.size:
                break
            free += old.size
            self._drop(old, "spool full")
        return True

    def _drop(self, item: _Outgoing, reason: str) -> None:
        if item.gone:
            return
        item.gone = True
        self._release(item)
        self._count_drop(item.result, reason)

    def _count_drop(self, result: Result, reason: str) -> None:
        self.dropped[reason] += 1
        count = self.dropped[reason]
        if count & (count - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...
            log.warning("result %s dropped: %s (%d so far)", result.id, reason, count)
        if self._on_dropped is not None:
            self._on_dropped(result, reason)

    def _release(self, item: _Outgoing) -> None:
        self._waiting[item.priority].pop(item.order, None)
        if item in self._held:
            self._held.remove(item)
            self._held_bytes -= item.size
        if not self._held:
            self._empty.set()


def _size(result: Result) -> int:
    image = result.image
    payload = image.payload if isinstance(image, PackedImage) else image.data if image is not None else b""
    return len(payload) + 1024
