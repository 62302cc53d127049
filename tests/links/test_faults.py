"""A real edge node and real cloud nodes on a link that is cut, and nodes that are killed."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from laboratory import Host, Laboratory, Shape
from processes import Cloud, Process, dark_photos, edge_arguments, readings
from two_clouds import two_clouds


@pytest.fixture
def clouds(laboratory: Laboratory, tmp_path: Path) -> Iterator[dict[str, Cloud]]:
    with two_clouds(laboratory, tmp_path) as started:
        yield started


def more_readings(edge: Process, output: Path) -> None:
    before = len(readings(output))
    edge.wait_until(lambda: len(readings(output)) >= before + 5)


def test_a_link_that_is_cut_and_a_node_that_is_killed(
    laboratory: Laboratory, clouds: dict[str, Cloud], tmp_path: Path
) -> None:
    """A camera sees four photographs in turn for as long as it takes; none is lost, and none is read twice."""
    host: Host = laboratory.host("edge", Shape(rate_mbit=20, delay_ms=10))
    photos = dark_photos(tmp_path / "photos")
    out = tmp_path / "out"
    arguments = edge_arguments(",".join(clouds), photos, out, "--loop", "--fps", "10", "--retry-s", "600", "--insecure")
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
