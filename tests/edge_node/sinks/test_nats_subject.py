"""Readings on NATS, with a real server that comes, goes and refuses."""

import asyncio
from collections.abc import AsyncIterator

import nats
import pytest
from http_receiver import until
from results import running_server

from common.errors import SettingsError
from common.nats_server import EmbeddedServer
from edge_node.sinks.nats_subject import ALERTS, READINGS, NatsSubject
from edge_node.sinks.outlet import Message, NotDelivered, Outlet, Refused, close_all


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with running_server() as server:
        yield server


async def test_readings_lie_on_the_edges_subject_with_an_id(server: EmbeddedServer) -> None:
    client = await nats.connect(server.url)
    heard = await client.subscribe("lamplight.*.gate-1")
    await client.flush()
    outlets = [Outlet(what, NatsSubject(server.url, what, "gate-1")) for what in (READINGS, ALERTS)]
    for outlet in outlets:
        outlet.put(Message("5f0c-1-1", b'{"schema": 1}'))
    messages = [await heard.next_msg(timeout=60) for _ in outlets]
    assert {message.subject for message in messages} == {"lamplight.readings.gate-1", "lamplight.alerts.gate-1"}
    assert all(message.data == b'{"schema": 1}' for message in messages)
    assert all(message.headers["Nats-Msg-Id"] == "5f0c-1-1" for message in messages)
    await asyncio.to_thread(close_all, outlets)
    await client.close()
    assert all(outlet.counts == {"delivered": 1} for outlet in outlets)


async def test_a_server_that_was_away_gets_what_waited(
    server: EmbeddedServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_node.sinks.nats_subject.WAIT_S", 0.2)
    url = server.url
    await server.stop()
    outlet = Outlet("readings", NatsSubject(url, READINGS, "gate-1"), first_delay_s=0.01)
    outlet.put(Message("a", b"{}"))
    await asyncio.to_thread(until, lambda: "not connected; trying again" in caplog.text)
    await server.start()
    monkeypatch.setattr("edge_node.sinks.nats_subject.WAIT_S", 30)
    await asyncio.to_thread(until, lambda: outlet.counts["delivered"] == 1)
    await server.stop()
    outlet.put(Message("b", b"{}"))
    await server.start()
    await asyncio.to_thread(until, lambda: outlet.counts["delivered"] == 2)
    await asyncio.to_thread(close_all, [outlet])
    assert url.split("@")[0].rpartition(":")[2] not in caplog.text


async def test_a_login_that_may_not_publish_is_told_apart_from_success(server: EmbeddedServer) -> None:
    """NATS does not answer what is published: whoever does not look believes that it arrived."""
    carrier = NatsSubject(server.edge_url(), READINGS, "gate-1")
    await carrier.open()
    for _ in range(2):
        with pytest.raises(Refused, match=r"may not publish on lamplight\.readings\.gate-1"):
            await carrier.send(Message("a", b"{}"))
    await carrier.close()


async def test_what_is_too_large_is_refused_and_the_connection_stays(server: EmbeddedServer) -> None:
    carrier = NatsSubject(server.url, READINGS, "gate-1")
    await carrier.open()
    with pytest.raises(Refused, match="max_payload"):
        await carrier.send(Message("a", bytes(8 * 1024 * 1024)))
    await carrier.send(Message("b", b"{}"))
    await carrier.close()


async def test_a_wrong_password_is_no_delivery(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_node.sinks.nats_subject.WAIT_S", 0.3)
    host = server.url.rpartition("@")[2]
    carrier = NatsSubject(f"nats://node:wrong@{host}", READINGS, "gate-1")
    await carrier.open()
    with pytest.raises(NotDelivered, match="not connected"):
        await carrier.send(Message("a", b"{}"))
    await carrier.close()
    assert "wrong" not in carrier.where


def test_an_edge_that_is_no_subject_is_refused() -> None:
    with pytest.raises(SettingsError, match="edge name"):
        NatsSubject("nats://127.0.0.1", READINGS, "a.>")
