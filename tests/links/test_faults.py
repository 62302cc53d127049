"""A real edge node and real cloud nodes on a link that is cut, and nodes that are killed."""

import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from laboratory import Host, Laboratory, Shape
from processes import Cloud, Process, dark_sign, edge_arguments, readings

from common.nats_server import find_server

NATS_PORT, PORT = 4222, 50051


@pytest.fixture
def clouds(laboratory: Laboratory, tmp_path: Path) -> Iterator[dict[str, Cloud]]:
    """Two nodes that publish to one NATS server, each on a host of its own; by address."""
    broker = laboratory.host("broker")
    nats = ("-js", "-a", "0.0.0.0", "-p", str(NATS_PORT), "-sd", str(tmp_path / "store"))
    broker.start(str(find_server()), *nats, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    arguments = (
        "--preset",
        "none",
        "--host",
        "0.0.0.0",
        "--insecure",
        "--nats",
        f"nats://{broker.address}:{NATS_PORT}",
    )
    hosts = [laboratory.host(name) for name in ("a", "b")]
    with ThreadPoolExecutor() as pool:  # both at once: each takes seconds to import torch
        nodes = pool.map(lambda host: Cloud(*arguments, port=PORT, prefix=host.prefix), hosts)
        started = dict(zip((f"{host.address}:{PORT}" for host in hosts), nodes, strict=True))
        yield started  # here: a process of a host ends with the thread that started it
        for cloud in started.values():
            cloud.end(signal.SIGKILL)


def more_readings(edge: Process, output: Path, more: int = 5) -> None:
    before = len(readings(output))
    edge.wait_until(lambda: len(readings(output)) >= before + more)


def test_a_link_that_is_cut_and_a_node_that_is_killed(
    laboratory: Laboratory, clouds: dict[str, Cloud], tmp_path: Path
) -> None:
    """A camera sees four photographs in turn for as long as it takes; none is lost, and none is read twice."""
    host: Host = laboratory.host("edge", Shape(rate_mbit=20, delay_ms=10))
    (tmp_path / "photos").mkdir()
    for number, text in enumerate(("STATION", "EXIT 12", "MAIN ROAD", "PARKING")):
        dark_sign(text).save(tmp_path / "photos" / f"{number}.png")
    out = tmp_path / "out"
    arguments = edge_arguments(
        ",".join(clouds), tmp_path / "photos", out, "--loop", "--fps", "10", "--retry-s", "600", "--insecure"
    )
    edge = Process(*arguments, "--detector", "none", prefix=host.prefix)
    try:
        in_use = edge.wait_for(r"connected to (\S+): none").group(1)
        more_readings(edge, out)

        host.cut()
        edge.wait_for("no progress for .*trying again")
        host.restore()
        in_use = edge.wait_for(r"connected to (\S+): none").group(1)
        more_readings(edge, out)

        clouds[in_use].end(signal.SIGKILL)
        other = edge.wait_for(r"connected to (\S+): none").group(1)
        assert {in_use, other} == set(clouds)
        more_readings(edge, out)
        assert edge.end(signal.SIGTERM) == 0, edge.output
    finally:
        edge.end(signal.SIGKILL)
    found = readings(out)
    assert sorted(line["sequence"] for line in found) == list(range(len(found))), "each once, and none missing"
    on_way = [line for line in found if line["outcome"] != "enhanced"]
    assert all("was stopped" in line["reason"] for line in on_way) and len(on_way) <= 4
