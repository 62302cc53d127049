import asyncio
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from enrolled import authority

from cloud_node.http import HttpServer
from cloud_node.identity.node import NodeIdentity
from common.errors import PortInUse
from common.identity import trusting


class Node:
    """What the server asks."""

    def __init__(self) -> None:
        self.reason = ""
        self.edges = 3


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
async def server(node: Node) -> AsyncIterator[HttpServer]:
    made = HttpServer("127.0.0.1", 0, lambda: node.reason, lambda: {"edges": node.edges})
    made.start()
    yield made
    await made.stop()


async def get(server: HttpServer, path: str) -> tuple[int, str]:
    def fetch() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{server.address}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(fetch)


async def test_ready_says_why_not(server: HttpServer, node: Node) -> None:
    assert await get(server, "/readyz") == (200, "ready\n")
    node.reason = "it is stopping"
    assert await get(server, "/readyz") == (503, "it is stopping\n")
    assert await get(server, "/livez") == (200, "alive\n")


async def test_status_is_json(server: HttpServer) -> None:
    code, body = await get(server, "/status")
    assert code == 200 and json.loads(body) == {"edges": 3}
    assert (await get(server, "/"))[0] == 404


async def test_a_taken_port_is_told(server: HttpServer) -> None:
    port = int(server.address.rpartition(":")[2])
    with pytest.raises(PortInUse, match=f"--http cannot listen on 127.0.0.1:{port}"):
        HttpServer("127.0.0.1", port, str, dict)


async def test_stopping_frees_the_port(node: Node) -> None:
    first = HttpServer("127.0.0.1", 0, str, dict)
    first.start()
    await asyncio.sleep(0)
    port = int(first.address.rpartition(":")[2])
    await first.stop()
    await first.stop()
    second = HttpServer("127.0.0.1", port, str, dict)  # raises while the port is taken
    assert second.address == first.address
    await second.stop()


async def test_with_an_identity_status_is_for_who_knows_the_token_and_the_certificate_may_change(
    tmp_path: Path,
) -> None:
    made = authority(tmp_path)
    node, files = NodeIdentity(made.node), (made.node / "server.crt", made.node / "server.key")
    server = HttpServer("127.0.0.1", 0, lambda: "", lambda: {"edges": 3}, tls=files, token=lambda: node.now.http_token)
    server.start()
    trusted = trusting((made.folder / "ca.crt").read_text())

    def ask(path: str, token: str = "") -> tuple[int, bytes, bytes]:
        """Status, body, and the certificate that was shown."""
        connection = http.client.HTTPSConnection("localhost", int(server.address.rpartition(":")[2]), context=trusted)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
            shown = connection.sock.getpeercert(True)
            answer = connection.getresponse()
            return answer.status, answer.read(), shown
        finally:
            connection.close()

    async with asyncio.timeout(60):
        assert (await asyncio.to_thread(ask, "/livez"))[:2] == (200, b"alive\n")
        assert (await asyncio.to_thread(ask, "/readyz"))[:2] == (200, b"ready\n")
        for token in ("", "x", node.now.http_token[:-1], "é"):
            status, body, _ = await asyncio.to_thread(ask, "/status", token)
            assert status == 401 and b"edges" not in body
        status, body, before = await asyncio.to_thread(ask, "/status", node.now.http_token)
        assert status == 200 and json.loads(body) == {"edges": 3}
        made.rotate()
        server.reload()
        assert (await asyncio.to_thread(ask, "/livez"))[2] != before
    await server.stop()
