import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.js.api import ConsumerConfig, StreamConfig
from ports import free_port
from results import publish, running_server, stop_in_place, until

from common import broker as broker_module
from common.broker import Broker
from common.errors import BrokerUnavailable, SettingsError
from common.frame import Priority
from common.nats_connection import masked, server_list
from common.nats_server import EmbeddedServer, find_server
from common.streams import ESSENTIAL_LIMITS, OTHER_LIMITS, StreamLimits
from common.subjects import PART_BYTES, Message, PublishRefused, header_bytes, split

HEADERS = {"Lamplight-Frame": "cam-1/s/1"}


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with running_server() as server:
        yield server


@pytest.fixture
async def broker(server: EmbeddedServer) -> AsyncIterator[Broker]:
    broker = await Broker.connect(server.url, name="test")
    await broker.ensure_streams()
    yield broker
    await broker.close()


@pytest.fixture
async def look(server: EmbeddedServer) -> AsyncIterator[nats.js.JetStreamContext]:
    """A plain client, to look at what is there."""
    client = await nats.connect(server.url)
    yield client.jetstream()
    await client.close()


async def test_streams_are_made_once_and_brought_to_new_limits(server, broker, look) -> None:
    await broker.ensure_streams()
    essential = (await look.stream_info("lamplight-essential")).config
    others = (await look.stream_info("lamplight-results")).config
    assert (essential.storage, others.storage) == ("file", "memory")
    assert essential.subjects == ["lamplight.results.*.essential"]
    assert others.subjects == ["lamplight.results.*.standard", "lamplight.results.*.secondary"]
    assert essential.discard == others.discard == "old"
    smaller = await Broker.connect(server.url, others=StreamLimits(1 << 20, 30, 7))
    await smaller.ensure_streams()
    changed = (await look.stream_info("lamplight-results")).config
    assert (changed.max_bytes, changed.max_age, changed.max_msgs_per_subject) == (1 << 20, 30, 7)
    await smaller.close()


@pytest.mark.parametrize(
    ("limits", "priorities", "edges"),
    [
        (ESSENTIAL_LIMITS, [Priority.ESSENTIAL], 8),
        (OTHER_LIMITS, [Priority.STANDARD, Priority.SECONDARY], 4),
    ],
    ids=["essential", "others"],
)
async def test_full_edges_that_fit_by_default_evict_no_other(server, look, limits, priorities, edges) -> None:
    scale = 64  # smaller parts in as much smaller streams
    small = replace(limits, max_bytes=limits.max_bytes // scale)
    broker = await Broker.connect(server.url, part_bytes=PART_BYTES // scale, essential=small, others=small)
    await broker.ensure_streams()
    await publish(broker, "quiet", priorities[-1], b"mine", "quiet/s/0/0", {})
    body, kept = b"x" * (PART_BYTES // scale), limits.max_messages_per_subject
    for edge in range(edges - 1):
        for priority in priorities:
            names = (f"loud-{edge}/{priority}/{number}/0" for number in range(kept + 20))
            sends = (publish(broker, f"loud-{edge}", priority, body, name, {}) for name in names)
            await asyncio.gather(*sends)
    stream = "lamplight-essential" if limits is ESSENTIAL_LIMITS else "lamplight-results"
    subjects = (await look.stream_info(stream, subjects_filter=">")).state.subjects
    assert subjects.pop(f"lamplight.results.quiet.{priorities[-1].name.lower()}") == 1
    assert list(subjects.values()) == [kept] * (edges - 1) * len(priorities), "each holds all of its share"
    await broker.close()


async def test_a_result_that_would_push_out_its_own_first_parts_is_refused(server) -> None:
    broker = await Broker.connect(server.url, part_bytes=1000, others=replace(OTHER_LIMITS, max_messages_per_subject=3))
    assert len(broker.split("cam-1", Priority.STANDARD, b"x" * 3000, "id", {})) == 3
    with pytest.raises(PublishRefused, match="3001 bytes takes 4 messages.*keeps 3.*JPEG or WebP"):
        broker.split("cam-1", Priority.STANDARD, b"x" * 3001, "id", {})
    assert len(broker.split("cam-1", Priority.ESSENTIAL, b"x" * 3001, "id", {})) == 4
    await broker.close()


async def test_only_the_edges_ensured_last_are_remembered(server, look) -> None:
    broker = await Broker.connect(server.url, remembered_edges=3)
    await broker.ensure_streams()
    for edge in ("a", "b", "a", "c", "d"):
        await broker.ensure_consumers(edge)
    await look.delete_stream("lamplight-results")
    await publish(broker, "a", Priority.STANDARD, b"x", "a/s/1/0", {})
    await until(lambda: broker._restoring is not None and broker._restoring.done())
    names = {info.name for info in await look.consumers_info("lamplight-results")}
    assert names == {f"{edge}-{priority}" for edge in "acd" for priority in ("standard", "secondary")}
    await broker.close()


async def test_waiting_until_results_are_fetched(broker, look) -> None:
    assert await broker.wait_fetched(600) == 0
    consumers = await broker.ensure_consumers("cam-1")
    for sequence, priority in enumerate(Priority):
        await publish(broker, "cam-1", priority, b"x", f"cam-1/s/{sequence}/0", {})
    assert await broker.wait_fetched(0) == 3
    assert await broker.wait_fetched(0.3) == 3
    waiting = asyncio.create_task(broker.wait_fetched(600))
    for _, stream, name in consumers:
        assert not waiting.done()
        subscription = await look.pull_subscribe_bind(name, stream)
        [message] = await subscription.fetch(1)
        await message.ack_sync()
    assert await waiting == 0


async def test_nobody_waits_for_a_nats_that_is_away(server, broker) -> None:
    await publish(broker, "cam-1", Priority.STANDARD, b"x", "cam-1/s/1/0", {})
    await server.stop()
    await until(lambda: not broker.connected)
    assert await broker.wait_fetched(600) == 0


async def test_consumers_of_one_edge(broker, look) -> None:
    consumers = await broker.ensure_consumers("cam-1")
    assert await broker.ensure_consumers("cam-1") == consumers
    assert [consumer.priority for consumer in consumers] == list(Priority)
    for priority, stream, name in consumers:
        config = (await look.consumer_info(stream, name)).config
        assert config.filter_subject == f"lamplight.results.cam-1.{priority.name.lower()}"
        assert config.ack_policy == "explicit"


async def test_consumers_of_another_kind_are_replaced(broker, look) -> None:
    """As an earlier version made them: on file, so that they outlived their memory stream in a cluster."""
    await broker.ensure_streams()
    config = ConsumerConfig(
        durable_name="cam-1-standard", filter_subject="lamplight.results.cam-1.standard", ack_policy="explicit"
    )
    await look.add_consumer("lamplight-results", config)
    await broker.ensure_consumers("cam-1")
    assert (await look.consumer_info("lamplight-results", "cam-1-standard")).config.mem_storage
    assert not (await look.consumer_info("lamplight-essential", "cam-1-essential")).config.mem_storage


async def test_a_consumer_behind_the_end_of_its_stream_is_made_anew(server, broker, look) -> None:
    """The disk lost messages with the power, or a cluster a memory stream: it would wait for a number far away."""
    [essential, *_] = await broker.ensure_consumers("cam-1")
    for sequence in range(3):
        await publish(broker, "cam-1", Priority.ESSENTIAL, b"old", f"cam-1/s/{sequence}/0", {})
    for message in await (await look.pull_subscribe_bind(essential.name, essential.stream)).fetch(3):
        await message.ack_sync()
    assert server._run_dir is not None and server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    for messages in server._run_dir.glob(f"store/jetstream/*/streams/{essential.stream}/msgs"):
        shutil.rmtree(messages)
    await until(lambda: not broker.connected)
    await broker.wait_connected()
    await until(lambda: broker._restoring is not None and broker._restoring.done())
    await publish(broker, "cam-1", Priority.ESSENTIAL, b"new", "cam-1/s/7/0", {})
    client = await nats.connect(server.url)
    [message] = await (await client.jetstream().pull_subscribe_bind(essential.name, essential.stream)).fetch(1)
    assert message.data == b"new"
    await client.close()


@pytest.mark.parametrize("edge", ["", "a.b", "a*", ">", "a b", "x" * 65, "ü"])
async def test_an_edge_name_that_is_no_subject_token(broker, edge: str) -> None:
    with pytest.raises(SettingsError, match="edge name"):
        await broker.ensure_consumers(edge)
    with pytest.raises(SettingsError, match="edge name"):
        await publish(broker, edge, Priority.STANDARD, b"x", "id", {})


async def test_a_large_body_goes_in_parts(broker, look) -> None:
    body = os.urandom(3_000_000)
    [essential, *_] = await broker.ensure_consumers("cam-1")
    await publish(broker, "cam-1", Priority.ESSENTIAL, body, "cam-1/s/1/0", HEADERS)
    subscription = await look.pull_subscribe_bind(essential.name, essential.stream)
    received = [(await subscription.fetch(1))[0] for _ in range(6)]
    assert b"".join(message.data for message in received) == body
    assert [message.headers["Lamplight-Part"] for message in received] == [f"{n}/6" for n in range(1, 7)]
    assert [message.headers["Nats-Msg-Id"] for message in received] == [f"cam-1/s/1/0/{n}" for n in range(1, 7)]
    assert {message.headers["Lamplight-Bytes"] for message in received} == {"3000000"}
    assert {message.headers["Lamplight-Frame"] for message in received} == {"cam-1/s/1"}


async def test_the_same_attempt_is_kept_once_and_another_again(broker, look) -> None:
    for attempt in (0, 0, 1):
        await publish(broker, "cam-1", Priority.STANDARD, b"x", f"cam-1/s/1/{attempt}", HEADERS)
    assert (await look.stream_info("lamplight-results")).state.messages == 2


def test_parts_leave_room_for_headers() -> None:
    headers = {**HEADERS, "tracestate": "v=" + "x" * 500}
    messages = split(
        "cam-1", Priority.STANDARD, b"x" * 100_000, "cam-1/s/1/0", headers, max_payload=10_000, part_bytes=1 << 20
    )
    assert sum(len(message.body) for message in messages) == 100_000
    assert all(len(message.body) + header_bytes(message.headers) <= 9_000 for message in messages)


def test_an_empty_body_is_one_part() -> None:
    [message] = split("cam-1", Priority.STANDARD, b"", "id", {}, max_payload=1 << 20, part_bytes=1 << 20)
    assert message.headers["Lamplight-Part"] == "1/1" and message.body == b""


def test_a_server_that_takes_next_to_nothing_is_refused() -> None:
    with pytest.raises(PublishRefused, match="max_payload, 1024 bytes"):
        split("cam-1", Priority.STANDARD, b"x", "id", {}, max_payload=1024, part_bytes=1 << 20)


def test_headers_that_are_too_large_are_named() -> None:
    headers = {**HEADERS, "tracestate": "x" * 1_000_000}
    with pytest.raises(PublishRefused, match="headers take 1000.* tracestate alone has 1000000, shorten it"):
        split("cam-1", Priority.STANDARD, b"x", "id", headers, max_payload=1 << 20, part_bytes=1 << 20)


async def test_header_bytes_are_those_of_the_wire(server) -> None:
    sender, receiver = await nats.connect(server.url), await nats.connect(server.url)
    subscription = await receiver.subscribe("x")
    await receiver.flush()
    headers = {"Nats-Msg-Id": "cam-1/s/1/0/1", "tracestate": "a=b"}
    limit = sender.max_payload
    await sender.publish("x", b"x" * (limit - header_bytes(headers)), headers=headers)
    message = await subscription.next_msg(timeout=30)
    assert len(message.data) + header_bytes(headers) == limit
    await sender.close()
    await receiver.close()


async def test_a_message_that_is_too_large_with_its_headers_is_refused_here(broker) -> None:
    message = Message("lamplight.results.cam-1.standard", b"x" * (8 * 1024 * 1024), {"a": "b"})
    with pytest.raises(PublishRefused, match="max_payload"):
        await broker.send(message)
    assert broker.connected


async def test_a_client_that_the_server_threw_out_is_replaced(broker, look) -> None:
    client = broker._connection.client
    await client.publish("x", b"x" * client.max_payload, headers={"too": "large"})  # nats-py lets it pass
    await until(lambda: client.is_closed)
    await broker.wait_connected()
    assert broker._connection.client is not client
    await publish(broker, "cam-1", Priority.STANDARD, b"x", "cam-1/s/1/0", HEADERS)
    assert (await look.stream_info("lamplight-results")).state.messages == 1


async def test_the_late_answer_to_a_ping_that_was_given_up_does_no_harm(server, broker) -> None:
    """It ended nats-py's reader: connected as it seemed, the node heard nothing for half a minute."""
    client = broker._connection.client
    received = client._pongs_received
    assert server.pid is not None
    await stop_in_place(server.pid)
    with pytest.raises(nats.errors.TimeoutError):
        await client.flush(timeout=0.2)
    os.kill(server.pid, signal.SIGCONT)
    await until(lambda: client._pongs_received > received)
    await publish(broker, "cam-1", Priority.STANDARD, b"x", "cam-1/s/1/0", {})
    assert broker._connection.client is client and not client.deaf


async def test_a_client_that_hears_nothing_more_is_replaced(broker) -> None:
    client = broker._connection.client
    client._reading_task.cancel()
    await until(lambda: broker.connected and broker._connection.client is not client)
    await publish(broker, "cam-1", Priority.STANDARD, b"x", "cam-1/s/1/0", {})


async def test_memory_streams_and_consumers_are_made_again_after_a_restart(server, broker) -> None:
    consumers = await broker.ensure_consumers("cam-1")
    await publish(broker, "cam-1", Priority.ESSENTIAL, b"kept", "cam-1/s/1/0", HEADERS)
    await publish(broker, "cam-1", Priority.STANDARD, b"lost", "cam-1/s/2/0", HEADERS)
    old = server.pid
    os.kill(old, signal.SIGKILL)
    await until(lambda: not broker.connected)
    with pytest.raises(BrokerUnavailable, match="not connected"):
        await publish(broker, "cam-1", Priority.STANDARD, b"x", "cam-1/s/3/0", HEADERS)
    await broker.wait_connected()
    await until(lambda: broker._restoring is not None and broker._restoring.done())
    client = await nats.connect(server.url)
    look = client.jetstream()
    assert (await look.stream_info("lamplight-essential")).state.messages == 1
    assert (await look.stream_info("lamplight-results")).state.messages == 0
    for _, stream, name in consumers:
        assert (await look.consumer_info(stream, name)).name == name
    await client.close()


async def test_a_stream_that_vanished_is_made_again_by_a_publish(broker, look) -> None:
    await broker.ensure_consumers("cam-1")
    await look.delete_stream("lamplight-results")
    await publish(broker, "cam-1", Priority.STANDARD, b"x", "cam-1/s/1/0", HEADERS)
    assert (await look.stream_info("lamplight-results")).state.messages == 1
    await until(lambda: broker._restoring is not None and broker._restoring.done())
    assert (await look.consumer_info("lamplight-results", "cam-1-standard")).num_pending == 1


async def test_consumers_for_a_stream_that_vanished(broker, look) -> None:
    await look.delete_stream("lamplight-results")
    assert len(await broker.ensure_consumers("cam-1")) == 3


async def test_a_publish_under_way_fails_at_once_when_nats_is_killed(server, broker, monkeypatch) -> None:
    monkeypatch.setattr(broker_module, "PUBLISH_TIMEOUT_S", 600)
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    body = os.urandom(1000)

    async def kill_soon() -> None:
        await until(lambda: len(broker._acks) == 1)
        os.kill(pid, signal.SIGKILL)

    killing = asyncio.create_task(kill_soon())
    with pytest.raises(BrokerUnavailable, match="did not take a result"):
        await publish(broker, "cam-1", Priority.ESSENTIAL, body, "cam-1/s/1/0", HEADERS)
    await killing


async def test_nats_that_does_not_answer(free_port: int) -> None:
    with pytest.raises(BrokerUnavailable, match=f"127.0.0.1:{free_port}.*Connect call failed.*--nats URL"):
        await Broker.connect(f"nats://127.0.0.1:{free_port}", timeout_s=0.3)


async def test_a_wrong_password_is_refused_and_never_shown(server) -> None:
    with pytest.raises(BrokerUnavailable, match="Authorization") as refused:
        await Broker.connect(f"nats://node:hunter2@127.0.0.1:{server.port}", timeout_s=60)
    assert "hunter2" not in str(refused.value)


async def test_an_edge_may_not_make_streams(server, monkeypatch) -> None:
    broker = await Broker.connect(server.edge_url())
    monkeypatch.setattr(broker_module, "REQUEST_TIMEOUT_S", 0.3)
    with pytest.raises(BrokerUnavailable, match="did not answer about stream"):
        await broker.ensure_streams()
    await broker.close()


async def test_a_stream_of_another_kind_in_the_way(server, look) -> None:
    await look.add_stream(StreamConfig(name="lamplight-essential", subjects=["else"]))
    broker = await Broker.connect(server.url)
    with pytest.raises(BrokerUnavailable, match="refused stream lamplight-essential"):
        await broker.ensure_streams()
    await broker.close()


async def test_limits_that_do_not_fit(server) -> None:
    broker = await Broker.connect(server.url, others=StreamLimits(1 << 50, 300, 3))
    with pytest.raises(BrokerUnavailable, match="refused stream lamplight-results: insufficient"):
        await broker.ensure_streams()
    await broker.close()


def test_servers_are_listed_and_their_secrets_hidden() -> None:
    assert server_list("nats://a:1, nats://b:2,") == ["nats://a:1", "nats://b:2"]
    assert server_list(["nats://a, nats://b", "nats://c"]) == ["nats://a", "nats://b", "nats://c"]
    assert masked("nats://user:pa:ss@host:4222") == "nats://***@host:4222" == masked("nats://token@host:4222")
    assert masked("nats://host:4222") == "nats://host:4222"
    with pytest.raises(BrokerUnavailable, match="no NATS server is named"):
        server_list(" , ")


async def test_a_cluster_that_does_not_agree_yet_is_waited_for(tmp_path: Path) -> None:
    """One server of three answers and can decide nothing until a second is there."""
    ports = [free_port() for _ in range(6)]
    routes = ",".join(f"nats://127.0.0.1:{port}" for port in ports[3:])
    servers = []

    def start(number: int) -> None:
        command = [str(find_server()), "-js", "-n", f"n{number}", "-a", "127.0.0.1", "-p", str(ports[number])]
        command += ["-sd", str(tmp_path / f"store{number}"), "--cluster_name", "c", "--routes", routes]
        command += ["--cluster", f"nats://127.0.0.1:{ports[3 + number]}"]
        servers.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    start(0)
    try:
        broker = await Broker.connect(f"nats://127.0.0.1:{ports[0]}", timeout_s=60)
        with pytest.raises(BrokerUnavailable):
            await broker.ensure_streams()
        waiting = asyncio.create_task(broker.ensure_streams(120))
        await asyncio.sleep(1.0)
        assert not waiting.done()
        start(1)
        start(2)
        await waiting
        await broker.ensure_consumers("cam-1")
        replicated = await Broker.connect(f"nats://127.0.0.1:{ports[2]}", timeout_s=60, replicas=3)
        await replicated.ensure_streams(120)
        client = await nats.connect(f"nats://127.0.0.1:{ports[1]}")
        for stream in ("lamplight-essential", "lamplight-results"):
            assert (await client.jetstream().stream_info(stream)).config.num_replicas == 3
        await client.close()
        await replicated.close()
        await broker.close()
    finally:
        for server in servers:
            server.kill()
            server.wait()
