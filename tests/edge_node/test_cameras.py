"""Several cameras in one process: their settings, and one's failure beside the others."""

import asyncio
from pathlib import Path

import pytest

from common.errors import SettingsError, SourceError
from edge_node import cameras
from edge_node.node import EdgeNode
from edge_node.reader import Reader
from edge_node.settings import EdgeSettings
from edge_node.sources import open_source


def names(each: list[EdgeSettings]) -> list[tuple[str, str | None]]:
    return [(one.name, one.camera or one.source) for one in each]


def test_one_camera_keeps_its_name_and_folder() -> None:
    [one] = cameras.load(EdgeSettings, ["--camera", "0", "--edge", "gate", "--output", "out"])
    assert (one.name, one.output.output, one.live.wait_for_source) == ("gate", Path("out"), False)


def test_flags_given_again_are_more_cameras() -> None:
    each = cameras.load(
        EdgeSettings,
        ["--camera", "0", "--source", "rtsp://cam/a,b", "--camera", "lavfi:testsrc,format=gray", "--edge", "gate"],
    )
    assert names(each) == [("gate-0", "0"), ("gate-1", "lavfi:testsrc,format=gray"), ("gate-2", "rtsp://cam/a,b")]
    assert [one.output.output for one in each] == [Path("readings", f"gate-{number}") for number in range(3)]
    assert all(one.live.wait_for_source for one in each)


def test_flags_count_for_those_that_they_fit(tmp_path: Path) -> None:
    flags = ["--camera", "0", "--source", "rtsp://cam/live", "--source", str(tmp_path), "--source", "/dev/video1"]
    each = cameras.load(EdgeSettings, [*flags, "--size", "640x480", "--watch"])
    assert [one.size for one in each] == ["640x480", "", "", "640x480"]
    assert [one.watch for one in each] == [False, False, True, False]


def test_the_longest_name_stays_a_name() -> None:
    each = cameras.load(EdgeSettings, ["--camera", "0", "--camera", "1", "--edge", "x" * 64])
    assert [len(one.name) for one in each] == [64, 64] and each[0].name != each[1].name


FILE = """
cloud = "gpu-box"
fps = 2
edge = "pole"

[sending]
in_flight = 3

[[camera]]
camera = 0
fps = 5

[[camera]]
source = "rtsp://10.0.0.7/stream"
edge = "yard"
[camera.sending]
priority = "essential"

[[camera]]
camera = "/dev/video2"
size = "1280x720"
"""


def write(folder: Path, text: str) -> list[str]:
    (folder / "edge.toml").write_text(text)
    return ["--config", str(folder / "edge.toml")]


def test_tables_in_a_file(tmp_path: Path) -> None:
    each = cameras.load(EdgeSettings, write(tmp_path, FILE))
    assert names(each) == [("pole-0", "0"), ("yard", "rtsp://10.0.0.7/stream"), ("pole-2", "/dev/video2")]
    assert [one.fps for one in each] == [5, 2, 2]
    assert [one.sending.priority.name for one in each] == ["STANDARD", "ESSENTIAL", "STANDARD"]
    assert {(one.cloud, one.sending.in_flight) for one in each} == {("gpu-box", 3)}
    assert each[2].camera_size == (1280, 720)


def test_flags_win_over_tables(tmp_path: Path) -> None:
    arguments = write(tmp_path, FILE)
    assert [one.fps for one in cameras.load(EdgeSettings, [*arguments, "--fps", "9"])] == [9, 9, 9]
    assert names(cameras.load(EdgeSettings, [*arguments, "--camera", "7"])) == [("pole", "7")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[camera]]\ncamera = 0\n\n[[camera]]\ncamera = 1\nfsp = 3\n", r"edge\.toml:6: unknown setting 'fsp'"),
        ("[[camera]]\ncamera = 0\nfps = 1\n[[camera]]\ncamera = 1\nfps = 'x'\n", r"edge\.toml:6: 'x' is not a number"),
        ("[[camera]]\ncamera = 0\n[[camera]]\nfps = 2\n", "say what to look at"),
        ("[[camera]]\ncamera = 0\nsource = 'x'\n", "say what to look at"),
        ("[[camera]]\ncamera = 0\n[camera.sending]\nspeed = 2\n", r"edge\.toml:4: unknown setting 'sending\.speed'"),
        ("[[cameras]]\ncamera = 0\n", r"edge\.toml:1: unknown setting 'cameras'"),
    ],
)
def test_wrong_tables(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        cameras.load(EdgeSettings, write(tmp_path, text))


def test_two_with_the_same_name_are_refused(tmp_path: Path) -> None:
    text = "".join(f"[[camera]]\ncamera = {n}\nedge = '{edge}'\n" for n, edge in enumerate(["a", "a", "a-1"]))
    with pytest.raises(SettingsError, match="two cameras have the name a-1"):
        cameras.load(EdgeSettings, write(tmp_path, text))


async def test_the_failure_of_one_does_not_end_the_others(
    tmp_path: Path, free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"not an image")
    made_up = "lavfi:testsrc2=size=64x48:rate=50"
    flags = ["--camera", made_up, "--camera", made_up, "--source", str(tmp_path / "broken.jpg")]
    each = cameras.load(EdgeSettings, [*flags, "--edge", "gate", "--cloud", f"127.0.0.1:{free_port}"])
    nodes = [EdgeNode(one, open_source(one.camera, one.source), Reader(None), []) for one in each]
    stop = asyncio.Event()
    running = asyncio.create_task(cameras.side_by_side(nodes, stop))
    async with asyncio.timeout(60):
        while "the others go on" not in caplog.text or not all(node.ledger.outcomes for node in nodes[:2]):
            await asyncio.sleep(0.01)
        assert not running.done()
        stop.set()
        with pytest.raises(SourceError, match=r"broken\.jpg is no image"):
            await running
    assert "gate-2 (broken.jpg) has ended, the others go on" in caplog.text
    assert all(node.source.status.frames for node in nodes[:2])
    assert [node.settings.name for node in nodes] == ["gate-0", "gate-1", "gate-2"]


def test_one_that_cannot_be_is_left_out_unless_it_is_alone(caplog: pytest.LogCaptureFixture) -> None:
    each = cameras.load(EdgeSettings, ["--camera", "0", "--source", "nowhere.mp4", "--edge", "gate"])

    def make(one: EdgeSettings) -> str:
        if one.source:
            raise SourceError("there is no nowhere.mp4")
        return one.name

    nodes, failures = cameras.assembled(each, make)
    assert nodes == ["gate-0"] and len(failures) == 1 and "gate-1 is left out" in caplog.text
    with pytest.raises(SourceError, match="nowhere"):
        cameras.assembled(each[1:], make)
