"""Results to NATS: essential first, in parts, kept and tried again while NATS is away."""

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush

from common.backoff import Backoff
from common.broker import Broker
from common.errors import BrokerUnavailable, LamplightError
from common.frame import Priority, Result
from common.packing import PackedImage
from common.subjects import HEADER_FRAME, Message
from common.tasks import run_all
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
    submitted_unix_ns: int
    submitted_ns: int
    cut: bool = False
    unsent: list[tuple[int, Message]] = field(default_factory=list)  # a heap: the first part next
    unacknowledged: int = 0

    @property
    def priority(self) -> Priority:
        return self.result.priority


class Publisher:
    """Publishes results through a bounded spool, the most urgent first, first come first served within a priority.

    Parts of large results are sent one by one, so that an essential result overtakes between two parts. While
    NATS is away results stay in the spool. When it is full the oldest of the least urgent results go, never one
    more urgent than the result that comes in; edges send frames again whose results do not come.

    Args:
        broker: connected; its streams ensured.
        spool_bytes: bound on the images of results that wait or are on their way.
        in_flight: parts that may wait for JetStream's acknowledgement at once.
        on_published: called with a result once JetStream has all of it, the unix time in ns when it was submitted,
            and the ns since then.
        on_dropped: called with a result that was given up, and the reason (a key of `dropped`).
    """

    def __init__(
        self,
        broker: Broker,
        *,
        spool_bytes: int = SPOOL_BYTES,
        in_flight: int = IN_FLIGHT,
        on_published: Callable[[Result, int, int], None] | None = None,
        on_dropped: Callable[[Result, str], None] | None = None,
    ) -> None:
        self.spool_bytes = spool_bytes
        self.published = 0
        self.published_bytes = 0
        self.dropped: Counter[str] = Counter()
        self._broker, self._in_flight = broker, in_flight
        self._on_published, self._on_dropped = on_published, on_dropped
        self._held: dict[Priority, OrderedDict[int, _Outgoing]] = {  # oldest first
            priority: OrderedDict() for priority in Priority
        }
        self._held_bytes = 0
        self._more = asyncio.Event()
        self._order = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def pending(self) -> int:
        """Results that JetStream does not have yet."""
        return sum(map(len, self._held.values()))

    @property
    def pending_bytes(self) -> int:
        """Their images."""
        return self._held_bytes

    def waiting(self, priority: Priority) -> int:
        """Of these, results of one priority."""
        return len(self._held[priority])

    def oldest_s(self) -> float:
        """How long the oldest has waited; 0 = none waits."""
        # Lists, since the thread that pushes metrics asks too, while the event loop's takes results out.
        firsts = [first.submitted_ns for held in self._held.values() for first in list(held.values())[:1]]
        return (time.perf_counter_ns() - min(firsts)) / 1e9 if firsts else 0.0

    def submit(self, result: Result) -> None:
        """Take a result; returns at once. Call it from the event loop's thread."""
        self._order += 1
        item = _Outgoing(result, self._order, _size(result), time.time_ns(), time.perf_counter_ns())
        if not self._make_room(item):
            self._count_drop(result, "spool full")
            return
        self._held[item.priority][item.order] = item
        self._held_bytes += item.size
        self._empty.clear()
        self._more.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        await run_all((self._work() for _ in range(self._in_flight)), "publisher")

    async def drain(self, timeout_s: float) -> int:
        """Wait until all is published, `timeout_s` at most; returns how many results are left."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            log.warning("%d results were not published within %.0f s", self.pending, timeout_s)
        return self.pending

    async def _work(self) -> None:
        backoff = Backoff(FIRST_DELAY_S, LONGEST_DELAY_S)
        while True:
            await self._broker.wait_connected()
            item = self._next()
            if item is None:
                self._more.clear()
                await self._more.wait()
                continue
            try:
                await self._send_next_part(item)
                backoff.reset()
            except BrokerUnavailable as error:
                if self._broker.connected and not backoff.tries:
                    log.warning("%s; trying again", error)
                await asyncio.sleep(backoff.next_s())
            except LamplightError as error:
                self._drop(item, "refused")
                log.error("result %s is given up: %s", item.result.id, error)
            except Exception:
                self._drop(item, "error")
                log.exception("result %s is given up", item.result.id)
            item = None  # it may be dropped while this waits

    def _next(self) -> _Outgoing | None:
        """The most urgent, then oldest result of which something is to be sent. Few before it wait for answers only."""
        for priority in Priority:
            for item in self._held[priority].values():
                if item.unsent or not item.cut:
                    return item
        return None

    async def _send_next_part(self, item: _Outgoing) -> None:
        if not item.cut:
            self._cut(item)
        index, message = heappop(item.unsent)
        try:
            await self._broker.send(message)
        except BaseException:
            heappush(item.unsent, (index, message))
            self._more.set()
            raise
        item.unacknowledged -= 1
        self.published_bytes += len(message.body)
        if not item.unacknowledged:
            self._release(item)
            self.published += 1
            if self._on_published is not None:
                spent_ns = time.perf_counter_ns() - item.submitted_ns
                self._on_published(item.result, item.submitted_unix_ns, spent_ns)

    def _cut(self, item: _Outgoing) -> None:
        result = item.result
        spent_ns = time.perf_counter_ns() - item.submitted_ns
        timed = replace(result, stages_ns={**result.stages_ns, "publisher": spent_ns})
        headers = {HEADER_FRAME: str(result.id)}
        headers |= {name: result.trace[name] for name in ("traceparent", "tracestate") if result.trace.get(name)}
        body = result_to_proto(timed).SerializeToString()
        parts = self._broker.split(result.id.edge, result.priority, body, f"{result.id}/{result.attempt}", headers)
        item.unsent, item.unacknowledged, item.cut = list(enumerate(parts)), len(parts), True

    def _make_room(self, item: _Outgoing) -> bool:
        """Drop less urgent, then older results until `item` fits."""
        free = self.spool_bytes - self._held_bytes
        if free >= item.size:
            return True
        victims: list[_Outgoing] = []
        for old in self._evictable(item.priority):
            victims.append(old)
            free += old.size
            if free >= item.size:
                for victim in victims:
                    self._drop(victim, "spool full")
                return True
        return False

    def _evictable(self, above: Priority) -> Iterator[_Outgoing]:
        """What is no more urgent than `above` and not on its way, in the order to go."""
        for priority in sorted(Priority, reverse=True):
            if priority >= above:
                yield from (item for item in self._held[priority].values() if not item.cut)

    def _drop(self, item: _Outgoing, reason: str) -> None:
        if self._release(item):
            self._count_drop(item.result, reason)

    def _count_drop(self, result: Result, reason: str) -> None:
        self.dropped[reason] += 1
        count = self.dropped[reason]
        if count & (count - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...
            log.warning("result %s dropped: %s (%d so far)", result.id, reason, count)
        if self._on_dropped is not None:
            self._on_dropped(result, reason)

    def _release(self, item: _Outgoing) -> bool:
        """Let go of a result, and of its image; False when that was done before."""
        if self._held[item.priority].pop(item.order, None) is None:
            return False
        self._held_bytes -= item.size
        if not self.pending:
            self._empty.set()
        return True


def _size(result: Result) -> int:
    image = result.image
    payload = image.payload if isinstance(image, PackedImage) else image.data if image is not None else b""
    return len(payload) + 1024
