"""The nodes under a service manager: what they tell it, and how they end."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from notify import NotifySocket
from processes import ROOT, Cloud, Process, edge_arguments, readings

from cloud_node.settings import CloudSettings
from common.settings import load
from edge_node.settings import EdgeSettings

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A cloud node without a network, which is looked after as well."""
    manager = NotifySocket(tmp_path_factory.mktemp("cloud") / "notify", watchdog_s=0.4)
    node = Cloud("--preset", "none", "--grace-s", "1", env=manager.environ)
    yield node
    node.wait_until(lambda: manager.count("READY") == 1 and manager.count("WATCHDOG") > 1)
    assert node.end() == 0, node.output
    manager.close()
    assert manager.count("READY") == manager.count("STOPPING") == 1
    assert any(line.startswith(f"ready on {node.address}") for line in manager.values("STATUS"))


def test_an_edge_tells_how_it_is(cloud: Cloud, start: Callable[..., Process], photos: Path, tmp_path: Path) -> None:
    manager, out = NotifySocket(tmp_path / "notify", watchdog_s=0.4), tmp_path / "out"
    more = ("--loop", "--fps", "20", "--detector", "none")
    edge = start(Process, *edge_arguments(cloud.address, photos, out, *more), env=manager.environ)
    edge.wait_until(lambda: manager.count("READY") == 1 and manager.count("WATCHDOG") > 3 and len(readings(out)) > 3)
    assert edge.end() == 0, edge.output
    manager.close()
    assert manager.count("READY") == manager.count("STOPPING") == 1
    assert manager.values("STATUS")[0].startswith(("connected", "no cloud node"))
    assert manager.fields.index(("READY", "1")) < manager.fields.index(("STOPPING", "1"))


def test_an_edge_is_ready_with_a_frame_though_no_cloud_node_is_there(
    start: Callable[..., Process], photos: Path, tmp_path: Path, free_port: int
) -> None:
    manager = NotifySocket(tmp_path / "notify", watchdog_s=0.4)
    arguments = edge_arguments(f"127.0.0.1:{free_port}", photos, tmp_path / "out", "--detector", "none")
    edge = start(Process, *arguments, env=manager.environ)
    edge.wait_until(lambda: manager.count("READY") == 1 and manager.count("WATCHDOG") > 1)
    edge.end()
    manager.close()


def test_an_edge_that_grew_too_large_ends_to_be_started_again(
    cloud: Cloud, start: Callable[..., Process], photos: Path, tmp_path: Path
) -> None:
    more = ("--loop", "--fps", "5", "--detector", "none", "--max-rss-mib", "1")
    edge = start(Process, *edge_arguments(cloud.address, photos, tmp_path / "out", *more))
    assert edge.wait() == 75, edge.output
    assert "more than --max-rss-mib 1" in edge.output and "Traceback" not in edge.output
    assert all(line["outcome"] in ("enhanced", "failed") for line in readings(tmp_path / "out"))


def test_a_disk_without_room_gets_readings_and_no_pictures(cloud: Cloud, photos: Path, tmp_path: Path) -> None:
    more = ("--annotate", "--detector", "none", "--min-free-mib", "1000000000")
    edge = Process(*edge_arguments(cloud.address, photos, tmp_path / "out", *more))
    assert edge.wait() == 0, edge.output
    assert len(readings(tmp_path / "out")) == 4 and not list((tmp_path / "out" / "annotated").iterdir())
    assert edge.output.count("no more pictures, readings go on") == 1


def test_a_detector_that_is_missing_ends_the_node(cloud: Cloud, photos: Path, tmp_path: Path) -> None:
    edge = Process(*edge_arguments(cloud.address, photos, tmp_path / "out", "--detector", "dbnett"))
    assert edge.wait() == 2 and "dbnett" in edge.output and "Traceback" not in edge.output


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_units_are_sound(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text()
    assert "/opt/lamplight/bin/python" in text and "Type=notify" in text and "WatchdogSec=" in text
    copy = tmp_path / unit.name
    copy.write_text(text.replace("/opt/lamplight/bin/python", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and unit.name not in done.stdout + done.stderr, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
@pytest.mark.parametrize(("name", "exposure"), [("edge", "1.6"), ("cloud", "3.2")])
def test_units_are_closed_as_the_page_says(name: str, exposure: str) -> None:
    unit = ROOT / "deploy" / "systemd" / f"lamplight-{name}.service"
    version = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=False).stdout
    if not version.startswith("systemd 252 "):
        pytest.skip("measured with systemd 252: others weigh in their own way")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "offline" in done.stderr:
        pytest.skip("this systemd-analyze cannot look at a file")
    score = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert score and float(score[1]) <= float(exposure), done.stdout
    page = (ROOT / "docs" / "operation.md").read_text()
    assert re.search(rf"\b{name}\b[a-z ]* {exposure}", page)


NO_WRITABLE_CODE = """
import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN: Linux 6.3
    sys.exit(77)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux' own")
def test_an_edge_needs_no_memory_that_is_written_and_run(cloud: Cloud, photos: Path, tmp_path: Path) -> None:
    """MemoryDenyWriteExecute= of the unit, by the kernel's own form of it; with detection and recognition."""
    assert "MemoryDenyWriteExecute=yes" in (ROOT / "deploy" / "systemd" / "lamplight-edge.service").read_text()
    edge = Process("-c", NO_WRITABLE_CODE, *edge_arguments(cloud.address, photos, tmp_path / "out", "--gate", "off"))
    code = edge.wait()
    if code == 77:
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert code == 0, edge.output
    assert [line["outcome"] for line in readings(tmp_path / "out")] == ["enhanced"] * 4


def test_settings_beside_the_units_fit() -> None:
    folder = UNITS[0].parent
    edge = load(EdgeSettings, ["--config", str(folder / "edge.toml")], {})
    assert edge.care.max_rss_mib == 600 and edge.camera == "0"
    cloud = load(CloudSettings, ["--config", str(folder / "cloud.toml")], {})
    assert cloud.http_address == ("127.0.0.1", 8080)
