import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator

import pytest

from cloud_node.http import HttpServer
from common.errors import PortInUse


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
