"""Parts that are missing, die, or come back: clear words, and nothing lost."""

import asyncio
import os
import signal
import socket
import time
from pathlib import Path

import nats
import numpy as np
import psutil
import pytest
from processes import Cloud, Process, dark_sign, edge_arguments, readings

from common import packing, wire
from common.channel import connect
from common.nats_server import find_server
from common.pixels import RawImage
from edge_node.client import Client
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import enhancement_pb2_grpc, frame_pb2, result_pb2

SMALL = ("--preset", "edge")  # a network that takes no time to speak of


def settled(output: Path) -> dict[str, str]:
    found = readings(output)
    assert len({line["frame"] for line in found}) == len(found), "one visible reading for each frame"
    return {line["name"]: line["outcome"] for line in found}


def test_a_port_in_use(cloud: Cloud) -> None:
    second = Process("-m", "cloud_node", "--device", "cpu", "--port", str(cloud.port))
    assert second.wait() == 8
    assert f"cannot listen on 127.0.0.1:{cloud.port}" in second.output and "--port 0" in second.output


def test_a_gpu_that_is_not_there() -> None:
    node = Process("-m", "cloud_node", "--gpus", "7", "--port", "0")
    assert node.wait() == 5
    assert "--gpus 7" in node.output and "use --" in node.output


def test_nats_that_does_not_answer(free_port: int) -> None:
    node = Process("-m", "cloud_node", "--device", "cpu", "--port", "0", "--nats", f"nats://127.0.0.1:{free_port}")
    assert node.wait() == 7
    assert str(free_port) in node.output and "Traceback" not in node.output


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--camera", "97"], 3, "97"),
        (["--source", "nowhere.mp4"], 3, "nowhere.mp4"),
        (["--source", "README.md"], 3, "README.md"),
        (["--source", "tests"], 3, "tests"),
        ([], 2, "say what to look at"),
        (["--camera", "0", "--in-flight", "0"], 2, "--in-flight"),
    ],
)
def test_sources_that_cannot_be(arguments: list[str], code: int, words: str, tmp_path: Path) -> None:
    edge = Process("-m", "edge_node", *arguments, "--output", str(tmp_path), "--detector", "none")
    assert edge.wait() == code
    assert words in edge.output and "Traceback" not in edge.output


def test_no_cloud_node_within_the_time_given(free_port: int, photos: Path, tmp_path: Path) -> None:
    arguments = edge_arguments(f"127.0.0.1:{free_port}", photos, tmp_path / "out", "--connect-timeout-s", "1")
    edge = Process(*arguments, "--detector", "none")
    assert edge.wait() == 7
    assert "start one with `python -m cloud_node`" in edge.output


def test_the_cloud_comes_later(start, free_port: int, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    edge = start(Process, *edge_arguments(f"127.0.0.1:{free_port}", photos, out, "--detector", "none"))
    edge.wait_for("trying again")
    start(Cloud, *SMALL, port=free_port)
    assert edge.wait() == 0, edge.output
    assert set(settled(out).values()) == {"enhanced"} and len(settled(out)) == 4


def test_the_cloud_is_killed_and_comes_back(start, free_port: int, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    node = start(Cloud, *SMALL, port=free_port)
    edge = start(
        Process,
        *edge_arguments(node.address, photos, out, "--detector", "none", "--loop", "--limit", "30", "--fps", "10"),
    )
    edge.wait_until(lambda: len(readings(out)) >= 5)
    node.end(signal.SIGKILL)
    edge.wait_for("trying again")
    start(Cloud, *SMALL, port=free_port)
    assert edge.wait() == 0, edge.output
    found = readings(out)
    assert len(found) == 30 == len({line["frame"] for line in found})
    assert {line["outcome"] for line in found} == {"enhanced"}


def test_what_a_node_started_goes_when_it_is_killed(start) -> None:
    node = start(Cloud, *SMALL)
    children = psutil.Process(node.pid).children(recursive=True)
    assert len(children) == 2, "the NATS server, and the process of the device"
    node.end(signal.SIGKILL)
    assert not psutil.wait_procs(children, timeout=60)[1]


def test_a_device_that_is_killed_is_replaced(start) -> None:
    node = start(Cloud, "--preset", "none")
    dark = np.full((48, 64, 3), 12, np.uint8)
    with Client(node.address) as client:
        assert client.enhance(dark).model == "none-0"
        for child in psutil.Process(node.pid).children():
            if "cloud_node.device_child" in child.cmdline():
                child.kill()
        node.wait_for("cpu is lost: the process of cpu ended by signal 9")
        node.wait_for("cpu works again")
        assert client.enhance(dark).model == "none-0"


def test_stopping_finishes_what_was_accepted(start, photos: Path, tmp_path: Path) -> None:
    node = start(Cloud, *SMALL)
    out = tmp_path / "out"
    edge = start(Process, *edge_arguments(node.address, photos, out, "--detector", "none", "--loop", "--fps", "5"))
    edge.wait_until(lambda: len(readings(out)) >= 3)
    assert edge.end(signal.SIGTERM) == 0, edge.output
    assert {line["outcome"] for line in readings(out)} == {"enhanced"}
    children = psutil.Process(node.pid).children(recursive=True)
    assert node.end(signal.SIGTERM) == 0, node.output
    assert not psutil.wait_procs(children, timeout=60)[1]


def start_nats(port: int, store: Path) -> Process:
    server = Process("-c", f"import os; os.execv({str(find_server())!r}, ['nats-server', '-js', '-a', '127.0.0.1', "
                     f"'-p', '{port}', '-sd', {str(store)!r}])")  # fmt: skip
    server.wait_for("Server is ready")
    return server


def test_nats_is_killed_and_comes_back(start, free_port: int, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    server = start_nats(free_port, tmp_path / "store")
    try:
        node = start(Cloud, *SMALL, "--nats", f"nats://127.0.0.1:{free_port}")
        edge = start(
            Process,
            *edge_arguments(node.address, photos, out, "--detector", "none", "--loop", "--limit", "20"),
            *("--fps", "10", "--retry-s", "3"),
        )
        edge.wait_until(lambda: len(readings(out)) >= 5)
        server.end(signal.SIGKILL)
        time.sleep(1.0)
        server = start_nats(free_port, tmp_path / "store")
        assert edge.wait() == 0, edge.output
    finally:
        server.end(signal.SIGKILL)
    found = readings(out)
    assert len(found) == 20 == len({line["frame"] for line in found})
    assert {line["outcome"] for line in found} == {"enhanced"}


def test_another_edge_of_the_same_name_is_refused(cloud: Cloud, start, photos: Path, tmp_path: Path) -> None:
    first = start(Process, *edge_arguments(cloud.address, photos, tmp_path / "same", "--loop", "--fps", "2"))
    first.wait_for("connected to")
    other = Process(*edge_arguments(cloud.address, photos, tmp_path / "same"))
    assert other.wait() == 7
    assert "in use by another session" in other.output and "--edge" in other.output
    assert first.end(signal.SIGTERM) == 0


def test_a_node_that_is_spoken_to_in_junk_lives(cloud: Cloud) -> None:
    with socket.create_connection(("127.0.0.1", cloud.port)) as connection:
        connection.sendall(os.urandom(10_000))
    from edge_node.client import Client

    with Client(cloud.address) as client:
        import numpy as np

        assert client.enhance(np.zeros((16, 16, 3), np.uint8)).rgb.shape == (16, 16, 3)


async def test_a_node_that_stops_finishes_what_it_accepted_and_waits_for_slow_edges(start) -> None:
    node = start(Cloud, *SMALL)
    async with connect(node.address) as channel:
        call = enhancement_pb2_grpc.EnhancementStub(channel).Stream()
        await call.write(pb.EdgeMessage(open=pb.Open(edge="slow", session="s")))
        opened = (await call.read()).opened
        client = await nats.connect(opened.results.servers[0])
        [consumer] = [item for item in opened.results.consumers if item.priority == frame_pb2.PRIORITY_STANDARD]
        pull = await client.jetstream().pull_subscribe_bind(consumer.consumer, consumer.stream)
        packed = wire.packed_to_proto(packing.pack(RawImage.from_rgb(np.asarray(dark_sign("SLOW")))))
        for sequence in range(4):
            await call.write(pb.EdgeMessage(frame=frame_pb2.Frame(sequence=sequence, image=packed)))
        kinds = []
        while kinds.count("accepted") < 4:
            kinds.append((await call.read()).WhichOneof("message"))
        os.kill(node.pid, signal.SIGTERM)
        while (message := await call.read()).WhichOneof("message") != "go_away":
            pass
        assert message.go_away.grace_ms > 0
        got = []
        for _ in range(4):
            [result] = await pull.fetch(1, timeout=60)
            got.append(result_pb2.Result.FromString(result.data).sequence)
            await asyncio.sleep(0.3)
            await result.ack()
        await client.close()
        call.cancel()
    assert sorted(got) == [0, 1, 2, 3]
    assert await asyncio.to_thread(node.wait) == 0, node.output
