"""The cloud goes and comes back: this device takes over, and gives back."""

import os
import signal
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image
from processes import Cloud, Process, dark_sign, edge_arguments, readings


def each_once(output: Path) -> list[dict]:
    """Readings in the order of their frames; every frame has one."""
    found = sorted(readings(output), key=lambda line: line["sequence"])
    assert [line["sequence"] for line in found] == list(range(len(found)))
    return found


def paths(output: Path) -> list[str]:
    return [line["path"] for line in readings(output)]


def test_the_cloud_is_killed_and_readings_go_on(start, free_port: int, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    node = start(Cloud, "--preset", "none", port=free_port)
    edge = start(
        Process,
        *edge_arguments(node.address, photos, out, "--detector", "none", "--loop", "--fps", "10"),
    )
    edge.wait_until(lambda: paths(out).count("cloud") >= 3)
    node.end(signal.SIGKILL)
    edge.wait_for("the cloud is away: this device lights frames up by itself, with edge-")
    edge.wait_until(lambda: paths(out).count("edge") >= 5)
    start(Cloud, "--preset", "none", port=free_port)
    edge.wait_for("the cloud lights frames up again")
    before = len(readings(out))
    edge.wait_until(lambda: paths(out)[before:].count("cloud") >= 3)
    assert edge.end(signal.SIGTERM) == 0, edge.output

    found = each_once(out)
    assert {line["outcome"] for line in found} == {"enhanced"}
    assert [path for path, _ in groupby(line["path"] for line in found)] == ["cloud", "edge", "cloud"]
    models = {line["path"]: line["model"].split("-")[0] for line in found}
    assert models == {"cloud": "none", "edge": "edge"}
    assert sum("lights frames up" in line for line in edge.lines) == 2, "each switch is said once"
    assert f"{sum(line['path'] == 'edge' for line in found)} lit up on this device" in edge.output


def test_without_any_cloud_node(photos: Path, tmp_path: Path) -> None:
    """Bright frames are read as they are, dark ones are lit up here, and nobody waits for anybody."""
    out = tmp_path / "out"
    (photos / "0.png").unlink()
    (photos / "1.png").unlink()
    Image.fromarray((np.asarray(dark_sign("BRIGHT")) * 12.0).clip(0, 255).astype(np.uint8)).save(photos / "9.png")
    edge = Process(
        *edge_arguments("127.0.0.1:1", photos, out, "--local", "only", "--annotate", "--detector-side", "416")
    )
    assert edge.wait() == 0, edge.output
    found = each_once(out)
    assert [(line["outcome"], line["path"]) for line in found] == [("enhanced", "edge")] * 2 + [("as_is", "none")]
    assert all(line["regions"] for line in found)
    assert [line["model"] for line in found] == [found[0]["model"]] * 2 + [""]
    assert found[0]["sharpness"] == {"before": None, "after": None}
    assert "1 as is" in edge.output and "2 judged dark" in edge.output and "1 judged bright" in edge.output
    assert len(list((out / "annotated").glob("*.jpg"))) == 3


def test_a_cloud_that_freezes_is_too_slow_for_the_deadline(start, photos: Path, tmp_path: Path) -> None:
    """Its stream stays open; what it held comes when it goes on, too late to be shown."""
    out = tmp_path / "out"
    node = start(Cloud, "--preset", "none")
    edge = start(
        Process,
        *edge_arguments(node.address, photos, out, "--detector", "none", "--loop", "--fps", "4"),
        *("--deadline-ms", "3000"),
    )
    edge.wait_until(lambda: paths(out).count("cloud") >= 3)
    os.kill(node.pid, signal.SIGSTOP)
    edge.wait_for("the cloud is too slow for the deadline: this device lights frames up by itself")
    edge.wait_until(lambda: paths(out).count("edge") >= 5)
    os.kill(node.pid, signal.SIGCONT)
    edge.wait_for("the cloud lights frames up again")
    before = len(readings(out))
    edge.wait_until(lambda: paths(out)[before:].count("cloud") >= 2)
    assert edge.end(signal.SIGTERM) == 0, edge.output
    assert {line["outcome"] for line in each_once(out)} == {"enhanced"}
    assert "taken over (too late for the deadline)" in edge.output
