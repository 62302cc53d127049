"""A real NATS server: what an enrolled edge may do there, and what it may not."""

import asyncio
import contextlib
import functools
import json
import shutil
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import nats.errors
import pytest
from enrolled import authority, bundle, enrolled, secured_nats
from nats.aio.client import Client
from results import make_result

from cloud_node.identity.authority import Authority
from cloud_node.identity.claims import _body
from cloud_node.identity.node import NodeIdentity
from cloud_node.identity.pushing import ClaimsPusher
from common.broker import Broker
from common.errors import BrokerUnavailable
from common.frame import Priority
from common.identity import EDGE_API, EDGE_MAX_PAYLOAD, Bundle, Identity, inbox_of, trusting
from common.nats_connection import Connection, Login, SecureClient, close_client
from common.nats_server import EmbeddedServer
from common.subjects import HEADER_FRAME, HEADER_MESSAGE_ID, consumer_of, header_bytes
from common.wire import result_to_proto
from edge_node.downlink import Downlink
from edge_node.sinks.nats_subject import READINGS, NatsSubject
from edge_node.sinks.outlet import Message, Refused

STREAM = "lamplight-results"
HANG_S = 120


class Place:
    """An authority, a NATS server under it, and a broker that keeps results of two edges."""

    def __init__(self, made: Authority, node: NodeIdentity, server: EmbeddedServer, broker: Broker) -> None:
        self.authority, self.node, self.server, self.broker = made, node, server, broker

    async def publish(self, edge: str, sequence: int) -> None:
        made = make_result(sequence, edge=edge, session="s")
        body, headers = result_to_proto(made).SerializeToString(), {HEADER_FRAME: str(made.id)}
        for message in self.broker.split(edge, Priority.STANDARD, body, f"{made.id}/0", headers):
            await self.broker.send(message)

    async def stored(self, edge: str) -> int:
        js = self.broker._connection.client.jetstream()
        held = (await js.stream_info(STREAM, subjects_filter=">")).state.subjects or {}
        return held.get(f"lamplight.results.{edge}.standard", 0)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    made = authority(tmp_path)
    node = NodeIdentity(made.node)
    async with secured_nats(node) as server:
        broker = await Broker.connect(server.url, login=node.login)
        await broker.ensure_streams()
        for edge in ("edge-17", "edge-18"):
            await broker.ensure_consumers(edge)
        yield Place(made, node, server, broker)
        await broker.close()


@contextlib.asynccontextmanager
async def session(url: str, login: Login, kind: type[Client] = SecureClient) -> AsyncIterator[tuple[Client, list[str]]]:
    """A client, and what the server complains of."""
    said: list[str] = []

    async def note(error: Exception) -> None:
        said.append(str(error))

    client = kind()
    try:
        await client.connect(
            url, error_cb=note, allow_reconnect=False, max_reconnect_attempts=1, connect_timeout=5, **login.options()
        )
        yield client, said
    finally:
        await close_client(client)


def api(edge: str, verb: str = "MSG.NEXT") -> str:
    consumer = consumer_of(edge, Priority.STANDARD)
    return f"{EDGE_API}.CONSUMER.{verb}.{consumer.stream}.{consumer.name}"


async def test_an_edge_gets_its_own_results_and_acknowledges_them(place: Place) -> None:
    identity, got = enrolled(place.authority, "edge-17"), asyncio.Queue()
    consumers = [tuple(consumer_of("edge-17", priority)) for priority in Priority]
    downlink = Downlink(place.server.edge_url(), consumers, edge="edge-17", session="s", identity=identity)

    async def take(taken: object, size: int) -> None:
        got.put_nowait(taken)

    running = asyncio.create_task(downlink.run(take))
    await place.publish("edge-18", 1)
    for sequence in range(3):
        await place.publish("edge-17", sequence)
    async with asyncio.timeout(HANG_S):
        assert sorted([(await got.get()).id.sequence for _ in range(3)]) == [0, 1, 2]
        while await place.stored("edge-17"):
            await asyncio.sleep(0.05)
    assert await place.stored("edge-18") == 1 and downlink.foreign == 0
    await downlink.close()
    await running


MAY_NOT_PUBLISH = (
    api("edge-18"),
    api("edge-18", "INFO"),
    f"$JS.ACK.{STREAM}.edge-18-standard.1.1.1.1.0",
    f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.edge-18-standard",
    f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.edge-17-standard",
    f"{EDGE_API}.CONSUMER.CREATE.{STREAM}",
    f"$JS.API.CONSUMER.CREATE.{STREAM}",
    f"$JS.API.CONSUMER.DURABLE.CREATE.{STREAM}.mine",
    f"$JS.API.CONSUMER.DELETE.{STREAM}.edge-18-standard",
    f"$JS.API.STREAM.MSG.GET.{STREAM}",
    f"$JS.API.DIRECT.GET.{STREAM}",
    f"$JS.API.STREAM.PURGE.{STREAM}",
    f"$JS.API.STREAM.DELETE.{STREAM}",
    "$JS.API.STREAM.CREATE.mine",
    "$SYS.REQ.CLAIMS.UPDATE",
    "$SYS.REQ.SERVER.PING",
    "lamplight.results.edge-17.standard",
    "lamplight.results.edge-18.standard",
    "lamplight.readings.edge-18",
    "lamplight.alerts.edge-18",
    "_INBOX.x",
    "_INBOX_edge-18.x",
)
MAY_NOT_HEAR = (
    "lamplight.results.edge-17.standard",
    "lamplight.results.edge-18.standard",
    "lamplight.results.>",
    ">",
    "*.>",
    "_INBOX.>",
    "_INBOX_edge-18.>",
    "lamplight.readings.*",
    "$SYS.>",
    "$JS.>",
    "$JS.API.>",
    f"{EDGE_API}.>",
)


async def complaint(said: list[str]) -> str:
    """The server's next."""
    async with asyncio.timeout(HANG_S):
        while not said:
            await asyncio.sleep(0.005)
    return said.pop(0).lower()


async def test_an_edge_may_publish_nothing_but_its_own(place: Place) -> None:
    await place.publish("edge-18", 1)
    login = enrolled(place.authority, "edge-17").login("edge-17")
    async with session(place.server.edge_url(), login) as (client, said):
        for subject in MAY_NOT_PUBLISH:
            await client.publish(subject, json.dumps({"batch": 1, "seq": 1}).encode(), reply=client.new_inbox())
            complained = await complaint(said)
            assert "permissions violation for publish" in complained and subject.lower() in complained
    assert await place.stored("edge-18") == 1


async def test_an_edge_may_hear_nothing_but_its_own(place: Place) -> None:
    heard = []

    async def hear(message: object) -> None:
        heard.append(message)

    login = enrolled(place.authority, "edge-17").login("edge-17")
    async with session(place.server.edge_url(), login) as (client, said):
        for subject in MAY_NOT_HEAR:
            await client.subscribe(subject, cb=hear)
            complained = await complaint(said)
            assert "permissions violation for subscription" in complained and subject.lower() in complained
        for edge in ("edge-17", "edge-18"):
            await place.publish(edge, 1)
        await client.request(api("edge-17", "INFO"), b"")
        assert not heard and client.is_connected


async def test_an_answer_cannot_be_sent_into_anothers_results(place: Place) -> None:
    """JetStream answers wherever it is asked to, with its own rights: so edges have an account without streams."""
    await place.publish("edge-17", 1)
    target = "lamplight.results.edge-18.standard"
    async with session(place.server.edge_url(), enrolled(place.authority, "edge-17").login("edge-17")) as (
        client,
        said,
    ):
        for verb in ("INFO", "MSG.NEXT"):
            await client.publish(api("edge-17", verb), b'{"batch":1,"expires":1000000000}', reply=target)
        await client.flush()
        await client.request(api("edge-17", "INFO"), b"")  # those before it were answered
    assert await place.stored("edge-18") == 0 and not said


@pytest.mark.parametrize("verb", ["INFO", "MSG.NEXT"])
async def test_an_answer_cannot_be_sent_to_a_service_and_end_the_server(verb: str, place: Place) -> None:
    """An answer that met an import again was mapped beyond its end: nats-server before 2.10.27 panicked."""
    pid, before = place.server.pid, place.authority.enroll(["edge-18"])
    await place.publish("edge-17", 1)
    await place.publish("edge-18", 1)
    targets = [api(edge, other) for edge in ("edge-17", "edge-18") for other in ("INFO", "MSG.NEXT")]
    targets += [f"$JS.ACK.{STREAM}.edge-18-standard.1.1.1.1.0", "_R_.x.y", "lamplight.readings.edge-18"]
    async with session(place.server.edge_url(), enrolled(place.authority, "edge-17").login("edge-17")) as (client, _):
        for target in targets:
            await client.publish(api("edge-17", verb), b'{"batch":1,"expires":1000000000}', reply=target)
        await client.flush()
        assert b"num_pending" in (await client.request(api("edge-17", "INFO"), b"")).data
    async with session(
        place.server.edge_url(), Login(before.credentials[0], trusting(before.authority), inbox_of("edge-18"))
    ) as (other, _):
        found = json.loads((await other.request(api("edge-18", "INFO"), b"")).data)
    assert found["num_pending"] == 1 and not found["num_ack_pending"] and not found["num_waiting"]
    assert place.server.pid == pid and place.broker.connected


@pytest.mark.parametrize("excess", ["subscriptions", "payload"])
async def test_a_login_has_limits_and_ends_alone(excess: str, place: Place) -> None:
    url = place.server.edge_url()
    async with (
        session(url, enrolled(place.authority, "edge-17").login("edge-17")) as (client, _),
        session(url, enrolled(place.authority, "edge-18").login("edge-18")) as (other, _),
    ):
        for number in range(50):
            await client.subscribe(f"_INBOX_edge-17.{number}")
        await client.publish("lamplight.readings.edge-17", bytes(EDGE_MAX_PAYLOAD))
        await client.request(api("edge-17", "INFO"), b"")
        with contextlib.suppress(nats.errors.Error, OSError):
            if excess == "payload":
                await client.publish("lamplight.readings.edge-17", bytes(EDGE_MAX_PAYLOAD + 1))
            else:
                for number in range(50, 80):
                    await client.subscribe(f"_INBOX_edge-17.{number}")
        async with asyncio.timeout(HANG_S):
            while client.is_connected:
                await asyncio.sleep(0.02)
        await other.request(api("edge-18", "INFO"), b"")
        assert place.broker.connected


async def test_a_sink_of_an_enrolled_edge_sends_nothing_for_which_the_server_would_hang_up(place: Place) -> None:
    login = functools.partial(enrolled(place.authority, "edge-17").login, "edge-17")
    sink = NatsSubject(place.server.edge_url(), READINGS, "edge-17", login)
    most = EDGE_MAX_PAYLOAD - header_bytes({HEADER_MESSAGE_ID: "a"})
    await sink.open()
    await sink.send(Message("a", bytes(most)))
    client = sink._connection.client
    for size in (most + 1, 4 * EDGE_MAX_PAYLOAD):
        with pytest.raises(Refused, match="1,048,576 that an enrolled edge may publish"):
            await sink.send(Message("a", bytes(size)))
    await sink.send(Message("b", b"{}"))
    assert sink._connection.client is client and client.is_connected
    await sink.close()


async def test_the_longest_names_and_a_device_of_many_cameras_log_in(place: Place) -> None:
    names = [f"{'a' * 61}-{number:02d}" for number in range(64)]
    identity = enrolled(place.authority, *names)
    assert Bundle.from_json(identity.path.read_text()).edges == tuple(names)
    await place.broker.ensure_consumers(names[-1])
    async with session(place.server.edge_url(), identity.login(names[-1])) as (client, _):
        assert b"num_pending" in (await client.request(api(names[-1], "INFO"), b"")).data


async def test_readings_are_heard_by_the_results_account_alone(place: Place) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def hear(message: object) -> None:
        heard.put_nowait(message.subject)

    await place.broker._connection.client.subscribe("lamplight.readings.*", cb=hear)
    await place.broker._connection.client.flush()
    async with session(place.server.edge_url(), enrolled(place.authority, "edge-17").login("edge-17")) as (
        client,
        said,
    ):
        await client.publish("lamplight.readings.edge-17", b"{}")
        async with asyncio.timeout(HANG_S):
            assert await heard.get() == "lamplight.readings.edge-17"


async def test_revoked_and_expired_logins_are_closed_and_a_new_edge_needs_no_reload(
    place: Place, tmp_path: Path
) -> None:
    identity = enrolled(place.authority, "edge-17")
    kept = enrolled(place.authority, "edge-18")  # after the server was started, as all of them
    pusher = asyncio.create_task(ClaimsPusher(place.server.url, place.node).run())
    watching = asyncio.create_task(place.node.run())
    url = place.server.edge_url()
    async with (
        session(url, identity.login("edge-17")) as (client, _),
        session(url, kept.login("edge-18")) as (other, _),
    ):
        place.authority.revoke("edge-17")
        async with asyncio.timeout(HANG_S):
            while client.is_connected:
                await asyncio.sleep(0.05)
        assert other.is_connected
        await other.request(api("edge-18", "INFO"), b"")
    with pytest.raises(nats.errors.Error, match="Authorization"):
        async with session(url, identity.login("edge-17")):
            pass
    async with session(url, enrolled(place.authority, "edge-17").login("edge-17")):
        pass
    short = enrolled(place.authority, "edge-17", days=2 / 86_400)
    async with session(url, short.login("edge-17")) as (client, _), asyncio.timeout(HANG_S):
        while client.is_connected:
            await asyncio.sleep(0.05)
    await asyncio.sleep(max(0.0, short.bundle.expires_s + 1.1 - time.time()))
    with pytest.raises(nats.errors.Error, match="Authorization"):
        async with session(url, short.login("edge-17")):
            pass
    for task in (pusher, watching):
        task.cancel()
    await asyncio.gather(pusher, watching, return_exceptions=True)


async def test_former_logins_of_cloud_nodes_are_void_when_they_are_forgotten(place: Place) -> None:
    former, url = place.node.login(), place.server.url
    pusher = asyncio.create_task(ClaimsPusher(url, place.node).run())
    watching = asyncio.create_task(place.node.run())
    async with session(url, former) as (client, _):
        place.authority.rotate()
        async with asyncio.timeout(HANG_S):
            while place.node.login().credentials == former.credentials:
                await asyncio.sleep(0.05)
        assert client.is_connected
        place.authority.forget_former()
        async with asyncio.timeout(HANG_S):
            while client.is_connected:
                await asyncio.sleep(0.05)
    with pytest.raises(nats.errors.Error, match="Authorization"):
        async with session(url, former):
            pass
    async with asyncio.timeout(HANG_S):
        await place.broker.wait_connected()  # again, with the new one
    await place.publish("edge-17", 1)
    assert await place.stored("edge-17") == 1
    for task in (pusher, watching):
        task.cancel()
    await asyncio.gather(pusher, watching, return_exceptions=True)


async def test_nobody_else_comes_in(place: Place, tmp_path: Path) -> None:
    identity = enrolled(place.authority, "edge-17")
    mine = identity.login("edge-17")
    (tmp_path / "other").mkdir()
    other = enrolled(authority(tmp_path / "other"), "edge-17")
    forged = other.login("edge-17").credentials
    token, seed = mine.credentials.split("\n")[1], forged.split("\n")[5]
    stolen = mine.credentials.replace(mine.credentials.split("\n")[5], seed)  # the token without its key
    head, _, signature = token.split(".")
    others = forged.split("\n")[1].split(".")[1]
    altered = mine.credentials.replace(token, f"{head}.{others}.{signature}")
    for credentials in (forged, stolen, altered):
        with pytest.raises(nats.errors.Error, match="Authorization"):
            async with session(place.server.edge_url(), replace(mine, credentials=credentials)):
                pass
    client = Client()
    with pytest.raises((nats.errors.Error, ssl.SSLError)):
        await client.connect(f"tls://localhost:{place.server.port}", tls=mine.tls, allow_reconnect=False)
    await close_client(client)
    for user in ("node", "edge", "", "results"):  # the passwords of a server without an authority
        client = Client()
        with pytest.raises((nats.errors.Error, ssl.SSLError)):
            url = f"tls://{user}:x@localhost:{place.server.port}"
            await client.connect(url, tls=mine.tls, allow_reconnect=False)
        await close_client(client)


async def test_a_server_of_another_authority_or_without_tls_gets_no_login(place: Place, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = enrolled(authority(tmp_path / "other"), "edge-17")
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        async with session(place.server.edge_url(), other.login("edge-17")):
            pass
    heard = bytearray()

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Says that it wants no TLS, as one in the middle would."""
        info = {"server_id": "x", "version": "2.9.10", "max_payload": 1048576, "auth_required": True, "nonce": "abc"}
        writer.write(f"INFO {json.dumps(info)}\r\n".encode())
        heard.extend(await reader.read(4096))
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    login = enrolled(place.authority, "edge-17").login
    connection = Connection(f"nats://127.0.0.1:{port}", name="x", login=lambda: login("edge-17"))
    with pytest.raises(BrokerUnavailable):
        await connection.open(1.0)
    await connection.close()
    server.close()
    assert heard and b"CONNECT" not in heard and b"eyJ" not in heard and heard[0] == 0x16  # a TLS handshake alone
    with pytest.raises(BrokerUnavailable, match="tls://"):
        Connection("ws://localhost:1", name="x", login=lambda: login("edge-17"))


async def test_the_servers_certificate_is_replaced_while_it_runs(place: Place) -> None:
    async def certificate() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", place.server.port)
        await reader.readline()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        await writer.start_tls(context)
        found = writer.get_extra_info("ssl_object").getpeercert(True)
        writer.transport.abort()
        return bytes(found)

    before = await certificate()
    place.authority.rotate()
    place.server.reload()
    async with asyncio.timeout(HANG_S):
        while await certificate() == before:
            await asyncio.sleep(0.1)
    async with session(place.server.edge_url(), enrolled(place.authority, "edge-17").login("edge-17")) as (client, _):
        await client.request(api("edge-17", "INFO"), b"")
    assert place.broker.connected


async def test_a_server_of_ones_own_runs_with_nats_conf(tmp_path: Path) -> None:
    """Outside of a cloud node, in the folder that was copied there."""
    from common.nats_server import find_server

    made = authority(tmp_path)
    node = NodeIdentity(made.node)
    conf = json.loads((made.node / "nats.conf").read_text())
    claims = json.loads((made.node / "nats.json").read_text())["accounts"][made._edges.public]
    assert conf["max_connections"] > _body(claims)["nats"]["limits"]["conn"] > 0  # cloud nodes always come in
    assert conf["max_subscriptions"] and conf["max_pending"]
    (made.node / "test.conf").write_text(json.dumps({**conf, "host": "127.0.0.1", "port": -1, "ports_file_dir": "."}))
    process = await asyncio.create_subprocess_exec(
        str(find_server()), "-c", "test.conf", cwd=made.node, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(HANG_S):
            while not (found := list(made.node.glob("*.ports"))) or not found[0].read_text():
                await asyncio.sleep(0.05)
        url = json.loads(found[0].read_text())["nats"][0].replace("nats://", "tls://")
        broker = await Broker.connect(url, login=node.login)
        await broker.ensure_streams()
        await broker.ensure_consumers("edge-17")
        login = Identity(bundle(made, "edge-17")).login("edge-17")
        async with session(url, login) as (client, _):
            assert json.loads((await client.request(api("edge-17", "INFO"), b"")).data)["name"] == "edge-17-standard"
        await broker.close()
    finally:
        process.terminate()
        await process.wait()


async def test_a_node_with_an_older_folder_takes_no_revocation_back(place: Place, tmp_path: Path) -> None:
    old = NodeIdentity(shutil.copytree(place.authority.node, tmp_path / "old"))
    thief, url = enrolled(place.authority, "edge-17"), place.server.edge_url()
    place.authority.revoke("edge-17")
    new = NodeIdentity(place.authority.node)

    async def system(client: Client, account: str) -> str:
        return (await client.request(f"$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP", b"")).data.decode()

    async def until_it_has(client: Client, tokens: dict[str, str]) -> None:
        async with asyncio.timeout(HANG_S):
            while {name: await system(client, name) for name in tokens} != tokens:
                await asyncio.sleep(0.02)

    pushers = []
    async with session(place.server.url, new.system_login()) as (client, _):
        pushers.append(asyncio.create_task(ClaimsPusher(place.server.url, new, 0.2).run()))
        await until_it_has(client, new.now.accounts)
        older = ClaimsPusher(place.server.url, old, 0.2)
        pushers.append(asyncio.create_task(older.run()))
        async with asyncio.timeout(HANG_S):
            while not older._older:  # it has looked
                await asyncio.sleep(0.02)
        await until_it_has(client, new.now.accounts)
        with pytest.raises(nats.errors.Error, match="Authorization"):
            async with session(url, thief.login("edge-17")):
                pass
        for token in old.now.accounts.values():  # as one of another version would; it is put right again
            await client.request("$SYS.REQ.CLAIMS.UPDATE", token.encode())
        await until_it_has(client, new.now.accounts)
    for task in pushers:
        task.cancel()
    await asyncio.gather(*pushers, return_exceptions=True)
    with pytest.raises(nats.errors.Error, match="Authorization"):
        async with session(url, thief.login("edge-17")):
            pass


async def test_bundles_of_a_forgotten_authority_are_void(place: Place) -> None:
    former, url = enrolled(place.authority, "edge-17"), place.server.edge_url()
    pusher = asyncio.create_task(ClaimsPusher(place.server.url, place.node).run())
    watching = asyncio.create_task(place.node.run())
    async with session(url, former.login("edge-17")) as (client, _):
        place.authority.rotate_authority()
        kept = enrolled(place.authority, "edge-18")
        place.authority.rotate()
        place.server.reload()
        await client.request(api("edge-17", "INFO"), b"")
        place.authority.forget_former()
        async with asyncio.timeout(HANG_S):
            while client.is_connected:
                await asyncio.sleep(0.05)
    login = replace(kept.login("edge-18"), credentials=former.login("edge-17").credentials)  # it trusts the server
    with pytest.raises(nats.errors.Error, match="Authorization"):
        async with session(url, login):
            pass
    async with session(url, kept.login("edge-18")) as (client, _):
        await client.request(api("edge-18", "INFO"), b"")
    for task in (pusher, watching):
        task.cancel()
    await asyncio.gather(pusher, watching, return_exceptions=True)
