import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import nats
import pytest
from results import EDGE, SESSION, Inbox, make_result, running_server, stop_in_place, until

from cloud_node.publisher import Publisher
from common import streams as streams_module
from common.broker import Broker
from common.errors import BrokerUnavailable
from common.frame import Priority
from common.nats_server import EmbeddedServer
from common.subjects import Consumer, Message, consumer_of, subject_of
from common.wire import result_to_proto
from edge_node import downlink as downlink_module
from edge_node.downlink import Downlink
from edge_node.pull import Pull


class Cloud:
    """What a cloud node has of NATS."""

    def __init__(self, broker: Broker, publisher: Publisher, consumers: list[Consumer]) -> None:
        self.broker, self.publisher, self.consumers = broker, publisher, consumers

    async def waiting(self) -> int:
        """Messages that no edge has acknowledged yet."""
        jetstream = self.broker._connection.client.jetstream()
        return sum([(await jetstream.stream_info(name)).state.messages for name in self.broker._streams])


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with running_server() as server:
        yield server


@pytest.fixture
async def cloud(server: EmbeddedServer) -> AsyncIterator[Cloud]:
    broker = await Broker.connect(server.url)
    await broker.ensure_streams()
    publisher = Publisher(broker)
    running = asyncio.create_task(publisher.run())
    yield Cloud(broker, publisher, await broker.ensure_consumers(EDGE))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await broker.close()


@asynccontextmanager
async def listening(
    server: EmbeddedServer, consumers: list[Consumer], inbox: Inbox, **options
) -> AsyncIterator[Downlink]:
    options = {"edge": EDGE, "session": SESSION, **options}
    downlink = Downlink(server.edge_url(), consumers, **options)
    running = asyncio.create_task(downlink.run(inbox.put))
    try:
        yield downlink
    finally:
        await downlink.close()
        await running
        assert not downlink.connected


async def acknowledged(cloud: Cloud) -> None:
    async with asyncio.timeout(60):
        while await cloud.waiting():
            await asyncio.sleep(0.02)


@pytest.fixture
def short_ack_wait(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What was lost on the way comes again after one second."""
    monkeypatch.setattr(streams_module, "ACK_WAIT_S", 1.0)
    monkeypatch.setattr(downlink_module, "ACK_WAIT_S", 1.0)
    yield


async def test_a_large_result_arrives_whole(server, cloud) -> None:
    inbox, result = Inbox(), make_result(1, 3_000_000)
    async with listening(server, cloud.consumers, inbox) as downlink:
        cloud.publisher.submit(result)
        received = await inbox.take()
        assert (received.id, received.image, received.priority) == (result.id, result.image, result.priority)
        await acknowledged(cloud)
        assert (downlink.received, downlink.errors, downlink.duplicates) == (1, 0, 0)


async def test_consumers_may_come_as_plain_numbers(server, cloud) -> None:
    inbox = Inbox()
    plain = [(int(priority), stream, name) for priority, stream, name in cloud.consumers]
    async with listening(server, plain, inbox):
        cloud.publisher.submit(make_result(1))
        assert (await inbox.take()).id.sequence == 1


async def test_essential_results_are_handed_over_first(server, cloud, monkeypatch) -> None:
    monkeypatch.setattr(downlink_module, "YIELD_S", 600.0)
    for sequence in range(12):
        lower = Priority.SECONDARY if sequence % 2 else Priority.STANDARD
        cloud.publisher.submit(make_result(sequence, 400_000, lower))
    for sequence in range(100, 110):
        cloud.publisher.submit(make_result(sequence, 1000, Priority.ESSENTIAL))
    assert await cloud.publisher.drain(60) == 0
    inbox = Inbox()
    async with listening(server, cloud.consumers, inbox):
        await until(lambda: len(inbox.seen) == 22)
    assert inbox.seen[:10] == list(range(100, 110))
    assert sorted(inbox.seen) == [*range(12), *range(100, 110)]


async def test_a_slow_reader_gets_a_late_essential_result_next(server, cloud) -> None:
    seen: list[int] = []
    gate = asyncio.Semaphore(0)

    async def read(result, size) -> None:
        seen.append(result.id.sequence)
        await gate.acquire()

    downlink = Downlink(server.edge_url(), cloud.consumers, edge=EDGE, session=SESSION)
    running = asyncio.create_task(downlink.run(read))
    for sequence in range(20):
        cloud.publisher.submit(make_result(sequence, priority=Priority.SECONDARY))
    await until(lambda: len(downlink._ready) > downlink_module.READY)
    cloud.publisher.submit(make_result(100, priority=Priority.ESSENTIAL))
    await until(lambda: any("/100/" in key for key in downlink._ready))
    assert len(downlink._ready) <= downlink_module.READY + 3, "a slow reader holds the rest back at the server"
    for _ in range(21):
        gate.release()
    await until(lambda: len(seen) == 21)
    assert seen[1] == 100 and sorted(seen) == [*range(20), 100]
    await downlink.close()
    await running


async def test_two_edges_do_not_see_each_others_results(server, cloud) -> None:
    others = await cloud.broker.ensure_consumers("cam-2")
    mine, theirs = Inbox(), Inbox()
    async with (
        listening(server, cloud.consumers, mine) as first,
        listening(server, others, theirs, edge="cam-2") as second,
    ):
        for sequence in range(10):
            cloud.publisher.submit(make_result(sequence, edge=EDGE if sequence % 2 else "cam-2"))
        await until(lambda: len(mine.seen) + len(theirs.seen) == 10)
        assert (mine.seen, theirs.seen) == ([1, 3, 5, 7, 9], [0, 2, 4, 6, 8])
        assert first.foreign == second.foreign == 0


async def test_results_of_another_session_are_dropped_and_counted(server, cloud) -> None:
    inbox = Inbox()
    cloud.publisher.submit(make_result(1, 600_000, session="older"))
    cloud.publisher.submit(make_result(2))
    async with listening(server, cloud.consumers, inbox) as downlink:
        assert (await inbox.take()).id.sequence == 2
        await until(lambda: downlink.foreign == 2)  # its two parts
        await acknowledged(cloud)
    assert inbox.seen == [2]


def forged(index: int, count: int, body: bytes, total: int, key: str = f"{EDGE}/{SESSION}/1/0") -> Message:
    headers = {
        "Nats-Msg-Id": f"{key}/{index}",
        "Lamplight-Part": f"{index}/{count}",
        "Lamplight-Bytes": str(total),
    }
    return Message(subject_of(EDGE, Priority.STANDARD), body, headers)


WHOLE = result_to_proto(make_result(1, 5000)).SerializeToString()


@pytest.mark.parametrize(
    "message",
    [
        forged(1, 1, WHOLE[:2000], 2000),  # truncated before it was sent
        forged(1, 1, WHOLE[:2000], len(WHOLE)),  # truncated on its way
        forged(1, 1, b"\xff" * 500, 500),
        forged(1, 1, WHOLE, len(WHOLE), key=f"{EDGE}/{SESSION}/2/0"),  # another frame's
        forged(3, 2, WHOLE, len(WHOLE)),
        forged(1, 1, WHOLE, len(WHOLE), key="no/key"),
        Message(subject_of(EDGE, Priority.STANDARD), WHOLE, {"Lamplight-Part": "x"}),
        Message(subject_of(EDGE, Priority.STANDARD), WHOLE, {}),
    ],
    ids=["short", "cut", "junk", "misnamed", "part 3 of 2", "bad key", "bad headers", "no headers"],
)
async def test_a_broken_result_is_counted_and_the_next_goes_on(server, cloud, message: Message) -> None:
    inbox = Inbox()
    async with listening(server, cloud.consumers, inbox) as downlink:
        await cloud.broker.send(message)
        cloud.publisher.submit(make_result(9))
        assert (await inbox.take()).id.sequence == 9
        await acknowledged(cloud)
        assert downlink.errors == 1 and inbox.seen == [9]


async def test_consumers_that_a_cloud_node_lies_about_are_left_out(server, cloud, caplog) -> None:
    """A name with a line's end in it would be a command to NATS, with this edge's login; thousands would be as many
    requests."""
    heard = await nats.connect(server.url)
    injected = (2, "a 0\r\n\r\nPUB $JS.ACK.injected 1\r\nx\r\nPUB a", "b")
    spied = await heard.subscribe("$JS.ACK.injected")
    many = [(2, "lamplight-results", f"gone-{number}") for number in range(1_000)]
    inbox = Inbox()
    async with listening(server, [*cloud.consumers, injected, *cloud.consumers, *many], inbox) as downlink:
        assert len(downlink._consumers) <= downlink_module.MOST_CONSUMERS
        assert set(cloud.consumers) <= set(downlink._consumers)
        cloud.publisher.submit(make_result(9))
        assert (await inbox.take()).id.sequence == 9
    assert not spied.pending_msgs
    assert "names consumers that cannot be its own" in caplog.text
    await heard.close()


async def test_a_result_whose_part_never_comes_is_given_up(server, cloud) -> None:
    inbox = Inbox()
    async with listening(server, cloud.consumers, inbox, stale_s=0.3) as downlink:
        await cloud.broker.send(forged(1, 3, WHOLE[:1000], len(WHOLE)))
        await cloud.broker.send(forged(3, 3, WHOLE[2000:], len(WHOLE)))
        await until(lambda: downlink.incomplete == 1)
        await acknowledged(cloud)
        cloud.publisher.submit(make_result(1, attempt=1))
        assert (await inbox.take()).attempt == 1


async def test_parts_of_two_attempts_are_never_mixed(server, cloud) -> None:
    inbox = Inbox()
    first = forged(1, 2, WHOLE[:1000], len(WHOLE))
    second = forged(2, 2, WHOLE[1000:], len(WHOLE), key=f"{EDGE}/{SESSION}/1/1")
    async with listening(server, cloud.consumers, inbox) as downlink:
        for message in (first, second):
            await cloud.broker.send(message)
        await until(lambda: len(downlink._assembler) == 2)
        assert inbox.seen == []
        await cloud.broker.send(forged(2, 2, WHOLE[1000:], len(WHOLE)))
        assert (await inbox.take()).attempt == 0


async def test_incomplete_results_are_bounded(server, cloud) -> None:
    inbox = Inbox()
    async with listening(server, cloud.consumers, inbox, assembly_bytes=4500) as downlink:
        for sequence in range(5):
            key = f"{EDGE}/{SESSION}/{sequence}/0"
            await cloud.broker.send(forged(1, 2, b"x" * 1000, 2000, key=key))
        await until(lambda: downlink.incomplete == 3)
        assert len(downlink._assembler) == 2


async def test_a_message_that_comes_again_is_handed_over_once(server, cloud) -> None:
    inbox = Inbox()
    jetstream = cloud.broker._connection.client.jetstream()
    headers = {"Lamplight-Part": "1/1", "Lamplight-Bytes": str(len(WHOLE)), "Nats-Msg-Id": f"{EDGE}/{SESSION}/1/0/1"}
    async with listening(server, cloud.consumers, inbox) as downlink:
        await jetstream.publish(subject_of(EDGE, Priority.STANDARD), WHOLE, headers=headers)
        await inbox.take()
        await acknowledged(cloud)
        await jetstream.delete_stream("lamplight-results")  # forgets the message id as well
        await cloud.broker.ensure_streams()
        await cloud.broker.ensure_consumers(EDGE)
        await jetstream.publish(subject_of(EDGE, Priority.STANDARD), WHOLE, headers=headers)
        await until(lambda: downlink.duplicates == 1)
        await acknowledged(cloud)
    assert inbox.seen == [1]


async def test_a_result_is_not_acknowledged_before_its_reader_is_done(server, cloud) -> None:
    async def fail(result, size) -> None:
        raise ValueError("the reader broke")

    downlink = Downlink(server.edge_url(), cloud.consumers, edge=EDGE, session=SESSION)
    cloud.publisher.submit(make_result(1))
    with pytest.raises(ValueError, match="the reader broke"):
        await downlink.run(fail)
    assert await cloud.waiting() == 1


async def test_a_result_that_waits_for_its_reader_does_not_come_again(server, cloud, short_ack_wait) -> None:
    for _, stream, name in cloud.consumers:  # made with the longer wait
        await cloud.broker._connection.client.jetstream().delete_consumer(stream, name)
    await cloud.broker.ensure_consumers(EDGE)
    release = asyncio.Event()
    seen = []

    async def read(result, size) -> None:
        seen.append(result.id.sequence)
        await release.wait()

    downlink = Downlink(server.edge_url(), cloud.consumers, edge=EDGE, session=SESSION)
    running = asyncio.create_task(downlink.run(read))
    cloud.publisher.submit(make_result(1))
    await asyncio.sleep(3.0)  # three times the wait
    release.set()
    await acknowledged(cloud)
    assert seen == [1] and downlink.duplicates == 0
    await downlink.close()
    await running


@pytest.mark.parametrize("keep_store", [True, False])
async def test_nats_is_killed_and_comes_back(keep_store: bool, short_ack_wait) -> None:
    server = EmbeddedServer()
    await server.start()
    broker = await Broker.connect(server.url)
    await broker.ensure_streams()
    published: set[int] = set()
    publisher = Publisher(broker, on_published=lambda result, *_: published.add(result.id.sequence))
    publishing = asyncio.create_task(publisher.run())
    consumers = await broker.ensure_consumers(EDGE)
    inbox, states = Inbox(), []
    async with listening(server, consumers, inbox, on_state=states.append):
        for sequence in range(10):
            publisher.submit(make_result(sequence, 300_000, Priority.ESSENTIAL))
        await until(lambda: len(inbox.seen) >= 3)
        os.kill(server.pid, signal.SIGKILL)  # it is started again by itself, with its store
        if not keep_store:
            await server.stop()
        for sequence in range(10, 20):
            publisher.submit(make_result(sequence, 300_000, Priority.ESSENTIAL))
            publisher.submit(make_result(sequence + 100, 300_000, Priority.STANDARD))
        taken_before = set(inbox.seen)
        lost_with_the_store = published - taken_before
        if not keep_store:
            await server.start()
        expected = {*range(20), *range(110, 120)}
        if not keep_store:
            expected -= lost_with_the_store
        await until(lambda: expected <= set(inbox.seen))
        assert publisher.pending == 0 or await publisher.drain(60) == 0
        assert len(inbox.seen) == len(set(inbox.seen)), "each is visible once"
    assert states == [True, False, True, False]
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)
    await broker.close()
    await server.stop()


async def test_nats_that_comes_later(caplog: pytest.LogCaptureFixture) -> None:
    server = EmbeddedServer()
    await server.start()
    url = server.edge_url()
    await server.stop()
    inbox = Inbox()
    consumers = [consumer_of(EDGE, priority) for priority in Priority]
    downlink = Downlink(url, consumers, edge=EDGE, session=SESSION)
    running = asyncio.create_task(downlink.run(inbox.put))
    await until(lambda: "trying again until it answers" in caplog.text)
    assert not downlink.connected
    await server.start()
    broker = await Broker.connect(server.url)
    await broker.ensure_streams()
    await broker.ensure_consumers(EDGE)
    publisher = Publisher(broker)
    publishing = asyncio.create_task(publisher.run())
    publisher.submit(make_result(1))
    assert (await inbox.take()).id.sequence == 1
    assert url.split(":")[2].split("@")[0] not in caplog.text, "the password is not logged"
    await downlink.close()
    await running
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)
    await broker.close()
    await server.stop()


async def test_a_login_that_nats_refuses_is_said_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    server = EmbeddedServer()
    await server.start()
    url = server.edge_url()
    password = url.split(":")[2].split("@")[0]
    downlink = Downlink(url.replace(password, "wr0ng-w0rd"), [], edge=EDGE, session=SESSION)
    running = asyncio.create_task(downlink.run(Inbox().put))
    await until(lambda: "uthorization" in caplog.text)
    await asyncio.sleep(0.5)  # some tries more
    assert caplog.text.count("uthorization") == 1 and not downlink.connected and not running.done()
    assert "wr0ng-w0rd" not in caplog.text
    await downlink.close()
    await running
    await server.stop()


async def test_missing_consumers_are_asked_for(server, cloud, monkeypatch) -> None:
    monkeypatch.setattr(downlink_module, "ASK_AGAIN_S", 0.0)
    jetstream = cloud.broker._connection.client.jetstream()
    for _, stream, name in cloud.consumers:
        await jetstream.delete_consumer(stream, name)
    asked = 0

    async def make_again() -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise BrokerUnavailable("not now")
        await cloud.broker.ensure_consumers(EDGE)

    inbox = Inbox()
    async with listening(server, cloud.consumers, inbox, on_missing=make_again):
        cloud.publisher.submit(make_result(1))
        assert (await inbox.take()).id.sequence == 1
        await jetstream.delete_consumer("lamplight-results", f"{EDGE}-standard")  # under its feet
        cloud.publisher.submit(make_result(2))
        assert (await inbox.take()).id.sequence == 2
    assert asked >= 3


async def test_consumers_that_come_and_go_leave_no_subscriptions_behind(server, cloud, monkeypatch) -> None:
    monkeypatch.setattr(downlink_module, "ASK_AGAIN_S", 0.0)
    monkeypatch.setattr(downlink_module, "LONGEST_DELAY_S", 0.2)
    jetstream = cloud.broker._connection.client.jetstream()

    async def make_again() -> None:
        await cloud.broker.ensure_consumers(EDGE)

    inbox, counts = Inbox(), []
    async with listening(server, cloud.consumers, inbox, on_missing=make_again) as downlink:
        for sequence in range(4):
            for priority in Priority:
                cloud.publisher.submit(make_result(10 * sequence + priority, priority=priority))
            for _ in Priority:
                await inbox.take()
            await acknowledged(cloud)
            client = downlink._connection.client
            counts.append(len(client._subs))
            for _, stream, name in cloud.consumers:
                await jetstream.delete_consumer(stream, name)
    assert counts == [4, 4, 4, 4], "one for each consumer, and one for answers"


async def test_what_a_pull_that_ends_did_not_take_comes_again_at_once(server, cloud, monkeypatch) -> None:
    monkeypatch.setattr(streams_module, "ACK_WAIT_S", 600.0)
    edge = "cam-2"
    consumer = (await cloud.broker.ensure_consumers(edge))[Priority.STANDARD - 1]
    client = await nats.connect(server.edge_url())
    first = Pull(client, consumer, 3)
    await first.ask()
    for sequence in range(3):
        cloud.publisher.submit(make_result(sequence, edge=edge))
    await until(lambda: first._arrived.qsize() == 3)
    await first.close()
    await first.close()
    second = Pull(client, consumer, 3)
    await second.ask()
    async with asyncio.timeout(60):
        taken = [await second.next() for _ in range(3)]
    keys = {message.headers["Lamplight-Frame"] for message in taken if message is not None}
    assert keys == {f"{edge}/{SESSION}/{sequence}" for sequence in range(3)}
    await second.close()
    await client.close()


async def test_cancelling_run_closes_the_connection(server, cloud) -> None:
    downlink = Downlink(server.edge_url(), cloud.consumers, edge=EDGE, session=SESSION)
    running = asyncio.create_task(downlink.run(Inbox().put))
    await until(lambda: downlink.connected)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not downlink.connected
    await downlink.close()


async def test_cancelled_twice_on_a_dead_link_it_leaves_no_connection_behind(server, cloud) -> None:
    before = asyncio.all_tasks()
    downlink = Downlink(server.edge_url(), cloud.consumers, edge=EDGE, session=SESSION)
    running = asyncio.create_task(downlink.run(Inbox().put))
    await until(lambda: downlink.connected and len(downlink._pulls) == len(cloud.consumers))
    await stop_in_place(server.pid)
    try:
        life = downlink._life
        assert life is not None
        for _ in range(2):  # as by another address of results, then by the end of the node
            life.cancel()
            await asyncio.sleep(0.2)
        await asyncio.wait({running})
        assert life.done() and not downlink.connected
        assert [task for task in asyncio.all_tasks() - before if task.get_name() == "nats"] == []
    finally:
        os.kill(server.pid, signal.SIGCONT)


async def test_a_connection_that_answers_is_left_alone(server, cloud) -> None:
    inbox = Inbox()
    async with listening(server, cloud.consumers, inbox) as downlink:
        await until(lambda: downlink.connected)
        client = downlink._connection.client
        await downlink.check()
        assert downlink._connection.client is client


async def test_a_connection_that_does_not_answer_is_made_anew(server, cloud) -> None:
    """As after a link that was away: TCP would wait for its next try. Requests of the old connection take no result."""
    inbox = Inbox()
    async with listening(server, cloud.consumers, inbox) as downlink:
        await until(lambda: downlink.connected)
        before = downlink._connection.client
        await stop_in_place(server.pid)
        try:
            await downlink.check()
            assert not downlink.connected
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await until(lambda: downlink.connected)
        assert downlink._connection.client is not before
        cloud.publisher.submit(make_result(1))
        assert (await inbox.take()).id.sequence == 1
