"""Readings of several edges, followed from a terminal: a real process and a real NATS server."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from enrolled import authority, bundle, secured_nats
from results import running_server
from sights import make_sight

from cloud_node.identity.node import NodeIdentity
from common.identity import login_of
from common.nats_server import EmbeddedServer
from edge_node.alerts.alert import Alert, message_of
from edge_node.listen import in_words
from edge_node.sinks.nats_subject import ALERTS, READINGS, NatsSubject
from edge_node.sinks.options import SinkOptions, published
from edge_node.sinks.outlet import Outlet, close_all

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with running_server() as server:
        yield server


async def test_readings_and_alerts_of_every_edge_are_printed(server: EmbeddedServer) -> None:
    listener = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge_node", "listen", "--nats", server.url,
        cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert listener.stdout is not None
    async with asyncio.timeout(60):
        first = (await listener.stdout.readline()).decode()
        assert "listening to lamplight.readings.*, lamplight.alerts.*" in first and "node:" not in first
        sink = published(SinkOptions(readings_nats=server.url), "gate-1")
        assert sink is not None
        sink.sights([make_sight(1, "EXIT \x1b[2J")])
        line = (await listener.stdout.readline()).decode()
        assert "gate-1       new      EXIT \\x1b[2J  0.90, 3 frames" in line
        alert = Outlet("alerts", NatsSubject(server.url, ALERTS, "gate-2"))
        alert.put(message_of(Alert("exit", make_sight(2, "EX1T", edge="gate-2"), 1).to_json()))
        assert "gate-2       ALERT exit EX1T" in (await listener.stdout.readline()).decode()
        listener.send_signal(signal.SIGTERM)
        assert await listener.wait() == 0
    await asyncio.to_thread(sink.close)
    await asyncio.to_thread(close_all, [alert])


@pytest.mark.parametrize(
    "data", [b"", b"\xff\x1b", b"[]", b'{"sight": {"last_unix_ns": 1e300}}', json.dumps({}).encode()]
)
def test_what_is_no_message_of_ours_is_shown_and_harmless(data: bytes) -> None:
    assert in_words(data).isprintable()


async def test_where_edges_are_enrolled_their_readings_are_heard_with_the_nodes_login(tmp_path: Path) -> None:
    """And an address with a login of its own is asked with that one, by an enrolled edge too."""
    trust = authority(tmp_path)
    given = bundle(trust, "gate-1")
    async with secured_nats(NodeIdentity(trust.node)) as secured, running_server() as plain:
        url = f"tls://localhost:{secured.port}"
        listener = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "edge_node", "listen", "--json", "--nats", url, "--identity", trust.node,
            cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        assert listener.stdout is not None
        login = login_of(given, "gate-1")
        async with asyncio.timeout(60):
            assert "listening to" in (await listener.stdout.readline()).decode()
            sink = published(SinkOptions(readings_nats=url), "gate-1", login)
            assert sink is not None
            sink.sights([make_sight(1, "EXIT \x1b[2J")])
            line = (await listener.stdout.readline()).decode()
            assert json.loads(line)["sight"]["text"].startswith("EXIT") and "\x1b" not in line
            listener.send_signal(signal.SIGTERM)
            assert await listener.wait() == 0
            elsewhere = NatsSubject(plain.url, READINGS, "gate-1", login)
            assert await elsewhere.probe() == "takes this login"
        await asyncio.to_thread(sink.close)
