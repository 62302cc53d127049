"""`python -m edge_node check` as people and scripts run it."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from hand_edges import hand_edges
from processes import ROOT, Cloud

from edge_node.check import Mark, check
from edge_node.settings import EdgeSettings, Output, Reading
from lamplight.v1 import enhancement_pb2 as pb


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_node", "check", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_a_node_that_would_work(cloud: Cloud, photos: Path, tmp_path: Path) -> None:
    done = run("--cloud", cloud.address, "--source", str(photos), "--output", str(tmp_path / "out"), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["works"] is True
    marks = {(finding["group"], finding["name"]): finding["mark"] for finding in report["findings"]}
    assert {group for group, _ in marks} == {"source", "cloud", "nats", "models", "disk", "clock", "machine"}
    for needed in (("cloud", "health"), ("cloud", "picture"), ("nats", "results"), ("models", "detector")):
        assert marks[needed] == "ok"


def test_a_node_that_would_not(photos: Path, tmp_path: Path, free_port: int) -> None:
    (tmp_path / "edge.toml").write_text(
        f'source = "{photos}"\ncloud = "127.0.0.1:{free_port}"\n[reading]\ndetector = "none"\n'
    )
    done = run("--config", str(tmp_path / "edge.toml"), "--output", str(tmp_path / "out"))
    assert done.returncode == 1, done.stdout + done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert f"127.0.0.1:{free_port}: nobody listens there" in line
    assert "start one with `python -m cloud_node`" in done.stdout and "the node would not work" in done.stdout
    assert run("--cloud", "localhost").returncode == 2, "as the node: nothing to look at"


async def test_beside_an_edge_of_the_same_name(cloud: Cloud, photos: Path, tmp_path: Path) -> None:
    async with hand_edges(cloud.address) as connect:
        running = connect()
        await running.open("pole-7", "s1")

        async def stay() -> None:
            while True:
                await running.expect("probe")
                await running.call.write(pb.EdgeMessage(alive=pb.Alive()))

        staying = asyncio.create_task(stay())
        given = EdgeSettings(
            source=str(photos), cloud=f"{cloud.address},127.0.0.1:1", edge="pole-7",
            output=Output(output=tmp_path / "out"), reading=Reading(detector="none"),
        )  # fmt: skip
        findings = await check([given])
        [stream] = [finding for finding in findings if finding.name == "stream"]
        assert stream.mark is Mark.OK and stream.figures["beside_a_running_edge"] is True
        away = [finding for finding in findings if finding.name == "address" and finding.mark is not Mark.OK]
        assert [finding.mark for finding in away] == [Mark.WARN], "the other one of the list works"
        assert not [finding for finding in findings if finding.mark is Mark.FAIL]
        assert not staying.done(), "the running edge keeps its stream"
        staying.cancel()
        await asyncio.gather(staying, return_exceptions=True)
