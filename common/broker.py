"""The cloud node's side of NATS JetStream: streams, consumers, and publishing in parts."""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import nats.errors
import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, ConsumerInfo

from common.backoff import Backoff
from common.consumers import ensure_consumer, replace_lost
from common.errors import BrokerUnavailable
from common.frame import Priority
from common.nats_connection import Connection, Login
from common.streams import (
    ESSENTIAL_LIMITS,
    OTHER_LIMITS,
    StreamLimits,
    consumer_config,
    ensure_stream,
    stream_config,
)
from common.subjects import (
    ESSENTIAL_STREAM,
    OTHER_STREAM,
    PART_BYTES,
    Consumer,
    Message,
    PublishRefused,
    check_edge,
    consumer_of,
    header_bytes,
    split,
    stream_of,
)
from common.tasks import end_tasks

log = logging.getLogger(__name__)

PUBLISH_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 5.0
REMEMBERED_EDGES = 4096
FETCHED_POLL_S = 0.2
AGREE_POLL_S = 0.5
PASSING = (nats.js.errors.ServiceUnavailableError, nats.errors.TimeoutError)  # as while a cluster elects


class Broker:
    """The cloud node's side of NATS: makes streams and consumers, publishes in parts, and stays connected.

    Memory streams and their consumers are gone after a restart of NATS; what was ensured once is made again on
    every new connection, and when a publish finds no stream: the streams first, then the consumers of the edges
    that were ensured last, the latest first. Others ask again by themselves.

    Args:
        servers: NATS URLs; one string may name several, with commas.
        name: shown in the server's monitoring.
        part_bytes: largest part of a result; a more urgent one waits for no more than that.
        essential: bounds of the stream of essential results, kept on file.
        others: bounds of the stream of all others, kept in memory.
        remembered_edges: edges whose consumers are made again by themselves, at most.
        login: who this node is, and TLS; asked before each connection.
        replicas: servers of a NATS cluster that hold a copy of each stream, 1..5.
    """

    def __init__(
        self,
        servers: str | Sequence[str],
        *,
        name: str = "lamplight",
        part_bytes: int = PART_BYTES,
        essential: StreamLimits = ESSENTIAL_LIMITS,
        others: StreamLimits = OTHER_LIMITS,
        remembered_edges: int = REMEMBERED_EDGES,
        login: Callable[[], Login] | None = None,
        replicas: int = 1,
    ) -> None:
        self._connection = Connection(servers, name=name, on_state=self._state_changed, login=login)
        self._part_bytes = part_bytes
        self._streams = {ESSENTIAL_STREAM: essential, OTHER_STREAM: others}
        self._ensured = False
        self._edges: OrderedDict[str, None] = OrderedDict()  # the latest at the end
        self._remembered_edges, self._replicas = remembered_edges, replicas
        self._making = asyncio.Lock()
        self._restoring: asyncio.Task[None] | None = None
        self._acks: set[asyncio.Future[object]] = set()
        self._js: JetStreamContext | None = None

    @classmethod
    async def connect(cls, url: str | Sequence[str], *, timeout_s: float = 10.0, **options: Any) -> "Broker":
        """Connect, once within `timeout_s`, and stay connected from then on. `options` are those of the class.

        Raises:
            BrokerUnavailable: no server answers in time, or it refuses.
        """
        broker = cls(url, **options)
        await broker._connection.open(timeout_s)
        return broker

    @property
    def connected(self) -> bool:
        return self._connection.connected

    @property
    def address(self) -> str:
        """The servers, without secrets."""
        return self._connection.address

    async def wait_connected(self) -> None:
        """Wait until connected, however long that takes."""
        await self._connection.wait()

    async def close(self) -> None:
        """Safe to call twice."""
        restoring, self._restoring = self._restoring, None
        try:
            await end_tasks([] if restoring is None else [restoring])
        finally:
            await self._connection.close()

    async def ensure_streams(self, timeout_s: float = 0.0) -> None:
        """Make both streams, or bring them to these limits.

        Args:
            timeout_s: for servers of a cluster that do not agree yet.

        Raises:
            BrokerUnavailable: NATS is away, has no JetStream, or refuses (no room for these limits).
        """
        self._ensured = True
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        while True:
            try:
                async with self._making:
                    return await self._ensure_streams()
            except BrokerUnavailable as error:
                passes = isinstance(error.__cause__, PASSING) and "not enabled" not in str(error)
                if not passes or asyncio.get_running_loop().time() >= deadline_s:
                    raise
                log.info("%s; trying again", error)
            await asyncio.sleep(AGREE_POLL_S)

    async def ensure_consumers(self, edge: str) -> list[Consumer]:
        """Make an edge's pull consumers, one for each priority, most urgent first. Does no harm when they exist.

        Raises:
            SettingsError: the edge name is no subject token.
            BrokerUnavailable: NATS is away or refuses.
        """
        check_edge(edge)
        self._edges[edge] = None
        self._edges.move_to_end(edge)
        if len(self._edges) > self._remembered_edges:
            self._edges.popitem(last=False)
        async with self._making:
            try:
                return await self._ensure_consumers(edge)
            except BrokerUnavailable as error:
                if not self._ensured or not isinstance(error.__cause__, nats.js.errors.NotFoundError):
                    raise
            await self._ensure_streams()
            return await self._ensure_consumers(edge)

    async def wait_fetched(self, timeout_s: float) -> int:
        """Wait until edges have acknowledged all results in both streams, `timeout_s` at most.

        Returns:
            Messages that are still there, of every cloud node at this NATS; 0 when not connected at the start.
        """
        clock = asyncio.get_running_loop().time
        deadline, stored = clock() + timeout_s, 0
        while self.connected:
            with contextlib.suppress(BrokerUnavailable):
                stored = await self._count_stored(min(REQUEST_TIMEOUT_S, max(1.0, deadline - clock())))
                if not stored:
                    break
            left_s = deadline - clock()
            if left_s <= 0:
                break
            await asyncio.sleep(min(FETCHED_POLL_S, left_s))
        return stored

    async def _count_stored(self, timeout_s: float) -> int:
        stored = 0
        for stream in self._streams:
            with self._explained(f"stream {stream}"), contextlib.suppress(nats.js.errors.NotFoundError):
                js = self._connection.client.jetstream(timeout=timeout_s)
                stored += (await js.stream_info(stream)).state.messages
        return stored

    def split(
        self, edge: str, priority: Priority, body: bytes, message_id: str, headers: Mapping[str, str]
    ) -> list[Message]:
        """Cut a body into messages that this server takes.

        Raises:
            SettingsError: the edge name is no subject token.
            PublishRefused: NATS will never take it, or never hold all of it.
            BrokerUnavailable: NATS is away.
        """
        messages = split(
            edge,
            priority,
            body,
            message_id,
            headers,
            max_payload=self._connection.client.max_payload,
            part_bytes=self._part_bytes,
        )
        kept = self._streams[stream_of(priority)].max_messages_per_subject
        if len(messages) > kept:  # its last parts would push out its first ones
            raise PublishRefused(
                f"a result of {len(body)} bytes takes {len(messages)} messages, and NATS keeps {kept} for one edge "
                f"and priority: ask for results as JPEG or WebP, or send smaller frames"
            )
        return messages

    async def send(self, message: Message) -> None:
        """Publish one part and wait until JetStream has it.

        Raises:
            PublishRefused: NATS will never take it.
            BrokerUnavailable: NATS is away or does not acknowledge; the same part may be sent again.
        """
        try:
            await self._send(message)
        except nats.js.errors.NoStreamResponseError:
            async with self._making:
                await self._ensure_streams()
            self._restore_in_background()  # their consumers went with them
            try:
                await self._send(message)
            except nats.js.errors.NoStreamResponseError as error:
                raise BrokerUnavailable(f"no stream takes {message.subject} at {self.address}") from error

    async def _send(self, message: Message) -> None:
        client = self._connection.client
        headers = header_bytes(message.headers)
        if len(message.body) + headers > client.max_payload:
            raise PublishRefused(  # nats-py counts the body alone, and the server would hang up
                f"a part of {len(message.body)} bytes and {headers} bytes of headers exceed the NATS server's "
                f"max_payload of {client.max_payload}"
            )
        if self._js is None:
            self._js = client.jetstream(timeout=REQUEST_TIMEOUT_S)
        try:
            ack = await self._js.publish_async(message.subject, message.body, headers=dict(message.headers))
            self._acks.add(ack)
            ack.add_done_callback(self._acks.discard)
            async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                await ack
        except nats.js.errors.NoStreamResponseError:
            raise
        except nats.js.errors.BadRequestError as error:
            raise PublishRefused(f"NATS refused a part for {message.subject}: {error.description}") from error
        except (nats.errors.Error, OSError, TimeoutError) as error:
            reason = str(error) or "no acknowledgement in time"
            raise BrokerUnavailable(f"NATS at {self.address} did not take a result: {reason}") from error

    def _state_changed(self, connected: bool) -> None:
        self._js = None
        for ack in list(self._acks):  # they would only time out
            if not ack.done():
                ack.set_exception(nats.errors.ConnectionClosedError())
        if connected and self._ensured:
            self._restore_in_background()

    def _restore_in_background(self) -> None:
        if self._restoring is None or self._restoring.done():
            self._restoring = asyncio.create_task(self._restore_until_done(), name="nats-restore")

    async def _restore_until_done(self) -> None:
        backoff = Backoff(0.1, 5.0)
        while self.connected:
            try:
                return await self._restore()
            except BrokerUnavailable as error:
                log.info("%s; trying again", error)
                await asyncio.sleep(backoff.next_s())

    async def _restore(self) -> None:
        async with self._making:
            await self._ensure_streams()
        for edge in list(reversed(self._edges)):
            async with self._making:  # one by one: an edge that comes now does not wait for all of them
                await self._ensure_consumers(edge)

    async def _ensure_streams(self) -> None:
        for stream, limits in self._streams.items():
            config = stream_config(stream, limits, self._replicas)
            with self._explained(f"stream {stream}"):
                await ensure_stream(self._connection.client.jetstream(timeout=REQUEST_TIMEOUT_S), config)

    async def _ensure_consumers(self, edge: str) -> list[Consumer]:
        consumers = [consumer_of(edge, priority) for priority in Priority]
        made: dict[str, list[tuple[ConsumerConfig, ConsumerInfo]]] = {}
        for consumer in consumers:
            config = consumer_config(edge, consumer, self._streams[consumer.stream].max_age_s)
            with self._explained(f"consumer {consumer.name}"):
                js = self._connection.client.jetstream(timeout=REQUEST_TIMEOUT_S)
                info = await ensure_consumer(js, consumer.stream, config)
            made.setdefault(consumer.stream, []).append((config, info))
        for stream, those in made.items():
            with self._explained(f"consumers of edge {edge}"):
                await replace_lost(self._connection.client.jetstream(timeout=REQUEST_TIMEOUT_S), stream, those)
        return consumers

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except nats.js.errors.APIError as error:
            reason = error.description or str(error)
            hint = "enable JetStream" if "not enabled" in reason else "check its limits and what exists there"
            raise BrokerUnavailable(f"NATS at {self.address} refused {what}: {reason}: {hint}") from error
        except nats.errors.NoRespondersError as error:
            raise BrokerUnavailable(
                f"NATS at {self.address} has no JetStream: start it with `nats-server --jetstream`"
            ) from error
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise BrokerUnavailable(f"NATS at {self.address} did not answer about {what}: {error}") from error
