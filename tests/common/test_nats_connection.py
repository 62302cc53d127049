"""Connections to a server that is somebody in the middle."""

import asyncio
import json
import ssl
from collections.abc import Callable

import pytest

from common.errors import BrokerUnavailable, SettingsError
from common.nats_connection import Connection, Login
from edge_node.sinks.nats_subject import READINGS, NatsSubject


async def heard_in_the_middle(connect: Callable[[str], Connection]) -> bytes:
    """What a server hears that says it wants no TLS; the connection is made to HOST:PORT."""
    heard = bytearray()

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "x", "version": "2.9.10", "max_payload": 1048576, "auth_required": True}
        writer.write(f"INFO {json.dumps(info)}\r\n".encode())
        heard.extend(await reader.read(4096))
        writer.write(b"-ERR 'Authorization Violation'\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    connection = connect(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    with pytest.raises(BrokerUnavailable):
        await connection.open(1.0)
    await connection.close()
    server.close()
    return bytes(heard)


def edge_login() -> Login:
    return Login("", ssl.create_default_context())


@pytest.mark.parametrize("login", [None, edge_login], ids=["no identity", "enrolled"])
async def test_nobody_in_the_middle_talks_a_sink_out_of_tls(login: Callable[[], Login] | None) -> None:
    def connect(address: str) -> Connection:
        return NatsSubject(f"tls://me:hush@{address}", READINGS, "gate-1", login)._connection

    heard = await heard_in_the_middle(connect)
    assert heard and heard[0] == 0x16 and b"hush" not in heard  # a TLS handshake alone


async def test_of_several_servers_each_is_taken_at_its_word() -> None:
    heard = await heard_in_the_middle(lambda address: Connection(f"nats://me:seen@{address}", name="x"))
    assert b"seen" in heard  # as it was asked to
    heard = await heard_in_the_middle(lambda address: Connection(f"tls://{address},nats://127.0.0.1:1", name="x"))
    assert heard[0] == 0x16


def test_a_login_in_one_address_does_not_drop_the_edges_for_all() -> None:
    with pytest.raises(SettingsError, match="to all or to none") as raised:
        NatsSubject("tls://hub:4222,tls://me:hush@other:4222", READINGS, "gate-1", edge_login)
    assert "hush" not in str(raised.value)
