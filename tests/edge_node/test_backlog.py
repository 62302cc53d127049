"""Kept frames in a whole edge node: real files, a scripted cloud node, real NATS where results come."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from disks import disk_of
from results import running_server
from running import run_node
from scripted import Script, rejected, serving

from cloud_node.publisher import Publisher
from common import packing, telemetry
from common.broker import Broker
from common.errors import SpoolInUse
from common.frame import Frame, FrameId, Outcome, Priority, Result
from common.packing import EncodedImage, ImageFormat
from common.pixels import RawImage
from common.settings import load
from edge_node import backlog as backlog_module
from edge_node import node as node_module
from edge_node.gate import Gate
from edge_node.node import EdgeNode
from edge_node.reader import Reader
from edge_node.settings import EdgeSettings
from edge_node.sinks import JsonLines, Shown
from edge_node.sources import Captured
from edge_node.spool import Spool
from edge_node.taking import Taking
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import frame_pb2


def picture(number: int, size: tuple[int, int] = (64, 48)) -> RawImage:
    return RawImage.from_rgb(np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


class Camera:
    """A live source that gives a frame every `every_s` once it is `ready`, until it is closed."""

    live, name, total = True, "camera", None

    def __init__(self, frames: int = 10**9, every_s: float = 0.01, size: tuple[int, int] = (64, 48)) -> None:
        self._frames, self._every_s, self._size, self._closed = frames, every_s, size, threading.Event()
        self.ready: Callable[[], bool] = lambda: True

    def frames(self) -> Iterator[Captured]:
        while not self.ready() and not self._closed.wait(0.01):
            pass
        for number in range(self._frames):
            if self._closed.wait(self._every_s):
                return
            yield Captured(picture(number, self._size), 1_800_000_000_000_000_000 + number, f"camera#{number}")

    def close(self) -> None:
        self._closed.set()


def spool_of(folder: Path) -> Spool:
    return Spool(folder / "spool" / "e", "e", limit_bytes=10**9, max_age_s=1e9)


def fill(folder: Path, *priorities: Priority) -> None:
    """What a former run left."""
    spool = spool_of(folder)
    for sequence, priority in enumerate(priorities):
        frame = Frame(FrameId("e", "old", sequence), packing.pack(picture(sequence)), 10**18 + sequence, priority)
        spool.store(frame, f"old#{sequence}", 9216, 0)
    spool.close()


def make_old(folder: Path) -> None:
    """What is kept there is over an hour old."""
    for path in (folder / "spool" / "e").glob("*.frame"):
        order, priority, session, sequence, size, unix_s, *_ = path.name.split(".")
        stored = f"{order}.{priority}.{session}.{sequence}.{size}.{int(unix_s) - 4000}.0000beef.5.frame"
        path.rename(path.with_name(stored))


def held(folder: Path) -> list[str]:
    spool = spool_of(folder)
    spool.close()
    return [str(entry.id) for entry in spool]


def lines(folder: Path) -> list[dict]:
    path = folder / "readings.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def run(
    address: str,
    source: Camera,
    folder: Path,
    *flags: str,
    stop_when: Callable[[], bool] | None = None,
    connected: bool = False,
) -> EdgeNode:
    settings = load(
        EdgeSettings, ["--camera", "0", "--cloud", address, "--edge", "e", "--output", str(folder), *flags], {}
    )
    node = EdgeNode(settings, source, Reader(None), [JsonLines(folder / "readings.jsonl")])
    if connected:
        source.ready = lambda: node._uplink.window.frames > 0
    return await run_node(node, stop_when)


async def refuse(frame: frame_pb2.Frame) -> list[pb.CloudMessage]:
    return rejected(frame, pb.REJECT_REASON_MALFORMED)


async def silence(frame: frame_pb2.Frame) -> list[pb.CloudMessage]:
    return []


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_module, "STOP_GRACE_S", 0.5)
    monkeypatch.setattr(backlog_module, "POLL_S", 0.01)
    monkeypatch.setattr(backlog_module, "PAUSE_S", 0.2)


async def test_what_a_former_run_left_is_sent_and_read_under_its_own_name(tmp_path: Path) -> None:
    fill(tmp_path, Priority.SECONDARY, Priority.ESSENTIAL, Priority.STANDARD, Priority.ESSENTIAL)
    script = Script(refuse)
    async with serving(script) as address:
        node = await run(address, Camera(1), tmp_path, "--deadline-ms", "60000")
    old = [line for line in lines(tmp_path) if line["session"] == "old"]
    assert [(line["sequence"], line["priority"]) for line in old] == [
        (1, "essential"), (3, "essential"), (2, "standard"), (0, "secondary"),
    ]  # fmt: skip
    assert [line["name"] for line in old] == ["old#1", "old#3", "old#2", "old#0"]
    assert not held(tmp_path) and node.backlog.keeping.counts["restored"] == 4
    from_spool = [frame for frame in script.frames if frame.deadline_ms == 0]
    assert len(from_spool) == 4 and {frame.priority for frame in from_spool} == {frame_pb2.PRIORITY_SECONDARY}
    assert len({frame.sequence for frame in script.frames}) == 5
    assert all("spool" in line["stages_ms"] for line in old)


async def test_live_frames_wait_in_the_spool_while_there_is_no_cloud_node(free_port: int, tmp_path: Path) -> None:
    """Then stop, start again, and each has one reading."""
    here = tmp_path / "spool" / "e"
    node = await run(
        f"127.0.0.1:{free_port}", Camera(node_module.KEPT_WAITING), tmp_path, "--priority", "essential",
        stop_when=lambda: len(list(here.glob("*.frame"))) == node_module.KEPT_WAITING,
    )  # fmt: skip
    waiting = held(tmp_path)
    assert len(waiting) == node_module.KEPT_WAITING and lines(tmp_path) == [] and node.captured.dropped == 0
    async with serving(Script(refuse), free_port) as address:
        await run(address, Camera(2), tmp_path, "--priority", "essential")
    read = [line["frame"] for line in lines(tmp_path)]
    assert [frame for frame in read if frame in set(waiting)] == waiting, "oldest first"
    assert len(read) == len(set(read)) == len(waiting) + 2 and not held(tmp_path)


async def test_what_is_on_its_way_when_it_is_stopped_stays_kept(tmp_path: Path) -> None:
    script = Script(silence)
    async with serving(script) as address:
        await run(address, Camera(2), tmp_path, "--keep-all", stop_when=lambda: len(script.frames) == 2)
    assert lines(tmp_path) == [] and len(held(tmp_path)) == 2
    async with serving(Script(refuse)) as address:
        await run(address, Camera(1), tmp_path)
    assert len(lines(tmp_path)) == 3 and not held(tmp_path)


async def test_each_time_out_of_the_spool_is_a_whole_trace(
    otlp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.endpoint)
    telemetry.start("lamplight-edge", "e")
    try:
        script = Script(silence)
        async with serving(script) as address:
            await run(address, Camera(2), tmp_path, "--keep-all", stop_when=lambda: len(script.frames) == 2)
        async with serving(Script(refuse)) as address:
            await run(address, Camera(0), tmp_path, "--priority", "secondary")
    finally:
        telemetry.stop()
    spans = otlp.spans()
    roots = {span.span_id: {a.key: a.value for a in span.attributes} for span in spans if span.name == "frame"}
    assert all(span.parent_span_id in roots for span in spans if span.name != "frame")
    told = [
        (root["lamplight.outcome"].string_value, root["lamplight.priority"].string_value) for root in roots.values()
    ]
    assert told.count(("failed", "standard")) == 2 and told.count(("spooled", "standard")) == len(told) - 2 >= 2
    times = Counter(root["lamplight.sequence"].int_value for root in roots.values())
    assert times.keys() == {0, 1} and min(times.values()) >= 2  # more where the stream broke, on a busy machine


@pytest.mark.parametrize("watched", [True, False])
async def test_a_kept_frame_is_unpacked_only_for_whoever_looks(tmp_path: Path, watched: bool) -> None:
    fill(tmp_path, Priority.ESSENTIAL)
    given = ["--camera", "0", "--edge", "e", "--output", str(tmp_path), "--live", "0"]
    node = EdgeNode(load(EdgeSettings, given, {}), Camera(0), Reader(None), [], watched=lambda: watched)
    await node.backlog.keeping.open()
    entry = await node.backlog.keeping.next()
    assert entry is not None
    flight = await node.backlog._load(entry)
    assert flight is not None and (flight.dark is not None) is watched
    await node.backlog.keeping.close()


async def test_a_kept_frame_that_cannot_be_unpacked_goes_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is whole on the disk, and no picture: there is nothing to show, and the cloud node says what is wrong.

    Whatever else fails, nobody has it then, so it must not stay out; it holds no other up.
    """
    spool = Spool(tmp_path / "spool" / "e", "e", limit_bytes=10**9, max_age_s=1e9, free_bytes=0)
    for number, packed in enumerate((replace(packing.pack(picture(0)), payload=b"none"), packing.pack(picture(1)))):
        spool.store(Frame(FrameId("e", "old", number), packed, number, Priority.ESSENTIAL), f"old-{number}", 9216, 0)
    spool.close()
    given = ["--camera", "0", "--edge", "e", "--output", str(tmp_path), "--live", "0"]
    node = EdgeNode(load(EdgeSettings, given, {}), Camera(0), Reader(None), [], watched=lambda: True)
    keeping = node.backlog.keeping
    await keeping.open()
    broken, sound = await keeping.next(), await keeping.next()
    assert broken is not None and sound is not None
    flight = await node.backlog._load(broken)
    assert flight is not None and flight.dark is None and await node.backlog.release(flight)
    assert await keeping.next() == broken
    with monkeypatch.context() as full:
        full.setattr(packing, "unpack", lambda image: [][0])
        with pytest.raises(IndexError):
            await node.backlog._load(broken)
    assert await keeping.next() is None, "for a while"
    keeping._paused.clear()
    assert await keeping.next() == broken and await node.backlog._load(sound) is not None
    await keeping.close()


async def test_what_waits_to_be_kept_when_it_is_stopped_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera that is faster than the disk: its frames wait in the queue, and a stop loses none that it took in."""
    taken: list[EdgeNode] = []
    slow = threading.Event()
    judge = Gate.judge

    def judge_slowly(gate: Gate, image: RawImage) -> object:
        slow.wait(0.05)
        return judge(gate, image)

    monkeypatch.setattr(Gate, "judge", judge_slowly)
    camera = Camera(every_s=0.002)
    queued: list[int] = []

    def enough() -> bool:
        [node] = taken
        if len(node.captured) < 5:
            return False
        queued.append(len(node.captured))
        return True

    settings = ["--camera", "0", "--cloud", "127.0.0.1:1", "--edge", "e", "--output", str(tmp_path), "--keep-all"]
    made = load(EdgeSettings, settings, {})
    taken.append(EdgeNode(made, camera, Reader(None), [JsonLines(tmp_path / "readings.jsonl")]))
    monkeypatch.setattr(node_module, "STOP_GRACE_S", 20.0)
    await run_node(taken[0], enough)
    counted = len(held(tmp_path)) + len(lines(tmp_path))
    assert counted == taken[0].ledger._next and counted >= queued[0]
    assert len(taken[0].captured) == 0


async def test_a_frame_that_cannot_be_begun_is_counted_and_the_next_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, failed = Taking._begin, []

    def begin_second(taking: Taking, frame: object) -> object:
        if not failed:
            failed.append(frame)
            raise RuntimeError("no memory")
        return begin(taking, frame)

    monkeypatch.setattr(Taking, "_begin", begin_second)
    async with serving(Script(refuse)) as address:
        node = await run(address, Camera(3), tmp_path, "--keep-all", connected=True)
    assert lines(tmp_path) and len(lines(tmp_path)) + node.captured.dropped == 3 and failed


async def test_without_keep_all_only_essential_frames_are_kept(tmp_path: Path) -> None:
    async with serving(Script(refuse)) as address:
        node = await run(address, Camera(2), tmp_path, connected=True)
    assert lines(tmp_path) and len(lines(tmp_path)) + node.captured.dropped == 2 and not (tmp_path / "spool").exists()


async def test_a_deadline_gives_up_no_kept_frame(free_port: int, tmp_path: Path) -> None:
    """It was sent with a deadline, the cloud node never answered; then it goes again from the spool, without one."""
    tries: list[int] = []

    async def answer(frame: frame_pb2.Frame) -> list[pb.CloudMessage]:
        tries.append(frame.deadline_ms)
        return await refuse(frame) if len(tries) > 1 else rejected(frame, pb.REJECT_REASON_OVERLOADED, 1700)

    async with serving(Script(answer)) as address:
        flags = ("--priority", "essential", "--deadline-ms", "1500")
        await run(address, Camera(1), tmp_path, *flags, connected=True)
    assert 0 < tries[0] <= 1500 and tries[1:] == [0]
    assert [line["outcome"] for line in lines(tmp_path)] == ["failed"], "refused at last, not expired"


async def test_a_full_spool_gives_up_the_oldest_and_says_so(free_port: int, tmp_path: Path) -> None:
    here = tmp_path / "spool" / "e"
    flags = ("--keep-all", "--spool-mib", "1")
    camera = Camera(size=(320, 240))  # about 0.2 MiB each
    await run(f"127.0.0.1:{free_port}", camera, tmp_path, *flags, stop_when=lambda: len(lines(tmp_path)) >= 5)
    given_up, waiting = lines(tmp_path), held(tmp_path)
    assert sum(path.stat().st_size for path in here.glob("*.frame")) <= 2**20 and waiting
    assert {(line["outcome"], line["name"][:7]) for line in given_up} == {("failed", "camera#")}
    assert all("the spool was full" in line["reason"] for line in given_up)
    numbers = [line["sequence"] for line in given_up] + [int(frame.split("/")[2]) for frame in waiting]
    assert numbers == list(range(len(numbers))), "each is either here or there, the oldest given up"


async def test_frames_over_the_age_are_given_up(free_port: int, tmp_path: Path) -> None:
    fill(tmp_path, Priority.ESSENTIAL)
    make_old(tmp_path)
    await run(f"127.0.0.1:{free_port}", Camera(0), tmp_path, "--spool-hours", "1")
    [line] = lines(tmp_path)
    assert line["frame"] == "e/old/0" and "kept for more than 1 h" in line["reason"] and not held(tmp_path)


async def test_no_frame_is_given_up_after_the_sinks_are_closed(
    free_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Stopped amid that; and nobody else has the spool while a line of it may still come."""

    class Slow(JsonLines):
        def write(self, shown: Shown) -> None:
            super().write(shown)
            time.sleep(0.05)

        def close(self) -> None:
            time.sleep(0.3)
            with pytest.raises(SpoolInUse):
                spool_of(tmp_path)
            closed.append(len(lines(tmp_path)))
            super().close()

    closed = list[int]()
    fill(tmp_path, *[Priority.ESSENTIAL] * 60)
    make_old(tmp_path)
    monkeypatch.setattr(node_module, "STOP_GRACE_S", 0.05)
    flags = ["--cloud", f"127.0.0.1:{free_port}", "--edge", "e", "--output", str(tmp_path), "--spool-hours", "1"]
    settings = load(EdgeSettings, ["--camera", "0", *flags], {})
    node = EdgeNode(settings, Camera(0), Reader(None), [Slow(tmp_path / "readings.jsonl")])
    await run_node(node, lambda: len(lines(tmp_path)) > 1)
    assert 1 < closed[0] == len(lines(tmp_path)) < 60
    assert not [line for line in caplog.records if line.exc_info], caplog.text


async def test_a_damaged_frame_is_said_and_the_others_are_read(tmp_path: Path) -> None:
    fill(tmp_path, *[Priority.ESSENTIAL] * 3)
    second = sorted((tmp_path / "spool" / "e").glob("*.frame"))[1]
    second.write_bytes(second.read_bytes()[:-10])
    async with serving(Script(refuse)) as address:
        await run(address, Camera(0), tmp_path)
    reasons = {line["sequence"]: line["reason"] for line in lines(tmp_path)}
    assert len(reasons) == 3 == len(lines(tmp_path)) and not held(tmp_path)
    assert [sequence for sequence, reason in reasons.items() if "its kept copy is damaged" in reason] == [1]
    assert second.with_name(second.name + ".corrupt").exists()


async def test_another_node_has_the_spool(tmp_path: Path, free_port: int) -> None:
    spool = spool_of(tmp_path)
    with pytest.raises(SpoolInUse, match="another --spool"):
        await run(f"127.0.0.1:{free_port}", Camera(0), tmp_path, "--keep-all")
    spool.close()


async def test_a_spool_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    async with serving(Script(refuse)) as address:
        node = await run(address, Camera(3), tmp_path, "--keep-all", "--spool", str(tmp_path / "file"))
    assert len(lines(tmp_path)) == 3 and node.backlog.keeping.counts["not kept"] >= 3
    assert "is not kept" in caplog.text and "another --spool" in caplog.text


@pytest.mark.parametrize("size", [(48, 64), (4800, 6400)])
async def test_a_result_of_before_the_restart_settles_its_frame(tmp_path: Path, size: tuple[int, int]) -> None:
    """No place in the window: nothing can be sent, and the result that waited in NATS is enough. A picture of another
    size than the frame's is none of it, however little it took to send."""
    fill(tmp_path, Priority.ESSENTIAL, Priority.ESSENTIAL)
    async with running_server() as server:
        broker = await Broker.connect(server.url)
        await broker.ensure_streams()
        consumers = await broker.ensure_consumers("e")
        publisher = Publisher(broker)
        publishing = asyncio.create_task(publisher.run())
        jpeg = packing.encode(np.zeros((*size, 3), np.uint8), ImageFormat.JPEG, 75)
        assert isinstance(jpeg, EncodedImage)
        spool = spool_of(tmp_path)  # it was sent in half its size
        [_, second] = spool
        frame, _ = spool.load(second)
        spool.remove(second)
        spool.store(frame, "old#1", 9216, 0, size=(128, 96), sent_as="size 0.5")
        spool.close()
        for sequence in (1, 7):  # 7 is settled already: nobody misses its result
            identity = (FrameId("e", "old", sequence), 0, Priority.ESSENTIAL, 10**18)
            publisher.submit(Result(*identity, Outcome.ENHANCED, jpeg, model="m-1"))
        address = pb.ResultsAddress(
            servers=[server.edge_url()],
            consumers=[
                pb.ResultsConsumer(priority=int(item.priority), stream=item.stream, consumer=item.name)
                for item in consumers
            ],
        )
        script = Script(silence, window_frames=0, results=address)
        async with serving(script) as cloud:
            flags = ("--annotate",)
            await run(cloud, Camera(), tmp_path, *flags, stop_when=lambda: len(lines(tmp_path)) > 0)
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        await broker.close()
    [line] = lines(tmp_path)
    sound = size == (48, 64)
    assert (line["frame"], line["outcome"], line["model"]) == ("e/old/1", "enhanced" if sound else "failed", "m-1")
    assert line["reason"] == ("" if sound else "the result came back broken: 6400x4800 for a frame of 64x48")
    assert line["sent_as"] == "size 0.5" and held(tmp_path) == ["e/old/0"] and not script.frames


async def test_a_line_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    fill(tmp_path, Priority.ESSENTIAL, Priority.ESSENTIAL)
    (tmp_path / "readings.jsonl").write_text('{"schema": 1, "frame": "e/old/0"}\n')
    async with serving(script := Script(refuse)) as address:
        await run(address, Camera(0), tmp_path)
    assert [line["frame"] for line in lines(tmp_path)] == ["e/old/0", "e/old/1"] and len(script.frames) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disk_of("128k", tmp_path / "disk") as disk:
        yield disk


async def test_a_reading_that_cannot_be_written_comes_later(small_disk: Path, tmp_path: Path) -> None:
    """The disk of the readings is full: the frame stays kept and is read again once there is room."""
    filler, tries = small_disk / "filler", 0

    async def answer(frame: frame_pb2.Frame) -> list[pb.CloudMessage]:
        nonlocal tries
        tries += 1
        if tries == 1:
            with pytest.raises(OSError):
                filler.write_bytes(bytes(2**20))
        elif tries == 3:
            filler.unlink()
        return await refuse(frame)

    fill(tmp_path, Priority.ESSENTIAL)
    async with serving(Script(answer)) as address:
        await run(address, Camera(0), small_disk, "--spool", str(tmp_path / "spool"))
    [line] = lines(small_disk)
    assert line["frame"] == "e/old/0" and tries == 3 and not held(tmp_path)


async def test_live_frames_have_the_window_first(tmp_path: Path) -> None:
    node = EdgeNode(
        load(EdgeSettings, ["--camera", "0", "--edge", "e", "--output", str(tmp_path), "--keep-all"], {}),
        Camera(), Reader(None), [],
    )  # fmt: skip
    fill(tmp_path, Priority.ESSENTIAL)
    await node.backlog.keeping.open()
    uplink, may_go = node._uplink, node.backlog._may_go
    uplink.window.frames = 4
    assert may_go() is None, "not connected"
    uplink.connected = True
    assert may_go() is Priority.SECONDARY
    uplink.window.frames = 1
    assert may_go() is Priority.SECONDARY, "nobody else wants it"
    await node.captured.put(next(Camera().frames()))
    assert may_go() is None
    uplink.window.frames = 2
    assert may_go() is Priority.SECONDARY
    uplink.window.frames = 0
    node.backlog._through_s -= backlog_module.STARVED_S + 1
    assert may_go() is Priority.ESSENTIAL, "nothing got through for a minute"
    assert may_go() is None, "one a minute"
    await node.backlog.keeping.close()
