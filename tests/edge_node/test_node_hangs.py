"""A node whose reading stands still is told from one that waits for the world."""

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest
from hand_edges import serving
from PIL import Image
from results import until

from cloud_node.settings import CloudSettings, Limits
from common.errors import WeightsError
from common.text_detection import create_detector
from edge_node.node import EdgeNode
from edge_node.reader import Reader
from edge_node.results import Results
from edge_node.settings import EdgeSettings
from edge_node.sinks import Shown
from edge_node.sources import open_source


class Blocking:
    """A sink on a disk that hangs."""

    def __init__(self) -> None:
        self.entered, self.release = threading.Event(), threading.Event()

    def write(self, shown: Shown) -> None:
        self.entered.set()
        self.release.wait(60)

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where a node keeps frames unless it is told: another test's are none of this one's."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))


def node_at(address: str, folder: Path, sink: Blocking) -> EdgeNode:
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(folder / "a.png")
    given = EdgeSettings(source=str(folder), cloud=address)
    return EdgeNode(given, open_source(source=str(folder)), Reader(None), [sink])


async def test_a_disk_that_hangs_is_noticed(tmp_path: Path) -> None:
    sink = Blocking()
    async with serving(CloudSettings(limits=Limits(max_pixels=1))) as (_, address):  # each frame fails, and is read
        node = node_at(address, tmp_path, sink)
        running = asyncio.create_task(node.run(asyncio.Event()))
        await until(sink.entered.is_set)
        assert node.moving
        await until(lambda: node.steps.stuck(0.02).startswith("reader has stood still"))
        sink.release.set()
        await running
        assert not node.steps.stuck(0.0)


async def test_a_cloud_node_that_is_away_is_no_standstill(tmp_path: Path, free_port: int) -> None:
    node, stop = node_at(f"127.0.0.1:{free_port}", tmp_path, Blocking()), asyncio.Event()
    running = asyncio.create_task(node.run(stop))
    await until(lambda: node.moving)
    await asyncio.sleep(0.05)
    assert not node.connected and not node.steps.stuck(0.0), "frames wait, nothing hangs"
    stop.set()
    await running


async def test_a_detector_that_does_not_load_ends_the_node(tmp_path: Path, free_port: int) -> None:
    node = node_at(f"127.0.0.1:{free_port}", tmp_path, Blocking())
    (tmp_path / "other.pb").write_bytes(b"no network")
    node._arrivals._reader = Reader(create_detector("east", model=tmp_path / "other.pb"))
    with pytest.raises(WeightsError, match=r"other\.pb"):
        await node.run(asyncio.Event())


async def test_a_part_that_cannot_be_closed_leaves_the_sinks_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(self: Results) -> None:
        raise OSError("no")

    closed: list[bool] = []
    sink = Blocking()
    monkeypatch.setattr(sink, "close", lambda: closed.append(True))
    node = node_at("localhost:1", tmp_path, sink)
    monkeypatch.setattr(Results, "close", fails)
    await node._close([])
    node.source.close()
    assert closed == [True] and "a part of the node could not be closed" in caplog.text
