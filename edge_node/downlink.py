"""Results from NATS: essential first, whole, and acknowledged once they were handed over."""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import nats.errors
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg

from common.backoff import Backoff
from common.errors import BrokerUnavailable, CorruptImage, ImageError
from common.frame import Priority, Result
from common.identity import EDGE_API, Identity
from common.nats_connection import Connection
from common.subjects import ACK_WAIT_S, Consumer
from common.tasks import end_tasks
from common.wire import priority_from_proto, result_from_proto
from edge_node.assembly import Assembler, Assembly, part_of
from edge_node.pull import JS_API, ConsumerMissing, Pull
from lamplight.v1 import result_pb2

log = logging.getLogger(__name__)

# Messages asked for ahead: more keep a long link busy, fewer let an essential one pass sooner.
WINDOW = {Priority.ESSENTIAL: 8, Priority.STANDARD: 2, Priority.SECONDARY: 1}
READY = 4  # whole results of one priority that wait for the reader
YIELD_S = 0.5  # longest wait of a part for more urgent ones, so that nothing starves
ASK_AGAIN_S = 2.0
STALE_S = 60.0
ASSEMBLY_BYTES = 256 * 1024 * 1024
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
REMEMBERED = 4096
MOST_CONSUMERS = 16  # a cloud node names one for each priority
CONSUMER_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")  # part of a subject, and so of a line to the server

OnResult = Callable[[Result, int], Awaitable[None]]


@dataclass(slots=True, eq=False)
class _Ready:
    result: Result
    size: int
    priority: Priority
    messages: list[Msg]


class Downlink:
    """Fetches an edge's results and hands them over, one at a time, the most urgent first.

    NATS may be away at the start or later: it keeps trying and never ends by itself. A result is acknowledged
    after it was handed over, so one whose reader died comes again; while it waits here NATS is told so.

    Args:
        servers: NATS URLs; one string may name several, with commas.
        consumers: (priority, stream, consumer) as the cloud node gave them.
        edge: this edge's name.
        session: this session; results of others are acknowledged and dropped.
        former: sessions before this one, whose results are handed over too.
        on_missing: called when consumers are gone, to have the cloud node make them again; at most every 2 s.
        on_state: called with True when connected and False when lost.
        stale_s: a result that gets no part for so long is given up.
        assembly_bytes: bound on incomplete results.
        identity: of an enrolled edge: its login, and TLS.

    Counters: `received` results handed over, `errors` broken ones, `foreign` ones of other sessions, `duplicates`
    messages that came again, `incomplete` results given up because parts did not come.
    """

    def __init__(
        self,
        servers: str | Sequence[str],
        consumers: Iterable[tuple[int, str, str]],
        *,
        edge: str,
        session: str,
        former: Iterable[str] = (),
        on_missing: Callable[[], Awaitable[None]] | None = None,
        on_state: Callable[[bool], None] | None = None,
        stale_s: float = STALE_S,
        assembly_bytes: int = ASSEMBLY_BYTES,
        identity: Identity | None = None,
    ) -> None:
        self.received = self.errors = self.foreign = self.duplicates = self.incomplete = 0
        login = None if identity is None else partial(identity.login, edge)
        self._connection = Connection(servers, name=f"edge {edge}", on_state=self._state_changed, login=login)
        self._api = JS_API if identity is None else EDGE_API
        self._consumers = _sound(consumers)
        self._edge, self._sessions = edge, {session, *former}
        self._on_missing, self._on_state, self._stale_s = on_missing, on_state, stale_s
        self._pulls: set[Pull] = set()
        self._asking, self._asked_s = asyncio.Lock(), float("-inf")
        self._assembler: Assembler[Msg] = Assembler(assembly_bytes)
        self._ready: dict[str, _Ready] = {}
        self._queue: asyncio.PriorityQueue[tuple[Priority, int, str]] = asyncio.PriorityQueue()
        self._slots = {priority: asyncio.Semaphore(READY) for priority in Priority}
        self._idle = {priority: asyncio.Event() for priority in Priority}
        self._done: dict[str, None] = {}
        self.pending: dict[Priority, int] = {consumer.priority: 0 for consumer in self._consumers}  # at NATS
        self.published_unix_ns = 0  # when NATS had the result that is handed over, by its clock
        self._order = 0
        self._connected_anew = asyncio.Event()  # of the next time
        self._life: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self._connection.connected

    async def run(self, on_result: OnResult) -> None:
        """Await `on_result(result, bytes)` for each result, until `close` or cancelled.

        Args:
            on_result: gets the result and its size on the wire; when it returns the result is acknowledged.

        Raises:
            what `on_result` raises; that result is not acknowledged.
        """
        self._life = asyncio.create_task(self._live(on_result), name="downlink")
        with contextlib.suppress(asyncio.CancelledError):
            await self._life
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise asyncio.CancelledError

    async def check(self) -> None:
        """The link was away and is back: find out now whether the connection to NATS is still one."""
        await self._connection.check()

    async def close(self) -> None:
        """End `run`. Safe to call twice."""
        if self._life is not None:
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)

    async def _live(self, on_result: OnResult) -> None:
        self._connection.start()
        tasks = [asyncio.create_task(self._pull_forever(consumer)) for consumer in self._consumers]
        tasks += [asyncio.create_task(self._hand_over(on_result)), asyncio.create_task(self._care())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            try:
                await end_tasks(tasks)
            finally:
                await self._connection.close()

    def _state_changed(self, connected: bool) -> None:
        if not connected:
            for pull in self._pulls:
                pull.end()
        else:
            self._connected_anew.set()
            self._connected_anew = asyncio.Event()
        if self._on_state is not None:
            self._on_state(connected)

    # --- one consumer ---

    async def _pull_forever(self, consumer: Consumer) -> None:
        backoff, missed = Backoff(FIRST_DELAY_S, LONGEST_DELAY_S), 0

        def note_progress() -> None:
            nonlocal missed
            missed = 0
            backoff.reset()

        while True:
            client = await self._connection.wait()
            anew = self._connected_anew
            try:
                await self._pull(client, consumer, note_progress)
            except ConsumerMissing as error:
                missed += 1
                log.log(logging.WARNING if missed == 2 else logging.DEBUG, "%s; waiting for the cloud node", error)
                if missed > 1:  # the cloud node makes them again by itself, most times
                    await self._ask_for_consumers()
            except (nats.errors.Error, BrokerUnavailable, OSError, TimeoutError) as error:
                log.debug("consumer %s: %r", consumer.name, error)
            finally:
                self._idle[consumer.priority].set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(backoff.next_s()):
                    await anew.wait()
                    backoff.reset()  # what went wrong before was of another connection

    async def _pull(self, client: Client, consumer: Consumer, note_progress: Callable[[], None]) -> None:
        priority = consumer.priority
        pull = Pull(client, consumer, WINDOW[priority], self._api)
        self._pulls.add(pull)
        try:
            self._note_pending(priority, await pull.check())
            note_progress()
            while True:
                await self._let_pass(priority)
                await pull.ask()
                message = await pull.next()
                self._note_pending(priority, message.metadata.num_pending if message else 0)
                if message is not None:
                    await self._take(message, priority)
        finally:
            self._pulls.discard(pull)
            await pull.close()

    def _note_pending(self, priority: Priority, pending: int) -> None:
        self.pending[priority] = pending
        if pending:
            self._idle[priority].clear()
        else:
            self._idle[priority].set()

    async def _let_pass(self, priority: Priority) -> None:
        """Wait while more urgent results are coming, but never for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(YIELD_S):
                for other in (consumer.priority for consumer in self._consumers):
                    if other < priority:
                        await self._idle[other].wait()

    async def _ask_for_consumers(self) -> None:
        async with self._asking:
            if self._on_missing is None or time.monotonic() - self._asked_s < ASK_AGAIN_S:
                return
            try:
                await self._on_missing()
            except Exception:
                log.exception("asking the cloud node for consumers failed")
            self._asked_s = time.monotonic()

    # --- one message ---

    async def _take(self, message: Msg, priority: Priority) -> None:
        try:
            part = part_of(message.headers or {}, message.data)
        except CorruptImage as error:
            return await self._refuse([message], error)
        if part.edge != self._edge or part.session not in self._sessions:
            self.foreign += 1
            if part.edge != self._edge:
                log.error("a result of edge %s came here: the NATS server's permissions are wrong", part.edge)
            return await _acknowledge([message])
        if part.key in self._done:
            self.duplicates += 1
            return await _acknowledge([message])
        if part.key in self._ready:
            self.duplicates += 1
            self._ready[part.key].messages.append(message)
            return
        whole, forgotten = self._assembler.add(part, message, priority, time.monotonic())
        await self._forget(forgotten, "too many incomplete results are held")
        if whole is None:
            return
        try:
            result, size = _parse(whole)
        except (ImageError, DecodeError) as error:
            return await self._refuse(whole.messages, error)
        await self._put(whole, result, size)

    async def _put(self, whole: Assembly[Msg], result: Result, size: int) -> None:
        self._order += 1
        self._ready[whole.key] = _Ready(result, size, whole.priority, whole.messages)
        self._queue.put_nowait((whole.priority, self._order, whole.key))
        await self._slots[whole.priority].acquire()

    async def _refuse(self, messages: list[Msg], error: Exception) -> None:
        self.errors += 1
        log.error("a result is broken and dropped: %s", error)
        await _acknowledge(messages)

    async def _forget(self, assemblies: list[Assembly[Msg]], reason: str) -> None:
        for assembly in assemblies:
            self.incomplete += 1
            log.warning(
                "result %s is given up with %d of %d parts: %s",
                assembly.key,
                len(assembly.parts),
                assembly.count,
                reason,
            )
            await _acknowledge(assembly.messages)

    # --- hand over ---

    async def _hand_over(self, on_result: OnResult) -> None:
        while True:
            _, _, key = await self._queue.get()
            ready = self._ready[key]
            self.published_unix_ns = int(ready.messages[0].metadata.timestamp.timestamp() * 1e9)
            await on_result(ready.result, ready.size)
            self.received += 1
            del self._ready[key]
            self._done[key] = None
            if len(self._done) > REMEMBERED:
                del self._done[next(iter(self._done))]
            self._slots[ready.priority].release()
            await _acknowledge(ready.messages)

    async def _care(self) -> None:
        """Tell NATS that what is held here is in work; give up what gets no more parts."""
        period_s = min(ACK_WAIT_S, self._stale_s) / 3
        while True:
            await asyncio.sleep(period_s)
            stale = self._assembler.forget_stale(time.monotonic() - self._stale_s)
            await self._forget(stale, f"no part came for {self._stale_s:.0f} s")
            held = [*(item.messages for item in self._assembler), *(item.messages for item in self._ready.values())]
            for messages in held:
                for message in list(messages):
                    with contextlib.suppress(nats.errors.Error, OSError):
                        await message.in_progress()


def _parse(whole: Assembly[Msg]) -> tuple[Result, int]:
    body = whole.body()
    result = result_from_proto(result_pb2.Result.FromString(body))
    if f"{result.id}/{result.attempt}" != whole.key:
        raise CorruptImage(f"a message of {whole.key} holds the result {result.id}/{result.attempt}")
    return result, len(body)


async def _acknowledge(messages: list[Msg]) -> None:
    """Of a connection that is gone: they come again, and are known by then."""
    for message in messages:
        with contextlib.suppress(nats.errors.Error, OSError):
            await message.ack()


def _sound(consumers: Iterable[tuple[int, str, str]]) -> list[Consumer]:
    """What may be asked for of what a cloud node named: each once, and not without end."""
    named = list(islice(dict.fromkeys(consumers), MOST_CONSUMERS + 1))
    sound = [item for item in named if CONSUMER_NAME.fullmatch(item[1]) and CONSUMER_NAME.fullmatch(item[2])]
    if len(sound) < len(named) or len(sound) > MOST_CONSUMERS:
        log.error("the cloud node names consumers that cannot be its own: they are left out")
    return [Consumer(priority_from_proto(number), stream, name) for number, stream, name in sound[:MOST_CONSUMERS]]
