"""Load on a real cloud node, by real processes: every frame is accounted for, every edge has its own connections."""

import asyncio
import json
import logging
import signal
import sys
from pathlib import Path

import psutil
import pytest
from PIL import Image
from processes import Cloud, Process

from common.frame import Priority
from edge_node.load import LoadSettings, run
from edge_node.load.records import Ending
from edge_node.load.settings import Frames, Results

ENDINGS = ("enhanced", "rejected", "expired", "failed", "dropped", "lost")


def load_arguments(cloud: str, photos: Path, output: Path, flags: str) -> list[str]:
    name = output.parent.name.replace("_", "-")[-40:]  # each test has edges of its own
    fixed = ["-m", "edge_node", "load", "--cloud", cloud, "--source", str(photos), "--output", str(output)]
    return [*fixed, "--size", "64x48", "--name", name, *flags.split()]


def figures(output: Path) -> dict:
    """load.json, whose sums must hold."""
    found = json.loads((output / "load.json").read_text())
    assert found["sums_hold"] and sum(found["total"].values()) == found["total_offered"] > 0
    for share in (found["all"], *found["priorities"].values()):
        assert sum(share["endings"].values()) == share["offered"]
        assert share["latency_ms"]["count"] == share["endings"]["enhanced"]
    assert tuple(found["total"]) == ENDINGS
    return found


def test_a_load_is_measured_and_written_down(cloud: Cloud, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "load"
    flags = (
        "--edges 3 --fps 4 --priority-mix 1:2:1 --duration 4 --warm-up 1 --timeout-s 60 --result-format webp --decode"
    )
    load = Process(*load_arguments(cloud.address, photos, out, flags))
    assert load.wait() == 0, load.output
    found = figures(out)
    assert found["total"] == dict.fromkeys(ENDINGS, 0) | {"enhanced": 60}
    assert found["all"]["offered"] == 48
    offered = [found["priorities"][name]["offered"] for name in ("essential", "standard", "secondary")]
    assert abs(offered[0] - 12) <= 3 and abs(offered[1] - 24) <= 3 and sum(offered) == 48
    assert all(found["priorities"][name]["latency_ms"]["p50"] > 0 for name in ("essential", "standard", "secondary"))
    assert list(found["stages_ms"])[:3] == ["uplink", "ingress", "scheduler"] and "downlink" in found["stages_ms"]
    assert sum(found["served_by_edge"]) > 0 and len(found["served_by_edge"]) == 3
    assert all(model.startswith("fast-") for model in found["models"])
    assert found["connected_at_end"] == 3 and not found["ended_early"]
    with Image.open(out / "load.png") as picture:
        assert picture.size[0] > 1_000
    assert "60 frames, warm-up and all = 60 enhanced" in load.output and "p99.9" in load.output


def connections(process: psutil.Process, port: int) -> set:
    """Peers of the established connections at a port that the process listens on."""
    made = process.net_connections(kind="tcp")
    return {item.raddr for item in made if item.status == psutil.CONN_ESTABLISHED and item.laddr.port == port}


@pytest.mark.parametrize("processes", [1, 3])
def test_every_edge_has_connections_of_its_own(
    cloud: Cloud, start, photos: Path, tmp_path: Path, processes: int
) -> None:
    node = psutil.Process(cloud.pid)
    [nats] = [child for child in node.children() if "nats-server" in child.name()]
    nats_ports = {item.laddr.port for item in nats.net_connections(kind="tcp") if item.status == psutil.CONN_LISTEN}
    before = {port: connections(nats, port) for port in nats_ports}
    assert not connections(node, cloud.port)
    out = tmp_path / "load"
    flags = f"--edges 12 --processes {processes} --fps 0.5 --duration 600 --warm-up 0"
    load = start(Process, *load_arguments(cloud.address, photos, out, flags))
    load.wait_for("12/12 edges.* p50 ")
    assert len(connections(node, cloud.port)) == 12
    assert sum(len(connections(nats, port) - before[port]) for port in nats_ports) == 12
    assert load.end(signal.SIGINT) == 0, load.output
    found = figures(out)
    assert found["ended_early"] and found["seconds"] < 600 and "it was ended early" in load.output
    assert not connections(node, cloud.port), "and none is left"


def test_rejections_are_counted(start, photos: Path, tmp_path: Path) -> None:
    node = start(Cloud, "--max-queued", "1")
    out = tmp_path / "load"
    flags = "--edges 6 --fps 40 --duration 2 --warm-up 0 --backlog 5 --timeout-s 60"
    load = Process(*load_arguments(node.address, photos, out, flags))
    assert load.wait() == 0, load.output
    found = figures(out)
    assert found["total"]["rejected"] > 0 and found["total"]["enhanced"] > 0 and found["total"]["lost"] == 0
    reasons = [item for item in found["reasons"] if item["ending"] == "rejected"]
    assert sum(item["frames"] for item in reasons) == found["all"]["endings"]["rejected"]
    assert reasons[0]["reason"].startswith("overloaded") and "of the frames have none" in load.output


@pytest.mark.parametrize("processes", [1, 2])
def test_an_unreachable_node(free_port: int, photos: Path, tmp_path: Path, processes: int) -> None:
    flags = f"--edges 2 --processes {processes} --connect-timeout-s 0.5"
    load = Process(*load_arguments(f"127.0.0.1:{free_port}", photos, tmp_path / "load", flags))
    assert load.wait() == 7
    assert "start one with `python -m cloud_node`" in load.output and "Traceback" not in load.output


def test_a_name_in_use(cloud: Cloud, start, photos: Path, tmp_path: Path) -> None:
    arguments = load_arguments(cloud.address, photos, tmp_path / "load", "--edges 2 --fps 0.5 --duration 600")
    first = start(Process, *arguments)
    first.wait_for("2/2 edges")
    second = Process(*arguments)
    assert second.wait() == 7
    assert "in use by another session" in second.output and "--name" in second.output
    assert first.end(signal.SIGINT) == 0


def test_a_node_that_is_lost(start, photos: Path, tmp_path: Path) -> None:
    node = start(Cloud, "--preset", "edge")
    out = tmp_path / "load"
    flags = "--edges 3 --fps 5 --duration 8 --warm-up 0 --timeout-s 1"
    load = start(Process, *load_arguments(node.address, photos, out, flags))
    load.wait_for("3/3 edges.* p50 ")
    node.end(signal.SIGKILL)
    load.wait_for("3 of 3 edges are cut off: their frames wait")
    assert load.wait() == 7, load.output
    found = figures(out)
    assert found["total"]["enhanced"] > 0 and found["total"]["dropped"] > 0 and found["connected_at_end"] == 0
    assert "3 of 3 edges were cut off at the end" in load.output and "Traceback" not in load.output


def test_a_node_that_comes_back(start, free_port: int, photos: Path, tmp_path: Path) -> None:
    node = start(Cloud, "--preset", "edge", port=free_port)
    out = tmp_path / "load"
    flags = "--edges 2 --fps 4 --duration 8 --warm-up 0 --timeout-s 120 --retry"
    load = start(Process, *load_arguments(node.address, photos, out, flags))
    load.wait_for("2/2 edges.* p50 ")
    node.end(signal.SIGKILL)
    start(Cloud, "--preset", "edge", port=free_port)
    assert load.wait() == 0, load.output
    found = figures(out)
    assert found["total"]["enhanced"] == found["total_offered"] == 64
    assert found["reopened"] >= 2 and found["connected_at_end"] == 2


def test_a_load_process_that_dies_ends_the_run(cloud: Cloud, start, photos: Path, tmp_path: Path) -> None:
    flags = "--edges 4 --processes 2 --fps 1 --duration 600"
    load = start(Process, *load_arguments(cloud.address, photos, tmp_path / "load", flags))
    load.wait_for("4/4 edges")
    children = psutil.Process(load.pid).children()
    workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    assert len(workers) == 2
    workers[0].kill()
    assert load.wait() == 1
    assert "ended by itself, exit code -9" in load.output
    assert not psutil.wait_procs(children, timeout=60)[1]


def test_more_edges_than_this_process_may_have_files(photos: Path, tmp_path: Path) -> None:
    arguments = load_arguments("127.0.0.1:1", photos, tmp_path / "load", "--edges 500")
    limited = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)); "
    load = Process("-c", f"{limited}os.execv(sys.executable, {[sys.executable, *arguments]!r})")
    assert load.wait() == 2
    assert "these edges need" in load.output and "--processes" in load.output


async def test_two_loads_at_once_as_a_library(cloud: Cloud, photos: Path) -> None:
    common = {"source": str(photos), "cloud": cloud.address, "duration_s": 2.0, "warm_up_s": 0.0}
    frames = Frames(size="64x48")
    one = LoadSettings(**common, edges=1, fps=3.0, priority_mix="1:0:0", name="vip", frames=frames)
    others = LoadSettings(
        **common, edges=3, fps=2.0, priority_mix="0:0:1", frames=frames, results=Results(preset="fast")
    )
    seen = []
    vip, bulk = await asyncio.gather(run(one, on_progress=seen.append), run(others))
    assert vip.sums_hold and bulk.sums_hold and seen[-1].edges == 1
    assert vip.priorities[Priority.ESSENTIAL].offered == vip.all.offered == 6
    assert bulk.priorities[Priority.SECONDARY].offered == bulk.all.offered == 12
    assert vip.all.endings[Ending.ENHANCED] == 6
    assert vip.rows.size == 6
    assert not logging.getLogger("edge_node.uplink").filters, "logging is as it was"
