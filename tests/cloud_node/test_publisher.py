import asyncio
import gc
import os
import signal
import time
from collections.abc import AsyncIterator

import nats
import pytest
from nats.aio.msg import Msg
from results import make_result, running_server, until

from cloud_node.publisher import Publisher
from common.broker import Broker
from common.frame import Priority, Result
from common.nats_server import EmbeddedServer
from common.packing import EncodedImage
from common.wire import result_from_proto
from lamplight.v1 import result_pb2

TRACE = {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01", "tracestate": "a=b"}


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with running_server() as server:
        yield server


@pytest.fixture
async def broker(server: EmbeddedServer) -> AsyncIterator[Broker]:
    broker = await Broker.connect(server.url)
    await broker.ensure_streams()
    yield broker
    await broker.close()


@pytest.fixture
async def heard(server: EmbeddedServer) -> AsyncIterator[list[Msg]]:
    """Every message under lamplight.results, as it passes."""
    client = await nats.connect(server.url)
    messages: list[Msg] = []

    async def note(message: Msg) -> None:
        messages.append(message)

    await client.subscribe("lamplight.results.>", cb=note)
    await client.flush()
    yield messages
    await client.close()


def each(messages: list[Msg], header: str = "Lamplight-Frame") -> list[str]:
    """What was heard, by its first time: it comes twice where its acknowledgement was late, as on a busy machine."""
    return list(dict.fromkeys(message.headers[header] for message in messages))


def live_images() -> int:
    """Images of results that something holds."""
    gc.collect()
    return sum(type(item) is EncodedImage for item in gc.get_objects())


async def publish_all(publisher: Publisher) -> None:
    running = asyncio.create_task(publisher.run())
    assert await publisher.drain(60) == 0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_result_arrives_as_it_was(broker, heard) -> None:
    published: list[tuple[Result, int, int]] = []
    before_ns = time.time_ns()
    publisher = Publisher(broker, on_published=lambda *account: published.append(account))
    result = make_result(7, 1000, Priority.ESSENTIAL, attempt=2, trace=TRACE)
    publisher.submit(result)
    assert publisher.pending == 1
    await publish_all(publisher)
    await until(lambda: len(heard) == 1)
    [message] = heard
    assert message.subject == "lamplight.results.cam-1.essential"
    assert message.headers["Nats-Msg-Id"] == "cam-1/s1/7/2/1"
    assert message.headers["Lamplight-Frame"] == "cam-1/s1/7"
    assert message.headers["Lamplight-Priority"] == "essential"
    assert message.headers["Lamplight-Part"] == "1/1"
    assert {name: message.headers[name] for name in TRACE} == TRACE
    arrived = result_from_proto(result_pb2.Result.FromString(message.data))
    assert (arrived.id, arrived.attempt, arrived.image) == (result.id, 2, result.image)
    assert arrived.stages_ns["publisher"] > 0
    [(whose, submitted_unix_ns, spent_ns)] = published
    assert whose is result and publisher.published == 1 and publisher.pending == 0
    assert before_ns <= submitted_unix_ns <= time.time_ns()
    assert spent_ns >= arrived.stages_ns["publisher"], "the stage ends where sending begins"


async def test_an_essential_result_overtakes_what_is_queued(broker, heard) -> None:
    publisher = Publisher(broker, in_flight=1)
    for sequence in range(2):
        publisher.submit(make_result(sequence, 8_000_000, Priority.SECONDARY))
    running = asyncio.create_task(publisher.run())
    while not heard:
        await asyncio.sleep(0)
    publisher.submit(make_result(100, 1000, Priority.STANDARD))
    publisher.submit(make_result(101, 1000, Priority.ESSENTIAL))
    assert await publisher.drain(60) == 0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await until(lambda: len(each(heard, "Nats-Msg-Id")) == 2 * 16 + 2)
    order = each(heard, "Nats-Msg-Id")
    assert order.index("cam-1/s1/101/0/1") < order.index("cam-1/s1/100/0/1") < order.index("cam-1/s1/0/0/16")
    secondary = [name for name in order if "/s1/10" not in name]
    assert secondary == [f"cam-1/s1/{sequence}/0/{part}" for sequence in range(2) for part in range(1, 17)]


async def test_what_was_submitted_while_nats_is_away_is_published_later(server, broker) -> None:
    publisher = Publisher(broker)
    running = asyncio.create_task(publisher.run())
    os.kill(server.pid, signal.SIGKILL)
    await until(lambda: not broker.connected)
    for sequence in range(20):
        publisher.submit(make_result(sequence, 200_000, Priority(1 + sequence % 3)))
    assert await publisher.drain(0) == 20
    assert await publisher.drain(60) == 0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    client = await nats.connect(server.url)
    streams = ("lamplight-essential", "lamplight-results")
    counts = [(await client.jetstream().stream_info(name)).state.messages for name in streams]
    await client.close()
    assert counts == [7, 13] and not publisher.dropped


async def test_nothing_is_lost_or_doubled_when_nats_is_killed_at_work(server, broker) -> None:
    publisher = Publisher(broker)
    running = asyncio.create_task(publisher.run())
    for sequence in range(60):
        publisher.submit(make_result(sequence, 700_000, Priority.ESSENTIAL))
    await until(lambda: publisher.published >= 5)
    os.kill(server.pid, signal.SIGKILL)
    assert await publisher.drain(120) == 0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    client = await nats.connect(server.url)
    state = (await client.jetstream().stream_info("lamplight-essential")).state
    await client.close()
    assert state.messages == 120 and publisher.published == 60


async def test_a_full_spool_drops_the_oldest_of_the_least_urgent(broker, heard) -> None:
    dropped: list[tuple[int, str]] = []
    publisher = Publisher(
        broker, spool_bytes=5 * 11_024, on_dropped=lambda result, reason: dropped.append((result.id.sequence, reason))
    )
    for sequence, priority in enumerate([2, 3, 3, 1, 1]):
        publisher.submit(make_result(sequence, 10_000, Priority(priority)))
    publisher.submit(make_result(5, 10_000, Priority.STANDARD))
    publisher.submit(make_result(6, 10_000, Priority.ESSENTIAL))
    publisher.submit(make_result(7, 10_000, Priority.SECONDARY))  # nothing here is less urgent
    publisher.submit(make_result(8, 10_000, Priority.ESSENTIAL))
    publisher.submit(make_result(9, 100_000, Priority.ESSENTIAL))  # more than the whole spool
    assert [sequence for sequence, _ in dropped] == [1, 2, 7, 0, 9]
    assert publisher.dropped == {"spool full": 5} and publisher.pending == 5
    await publish_all(publisher)
    await until(lambda: len(each(heard)) == 5)
    assert each(heard) == [f"cam-1/s1/{n}" for n in (3, 4, 6, 8, 5)]


async def test_a_result_that_can_never_be_published_is_given_up_and_the_next_goes_on(broker, heard) -> None:
    publisher = Publisher(broker)
    publisher.submit(make_result(1, edge="not a subject"))
    publisher.submit(make_result(2, trace={"traceparent": "00-ü\r\nForged: 1"}))
    publisher.submit(make_result(4, trace={"tracestate": "a=" + "x" * 8 * 1024 * 1024}))
    publisher.submit(make_result(3))
    await publish_all(publisher)
    await until(lambda: len(each(heard)) == 2)
    assert publisher.dropped == {"refused": 2} and publisher.published == 2
    assert all("Forged" not in message.headers for message in heard)


async def test_images_of_dropped_results_are_let_go_while_nats_is_away(server, broker) -> None:
    publisher = Publisher(broker, spool_bytes=10 * 21_024)
    running = asyncio.create_task(publisher.run())
    for sequence in range(2):
        publisher.submit(make_result(sequence, 20_000))
    assert await publisher.drain(60) == 0  # every worker was at work, and waits now
    os.kill(server.pid, signal.SIGKILL)
    await until(lambda: not broker.connected)
    for sequence in range(200):
        publisher.submit(make_result(sequence, 20_000, Priority(1 + sequence % 3)))
        await asyncio.sleep(0)
    assert publisher.pending == 10 and publisher.dropped == {"spool full": 190}
    assert live_images() == 10
    assert await publisher.drain(60) == 0
    assert live_images() == 0, "nor are published ones kept"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_who_asks_from_another_thread_finds_results_gone(broker) -> None:
    class Emptied(dict):
        """The last one was taken out after it was seen that there is one."""

        def __bool__(self) -> bool:
            return True

    publisher = Publisher(broker)
    publisher._held[Priority.STANDARD] = Emptied()
    assert publisher.oldest_s() == 0.0
    publisher.submit(make_result(0))
    assert publisher.oldest_s() > 0.0


async def test_drain_of_nothing_returns_at_once(broker) -> None:
    assert await Publisher(broker).drain(600) == 0
