"""Each group of checks by itself, against real files, sockets and NATS servers."""

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from enrolled import authority, bundle
from PIL import Image
from results import running_server

from common.broker import Broker
from common.errors import SourceError
from common.nats_connection import Connection
from common.nats_server import find_server
from common.onnx_file import Network
from common.onnx_models import wheel_model
from common.onnx_overlay import write_overlay
from edge_node.check import broker as broker_part
from edge_node.check import clock as clock_part
from edge_node.check import cloud as cloud_part
from edge_node.check.broker import check_broker
from edge_node.check.bundle import check_bundle
from edge_node.check.clock import check_ntp, check_offset, kernel_clock
from edge_node.check.cloud import check_cloud
from edge_node.check.disk import check_disk
from edge_node.check.finding import Finding, Group, Mark, in_thread
from edge_node.check.host import check_host
from edge_node.check.models import check_models
from edge_node.check.source import check_source
from edge_node.settings import Care, EdgeSettings, Output, Reading
from lamplight.v1 import enhancement_pb2 as pb


def settings(tmp_path: Path, **more: object) -> EdgeSettings:
    fields: dict[str, object] = {"source": str(tmp_path), "output": Output(output=tmp_path / "out"), "edge": "pole-1"}
    return EdgeSettings(**(fields | more))


def only(found: Group, name: str) -> Finding:
    [finding] = [finding for finding in found.findings if finding.name == name]
    return finding


@pytest.mark.parametrize(("days", "mark"), [(365, Mark.OK), (20, Mark.WARN), (0.00001, Mark.FAIL)])
def test_a_bundle_that_runs_out_is_told(tmp_path: Path, days: float, mark: Mark) -> None:
    file = bundle(authority(tmp_path), "pole-1", days=days)
    found = Group("cloud")
    if mark is Mark.FAIL:
        time.sleep(1.1)
    check_bundle(settings(tmp_path, identity=file), found)
    finding = only(found, "bundle")
    assert finding.mark is mark and "pole-1" in finding.value
    assert finding.mark is Mark.OK or "enroll pole-1" in finding.advice


def test_without_a_bundle_nothing_is_said_of_it(tmp_path: Path) -> None:
    found = Group("cloud")
    check_bundle(settings(tmp_path), found)
    assert not found.findings


async def test_a_camera_is_measured() -> None:
    found = Group("source")
    given = EdgeSettings(camera="lavfi:testsrc=size=320x240:rate=20")
    await check_source(given, found)
    assert only(found, "opens").mark is Mark.OK
    frame = only(found, "frame")
    assert frame.mark is Mark.OK and frame.figures["width"] == 320 and frame.figures["height"] == 240
    assert float(frame.figures["frames_per_s"]) > 1


@pytest.mark.parametrize(
    ("source", "words"), [("nothing.mp4", "there is no file"), ("note.txt", "note.txt"), ("", "has no images")]
)
async def test_a_source_that_gives_nothing(tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "note.txt").write_text("no video")
    found = Group("source")
    await check_source(settings(tmp_path, source=str(tmp_path / source)), found)
    [finding] = found.findings
    assert finding.mark is Mark.FAIL and words in finding.value


async def test_a_covered_lens(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "black.png")
    found = Group("source")
    await check_source(settings(tmp_path), found)
    assert only(found, "frame").mark is Mark.WARN and "lens" in only(found, "frame").advice


async def test_a_watched_folder_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "uploads").mkdir()
    found = Group("source")
    await check_source(settings(tmp_path, source=str(tmp_path / "uploads"), watch=True), found)
    [finding] = found.findings
    assert finding.mark is Mark.OK and "its first image is waited for" in finding.value


async def test_what_hangs_and_what_fails_is_a_finding() -> None:
    found, never = Group("models"), threading.Event()

    def refuse() -> None:
        raise SourceError("the camera is used by another program: close that first")

    assert await found.within(0.05, "hangs", in_thread(never.wait), "replace it") is None
    assert await found.within(5, "refuses", in_thread(refuse), "unused advice") is None
    assert await found.within(5, "breaks", in_thread(lambda: 1 / 0), mark=Mark.WARN) is None
    assert await found.within(5, "works", in_thread(lambda: 7)) == 7
    never.set()
    assert [(finding.name, finding.mark) for finding in found.findings] == [
        ("hangs", Mark.FAIL), ("refuses", Mark.FAIL), ("breaks", Mark.WARN),
    ]  # fmt: skip
    assert found.findings[0].value == "no answer within 0.05 s" and found.findings[0].advice == "replace it"
    assert found.findings[1].value.endswith("close that first") and not found.findings[1].advice


async def test_a_cloud_node_that_is_not_there(tmp_path: Path, free_port: int) -> None:
    for address, words in ((f"127.0.0.1:{free_port}", "nobody listens"), ("no-such-host.invalid", "no such host")):
        found = Group("cloud")
        assert await check_cloud(settings(tmp_path), found, address) is None
        [finding] = found.findings
        assert finding.mark is Mark.FAIL and words in finding.value and finding.advice


async def test_a_cloud_node_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud_part, "ASK_S", 1.0)
    ends: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: ends.append(writer), "127.0.0.1", 0)
    found = Group("cloud")
    assert await check_cloud(settings(tmp_path), found, f"127.0.0.1:{server.sockets[0].getsockname()[1]}") is None
    assert [(finding.name, finding.mark) for finding in found.findings] == [
        ("address", Mark.OK), ("health", Mark.FAIL), ("stream", Mark.FAIL),
    ]  # fmt: skip
    for end in ends:
        end.close()
    server.close()


@pytest.fixture
def open_nats(tmp_path: Path, free_port: int) -> Iterator[str]:
    """A NATS server that lets anyone do anything."""
    command = [str(find_server()), "-js", "-sd", str(tmp_path / "nats"), "-a", "127.0.0.1", "-p", str(free_port)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    yield f"nats://127.0.0.1:{free_port}"
    server.terminate()
    server.wait()


async def opened_at(url: str, edge: str, node_url: str = "") -> tuple[Broker, pb.Opened]:
    broker = await Broker.connect(node_url or url)
    await broker.ensure_streams()
    consumers = [
        pb.ResultsConsumer(priority=int(item.priority), stream=item.stream, consumer=item.name)
        for item in await broker.ensure_consumers(edge)
    ]
    return broker, pb.Opened(results=pb.ResultsAddress(servers=[url], consumers=consumers))


async def test_results_and_the_time_of_nats(tmp_path: Path, open_nats: str) -> None:
    found, clock = Group("nats"), Group("clock")
    broker, opened = await opened_at(open_nats, "pole-1")
    await check_broker(settings(tmp_path), found, clock, opened)
    assert [finding.mark for finding in found.findings] == [Mark.OK] * 3
    assert only(found, "results").figures == {"consumers": 3, "waiting": 0}
    offset = only(clock, "offset")
    assert offset.mark is Mark.OK and abs(float(offset.figures["offset_s"])) < 1, "the same clock"
    await broker.close()


async def test_a_clock_that_is_wrong(tmp_path: Path, open_nats: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, connection = Group("clock"), Connection(open_nats, name="test")
    await connection.open(10)
    broker, opened = await opened_at(open_nats, "pole-1")
    monkeypatch.setattr(clock_part, "_unix", lambda stamp: time.time() - 3600)
    await check_offset(clock, connection.client, "pole-1", opened)
    assert only(clock, "offset").mark is Mark.WARN and "timedatectl" in only(clock, "offset").advice
    await connection.close()
    await broker.close()


async def test_an_edge_that_may_not_ask_for_the_time(tmp_path: Path) -> None:
    async with running_server() as server:
        found, clock = Group("nats"), Group("clock")
        broker, opened = await opened_at(server.edge_url(), "pole-1", server.url)
        await check_broker(settings(tmp_path), found, clock, opened)
        assert [finding.mark for finding in found.findings] == [Mark.OK] * 3
        assert only(clock, "offset").mark is Mark.SKIP
        await broker.close()


async def test_a_login_that_is_refused_and_consumers_that_are_gone(tmp_path: Path) -> None:
    async with running_server() as server:
        broker, opened = await opened_at(server.edge_url(), "pole-1", server.url)
        bare = "nats://wrong:password@" + server.edge_url().rpartition("@")[2]
        found, clock = Group("nats"), Group("clock")
        await check_broker(settings(tmp_path, nats=bare), found, clock, opened)
        login = only(found, "login")
        assert login.mark is Mark.FAIL and "uthorization" in login.value and "password" not in login.value
        for item in opened.results.consumers:
            item.consumer += "-gone"
        found = Group("nats")
        await check_broker(settings(tmp_path), found, clock, opened)
        assert only(found, "results").mark is Mark.FAIL and "pole-1-essential-gone" in only(found, "results").value
        await broker.close()


async def test_nats_on_the_loopback_of_a_cloud_node_elsewhere(
    tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_part, "LOGIN_S", 0.3)
    found, opened = Group("nats"), pb.Opened(results=pb.ResultsAddress(servers=[f"nats://127.0.0.1:{free_port}"]))
    await check_broker(settings(tmp_path, cloud="gpu-box:50051"), found, Group("clock"), opened)
    assert only(found, "login").mark is Mark.FAIL and "--nats URL" in only(found, "address").advice


async def test_the_disk(tmp_path: Path) -> None:
    found = Group("disk")
    await check_disk(settings(tmp_path), found)
    assert [finding.mark for finding in found.findings] == [Mark.OK] * 3
    assert float(only(found, "durable write").figures["mib_per_s"]) > 0 and not list((tmp_path / "out").iterdir())
    found = Group("disk")
    await check_disk(settings(tmp_path, care=Care(min_free_mib=10**9)), found)
    assert only(found, "free").mark is Mark.FAIL
    (tmp_path / "file").write_text("")
    found = Group("disk")
    await check_disk(settings(tmp_path, output=Output(output=tmp_path / "file" / "below")), found)
    [finding] = found.findings
    assert finding.mark is Mark.FAIL and "cannot write in" in finding.value


async def test_models_run_here(tmp_path: Path) -> None:
    found = Group("models")
    await check_models(settings(tmp_path, reading=Reading(detector_threads=1)), found)
    assert [finding.mark for finding in found.findings] == [Mark.OK] * 3
    found = Group("models")
    await check_models(settings(tmp_path, reading=Reading(detector="dbnett")), found)
    assert only(found, "detector").mark is Mark.FAIL and "dbnett" in only(found, "detector").value


async def test_weights_of_another_network_are_a_warning(tmp_path: Path) -> None:
    model = wheel_model("rec", "the test").read_bytes()
    name = "conv2d_68.w_0"
    weights = Network(model).weights(name.encode())
    assert weights is not None
    write_overlay(tmp_path / "other.npz", model + b"\x4a\x00", {name: weights + 1})  # an empty unknown field
    found = Group("models")
    reading = Reading(detector_threads=1, recognizer=str(tmp_path / "other.npz"))
    await check_models(settings(tmp_path, reading=reading), found)
    finding = only(found, "recogniser")
    assert finding.mark is Mark.WARN and "is read with as it is" in finding.value and "rapidocr" in finding.advice


def test_memory_and_temperature(tmp_path: Path) -> None:
    found = Group("machine")
    check_host(settings(tmp_path), found, thermal=tmp_path)
    assert only(found, "memory").mark in (Mark.OK, Mark.WARN) and only(found, "temperature").mark is Mark.SKIP
    (tmp_path / "thermal_zone0").mkdir()
    (tmp_path / "thermal_zone0" / "temp").write_text("71500\n")
    (tmp_path / "meminfo").write_text("MemTotal: 1000000 kB\nMemAvailable:     204800 kB\n")
    found = Group("machine")
    check_host(settings(tmp_path, care=Care(max_celsius=70)), found, thermal=tmp_path, proc=tmp_path)
    assert only(found, "temperature").mark is Mark.WARN and only(found, "temperature").figures == {"celsius": 71.5}
    assert only(found, "memory").mark is Mark.WARN and only(found, "memory").figures == {"available_mib": 200}


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="Linux tells of its clock")
def test_the_kernel_tells_of_its_clock() -> None:
    kernel = kernel_clock()
    assert kernel is not None and kernel[1] >= 0
    found = Group("clock")
    check_ntp(found)
    assert only(found, "NTP").figures["synchronised"] is kernel[0]
