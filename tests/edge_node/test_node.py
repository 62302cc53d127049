"""An edge node against a cloud node that says what the test wants: a real gRPC server with a script."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import run_node
from scripted import Answer, Script, rejected, serving

from common.errors import CloudUnavailable, SourceError
from common.settings import load
from edge_node import node as node_module
from edge_node.node import EdgeNode
from edge_node.reader import Reader
from edge_node.settings import EdgeSettings
from edge_node.sinks import Shown
from edge_node.sources import open_source
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import frame_pb2


class Kept:
    """A sink that keeps."""

    def __init__(self) -> None:
        self.readings = []

    def write(self, shown: Shown) -> None:
        self.readings.append(shown.reading)

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where a node keeps frames unless it is told: another test's are none of this one's."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_module, "STOP_GRACE_S", 0.3)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[tuple[Script, str]]]]:
    async with AsyncExitStack() as servers:

        async def start(answer: Answer, **opened: object) -> tuple[Script, str]:
            script = Script(answer, **opened)
            return script, await servers.enter_async_context(serving(script))

        yield start


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(5):
        noise = np.random.default_rng(number).integers(0, 40, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number}.png")
    return tmp_path


async def run(address: str, source: Path, *flags: str, stop_when: Callable[[], bool] | None = None) -> EdgeNode:
    """Run an edge node to its end; `kept` of the node has the readings."""
    settings = load(EdgeSettings, ["--source", str(source), "--cloud", address, "--edge", "e", *flags], {})
    kept = Kept()
    node = EdgeNode(settings, open_source(source=str(source)), Reader(None), [kept])
    node.kept = kept.readings
    return await run_node(node, stop_when)


async def test_every_rejection_is_a_reading(serve, photos: Path) -> None:
    async def refuse(frame: frame_pb2.Frame) -> list[pb.CloudMessage]:
        return rejected(frame, pb.REJECT_REASON_MALFORMED)

    _, address = await serve(refuse)
    node = await run(address, photos)
    assert [(reading.name, reading.outcome.name, reading.reason) for reading in node.kept] == [
        (f"{number}.png", "FAILED", "the cloud node refused it: not now") for number in range(5)
    ]


async def test_try_again_later_is_no_failed_attempt(serve, photos: Path) -> None:
    """More refusals than --attempts, then a final word: each try is a new attempt of the same sequence."""
    tries: dict[int, int] = {}

    async def busy(frame: frame_pb2.Frame) -> list[pb.CloudMessage]:
        tries[frame.sequence] = tries.get(frame.sequence, -1) + 1
        assert frame.attempt == tries[frame.sequence]
        if frame.attempt < 7:
            return rejected(frame, pb.REJECT_REASON_OVERLOADED, retry_after_ms=1)
        return rejected(frame, pb.REJECT_REASON_MALFORMED)

    _, address = await serve(busy)
    node = await run(address, photos, "--attempts", "2")
    assert len(node.kept) == 5 and set(tries.values()) == {7}
    assert all("refused it" in reading.reason for reading in node.kept)


async def test_a_broken_stream_sends_again_what_has_no_result(serve, photos: Path) -> None:
    broken = False

    async def break_once(frame: frame_pb2.Frame) -> list[pb.CloudMessage]:
        nonlocal broken
        if not broken and frame.sequence == 1:
            broken = True
            raise RuntimeError("the node falls over")
        return rejected(frame, pb.REJECT_REASON_MALFORMED)

    script, address = await serve(break_once)
    node = await run(address, photos)
    assert len(node.kept) == 5 and len(script.openings) == 2
    assert 1 in [frame.sequence for frame in script.frames if frame.attempt == 1]
    assert script.openings[0].session == script.openings[1].session


async def test_what_the_node_would_refuse_is_not_sent(serve, photos: Path) -> None:
    async def never(frame: frame_pb2.Frame) -> list[pb.CloudMessage]:
        raise AssertionError("it was sent")

    script, address = await serve(never, max_pixels=64 * 48 - 1)
    node = await run(address, photos)
    assert not script.frames and len(node.kept) == 5
    assert all("3,072 pixels, the limit is 3,071" in reading.reason for reading in node.kept)


async def test_stopping_ends_soon_and_what_is_on_its_way_is_a_reading(serve, photos: Path) -> None:
    async def silence(frame: frame_pb2.Frame) -> list[pb.CloudMessage]:
        return []

    script, address = await serve(silence)
    node = await run(address, photos, "--in-flight", "4", stop_when=lambda: len(script.frames) == 2)
    assert {reading.outcome.name for reading in node.kept} == {"FAILED"} and len(node.kept) >= 2
    assert all("stopped before its result came" in reading.reason for reading in node.kept)


async def test_stopping_without_a_cloud_node(free_port: int, photos: Path) -> None:
    node = await run(f"127.0.0.1:{free_port}", photos, stop_when=lambda: True)
    assert node.kept == []


async def test_a_source_that_breaks_is_told_even_without_a_cloud_node(free_port: int, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"broken\.jpg"):
        await run(f"127.0.0.1:{free_port}", broken)


async def test_no_cloud_node_in_time(free_port: int, photos: Path) -> None:
    with pytest.raises(CloudUnavailable, match="start one with"):
        await run(f"127.0.0.1:{free_port}", photos, "--connect-timeout-s", "0.5")


async def test_the_deadline_runs_while_a_frame_waits_for_the_cloud(serve, photos: Path) -> None:
    """What is sent says how much of it is left."""

    async def silence(frame: frame_pb2.Frame) -> list[pb.CloudMessage]:
        return []

    script, address = await serve(silence, window_frames=1)
    node = await run(
        address, photos, "--deadline-ms", "20000", "--retry-s", "0.2", "--attempts", "1", "--limit", "1",
        stop_when=lambda: len(script.frames) == 1,
    )  # fmt: skip
    assert len(node.kept) == 1
    assert 0 < script.frames[0].deadline_ms <= 20_000


async def test_the_limit_counts_frames_that_were_taken(serve, photos: Path) -> None:
    async def refuse(frame: frame_pb2.Frame) -> list[pb.CloudMessage]:
        return rejected(frame, pb.REJECT_REASON_MALFORMED)

    _, address = await serve(refuse)
    assert len((await run(address, photos, "--limit", "3")).kept) == 3


async def test_a_cloud_node_that_says_to_wait_for_weeks_is_asked_sooner(
    serve, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_module, "LONGEST_RETRY_S", 0.01)

    async def weeks(frame: frame_pb2.Frame) -> list[pb.CloudMessage]:
        if frame.attempt < 2:
            return rejected(frame, pb.REJECT_REASON_OVERLOADED, retry_after_ms=2**32 - 1)
        return rejected(frame, pb.REJECT_REASON_MALFORMED)

    _, address = await serve(weeks)
    node = await run(address, photos)
    assert len(node.kept) == 5
