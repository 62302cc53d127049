"""Frames that must not be lost, over edges and cloud nodes that are killed: one reading each in the end."""

import signal
from collections import Counter
from pathlib import Path

from processes import Cloud, Process, readings

from edge_node.spool.entry import from_file_name, now


def held(out: Path) -> set[str]:
    """Frames in the spool of the edge "pole"."""
    names = [path.name for path in (out / "spool" / "pole").glob("*.frame")]
    return {str(from_file_name(name, "pole", 0, now()).id) for name in names}


def pole(address: str, out: Path, *more: str) -> list[str]:
    camera = "lavfi:testsrc=size=320x240:rate=10"
    return ["-m", "edge_node", "--camera", camera, "--edge", "pole", "--cloud", address, "--output", str(out),
            "--detector", "none", "--priority", "essential", "--gate", "off", "--local", "off", *more]  # fmt: skip


def test_every_kept_frame_has_one_reading_though_edge_and_cloud_are_killed(
    start, free_port: int, tmp_path: Path
) -> None:
    address, promised = f"127.0.0.1:{free_port}", set[str]()
    cloud = start(Cloud, "--preset", "edge", port=free_port)
    edge = start(Process, *pole(address, tmp_path))
    edge.wait_until(lambda: len(readings(tmp_path)) >= 5)
    edge.end(signal.SIGKILL)  # with frames on their way, whose results come while it is away
    promised |= held(tmp_path)

    edge = start(Process, *pole(address, tmp_path))
    edge.wait_until(lambda: len({line["session"] for line in readings(tmp_path)}) > 1)
    cloud.end(signal.SIGKILL)
    edge.wait_until(lambda: len(held(tmp_path)) >= 6)
    edge.end(signal.SIGKILL)
    promised |= held(tmp_path)

    edge = start(Process, *pole(address, tmp_path, "--limit", "3"))
    edge.wait_for("of a former run")
    start(Cloud, "--preset", "edge", port=free_port)
    assert edge.wait() == 0, edge.output
    lines = readings(tmp_path)
    seen = Counter(line["frame"] for line in lines)
    assert set(seen.values()) == {1}
    assert promised <= set(seen) and not held(tmp_path)
    assert {line["outcome"] for line in lines} == {"enhanced"}
    assert {line["priority"] for line in lines} == {"essential"}
