"""Where the node's frames go: a real gRPC server that keeps silent, and this device's own network."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image
from processes import dark_sign
from running import run_node
from scripted import Parts

from common.channel import server_options
from common.frame import FrameId, Outcome, Priority, Reading, Result, Route
from common.settings import load
from edge_node.local_enhancer import LocalEnhancer
from edge_node.node import EdgeNode
from edge_node.reader import Reader
from edge_node.settings import EdgeSettings
from edge_node.sinks import Shown
from edge_node.sources import open_source
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import enhancement_pb2_grpc, frame_pb2

DARK = np.asarray(dark_sign("GATE", (160, 120)))


class Silent(enhancement_pb2_grpc.EnhancementServicer):
    """Takes frames and gives credit, and nothing ever comes back."""

    def __init__(self) -> None:
        self.frames: list[frame_pb2.Frame] = []

    async def Stream(self, requests, context) -> AsyncIterator[pb.CloudMessage]:
        parts = Parts()
        async for message in requests:
            match message.WhichOneof("message"):
                case "open":
                    limits = {"window_frames": 4, "window_bytes": 10**8, "max_pixels": 10**8, "max_frame_bytes": 10**8}
                    nobody = pb.ResultsAddress(servers=["nats://127.0.0.1:1"])
                    yield pb.CloudMessage(opened=pb.Opened(model="silent-1", results=nobody, **limits))
                case "frame" | "part":
                    if (frame := parts.whole(message)) is None:
                        continue
                    self.frames.append(frame)
                    yield pb.CloudMessage(credit=pb.Credit(frames=1, bytes=len(frame.image.payload)))
                case "close":
                    return


class Kept:
    def __init__(self) -> None:
        self.readings: list[Reading] = []

    def write(self, shown: Shown) -> None:
        self.readings.append(shown.reading)

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where a node keeps frames unless it is told: another test's are none of this one's."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))


@pytest.fixture
async def cloud() -> AsyncIterator[tuple[Silent, str]]:
    server, silent = grpc.aio.server(options=server_options()), Silent()
    enhancement_pb2_grpc.add_EnhancementServicer_to_server(silent, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield silent, f"127.0.0.1:{port}"
    await server.stop(0)


def save(folder: Path, *pictures: np.ndarray) -> Path:
    for number, rgb in enumerate(pictures):
        Image.fromarray(rgb.astype(np.uint8)).save(folder / f"{number}.png")
    return folder


async def run(
    address: str, source: Path, *flags: str, stop_when: Callable[[], bool] | None = None, kept: Kept | None = None
) -> tuple[EdgeNode, list[Reading]]:
    """Run a node with this device's own network to its end; its readings in the order of the frames."""
    given = load(EdgeSettings, ["--source", str(source), "--cloud", address, "--edge", "e", *flags], {})
    kept = kept or Kept()
    node = EdgeNode(given, open_source(source=str(source)), Reader(None), [kept], LocalEnhancer())
    await run_node(node, stop_when)
    found = sorted(kept.readings, key=lambda reading: reading.id.sequence)
    assert [reading.id.sequence for reading in found] == list(range(len(found))), "one reading for each frame"
    return node, found


async def test_bright_frames_stay_at_home(cloud, tmp_path: Path) -> None:
    silent, address = cloud
    node, found = await run(address, save(tmp_path, *[np.full((60, 80, 3), 200 + number) for number in range(5)]))
    assert [(reading.outcome, reading.path) for reading in found] == [(Outcome.AS_IS, Route.NONE)] * 5
    assert all(reading.bytes_up == reading.bytes_down == 0 and reading.bytes_raw == 14400 for reading in found)
    assert node.gate.counts == {"bright": 5} and node.ledger.paths == {Route.NONE: 5} and not silent.frames


async def test_a_result_for_a_frame_that_was_never_sent_is_no_reading(tmp_path: Path) -> None:
    given = load(EdgeSettings, ["--source", str(save(tmp_path, DARK)), "--edge", "e", "--output", str(tmp_path)], {})
    kept = Kept()
    node = EdgeNode(given, open_source(source=str(tmp_path)), Reader(None), [kept])
    for session in (node.session, "another"):
        result = Result(FrameId("e", session, 99), 0, Priority.ESSENTIAL, 1, Outcome.FAILED, reason="made up")
        await node._results._take(result, 10, 0)
    assert not kept.readings and not node.ledger.outcomes and not node.ledger.flights
    await node._close([])


async def test_results_that_do_not_come_in_time_are_made_here(
    cloud, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    silent, address = cloud
    node, found = await run(address, save(tmp_path, *[DARK] * 12), "--deadline-ms", "2000")
    assert {(reading.outcome, reading.path) for reading in found} == {(Outcome.ENHANCED, Route.EDGE)}
    assert len(found) == 12 and {reading.model.split("-")[0] for reading in found} == {"edge"}
    assert 2 <= len(silent.frames) < 12, "sent until the switch, then only to see how the cloud does"
    assert sum("lights frames up by itself" in record.message for record in caplog.records) == 1
    assert node.takeover.counts["too late for the deadline"] == len(silent.frames)


async def test_a_cloud_that_was_never_there(free_port: int, tmp_path: Path) -> None:
    _, found = await run(f"127.0.0.1:{free_port}", save(tmp_path, *[DARK] * 3))
    assert [reading.path for reading in found] == [Route.EDGE] * 3


async def test_local_off_waits(free_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_node.route.AWAY_S", 0.05)
    monkeypatch.setattr("edge_node.node.STOP_GRACE_S", 0.2)
    looks, kept = 0, Kept()

    def later() -> bool:
        nonlocal looks
        looks += bool(kept.readings)
        return looks > 50

    folder = save(tmp_path, np.full((60, 80, 3), 200), DARK, np.full((60, 80, 3), 200))
    _, found = await run(f"127.0.0.1:{free_port}", folder, "--local", "off", stop_when=later, kept=kept)
    assert [reading.path for reading in found] == [Route.NONE], "the bright one is read, the dark one waits"


async def test_a_change_in_the_essential_region_is_essential_on_the_wire(cloud, tmp_path: Path) -> None:
    silent, address = cloud
    someone, elsewhere = DARK.copy(), DARK.copy()
    someone[70:100, 90:130] += 30
    elsewhere[0:40, 0:40] += 30
    folder = save(tmp_path, DARK, DARK, elsewhere, someone, someone)
    flags = ("--essential-region", "0.5,0.5,0.5,0.5", "--priority", "secondary", "--in-flight", "5")
    await run(address, folder, *flags, "--deadline-ms", "3000", stop_when=lambda: len(silent.frames) == 5)
    seen = [Priority(frame.priority) for frame in sorted(silent.frames, key=lambda frame: frame.sequence)]
    assert seen == [Priority.ESSENTIAL, *[Priority.SECONDARY] * 2, Priority.ESSENTIAL, Priority.SECONDARY]


async def test_alone_there_is_no_stream(cloud, tmp_path: Path) -> None:
    silent, address = cloud
    node, found = await run(address, save(tmp_path, DARK, DARK), "--local", "only")
    assert [reading.path for reading in found] == [Route.EDGE] * 2
    assert not silent.frames and not node.takeover.counts
