"""What an operator does to a running node: look at it, reload it, serve several presets, stop it."""

import json
import os
import signal
import threading
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import psutil
import pytest
from processes import Cloud, Process
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from cloud_node.laegan.weights_files import COMMITTED
from common.errors import StreamRefused
from edge_node.client import Client, Lit

DARK = np.full((48, 64, 3), 12, np.uint8)


def save_as(version: str, target: Path) -> None:
    """The committed weights of preset edge under another version, moved into place."""
    with safe_open(COMMITTED / "edge.safetensors", "pt") as file:
        metadata = file.metadata()
    beside = target.with_suffix(".new")
    save_file(load_file(COMMITTED / "edge.safetensors"), beside, {**metadata, "version": version})
    os.replace(beside, target)


def get(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{address}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class Caller(threading.Thread):
    """Asks for one picture after another, until stopped."""

    def __init__(self, client: Client) -> None:
        super().__init__(daemon=True)
        self.models: list[str] = []
        self.error: Exception | None = None
        self._client, self._ended = client, threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                self.models.append(self._client.enhance(DARK, preset="edge").model)
            except Exception as error:
                self.error = error
                return

    def end(self) -> list[str]:
        self._ended.set()
        self.join(60)
        assert self.error is None
        return self.models


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    weights, policy = tmp_path / "edge.safetensors", tmp_path / "policy.toml"
    save_as("edge-first", weights)
    policy.write_text('[edges."single *"]\nquality = 80\n')
    return weights, policy


def test_presets_reload_and_status(start, files: tuple[Path, Path]) -> None:
    weights, policy = files
    node = start(Cloud, "--preset", "none,edge", "--weights", f"edge={weights}", "--policy", str(policy), "--http", "0")
    address = "http://" + next(line for line in node.lines if "health and status" in line).rpartition("//")[2]
    assert get(address, "/readyz") == (200, "ready\n")
    assert json.loads(get(address, "/status")[1])["models"] == {"none": "none-0", "edge": "edge-first"}

    with Client(node.address) as client:
        plain: Lit = client.enhance(DARK)
        assert plain.model == "none-0" and np.array_equal(plain.rgb, DARK)
        lit = client.enhance(DARK, preset="edge")
        assert lit.model == "edge-first" and lit.rgb.mean() > 2 * DARK.mean()
        with pytest.raises(StreamRefused, match="'none', 'edge', not 'paper'"):
            client.enhance(DARK, preset="paper")

        caller = Caller(client)
        caller.start()
        save_as("edge-second", weights)
        node.wait_for("preset edge is edge-second now")
        before = len(caller.models)
        node.wait_until(lambda: len(caller.models) > before + 3)
        weights.write_bytes(b"no weights at all")
        node.wait_for("preset edge keeps its weights: .*edge-second stays")
        policy.write_text("[default]\nhighest = 'urgent'\n")
        node.wait_for(r"the policy stays as it was: .*policy.toml:2")
        policy.write_text('[edges."single *"]\npreset = "none"\n')
        os.kill(node.pid, signal.SIGHUP)
        node.wait_for("policy .* is in force")
        node.wait_until(lambda: caller.models[-1] == "none-0")
        seen = caller.end()
    assert list(dict.fromkeys(seen)) == ["edge-first", "edge-second", "none-0"], "each took over once, none was lost"
    assert json.loads(get(address, "/status")[1])["models"]["edge"] == "edge-second"
    assert node.end() == 0


def test_a_policy_that_is_wrong_stops_the_start(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[edges.gate]\npreset = "paper"\n')
    node = Process("-m", "cloud_node", "--device", "cpu", "--port", "0", "--policy", str(policy))
    assert node.wait() == 2
    assert "policy.toml:2" in node.output and "Traceback" not in node.output


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this platform pins no threads")
def test_the_network_has_its_processor_for_itself(start) -> None:
    last = max(os.sched_getaffinity(0))
    node = start(Cloud, "--preset", "none", "--device-cpus", str(last))
    [device] = [child for child in psutil.Process(node.pid).children() if "cloud_node.device_child" in child.cmdline()]
    places = [os.sched_getaffinity(int(task)) for task in os.listdir(f"/proc/{device.pid}/task")]
    assert {last} in places
    if len(os.sched_getaffinity(0)) > 1:
        assert last not in os.sched_getaffinity(node.pid)
    with Client(node.address) as client:
        assert client.enhance(DARK).model == "none-0"


def test_processors_that_are_not_there(tmp_path: Path) -> None:
    node = Process("-m", "cloud_node", "--device", "cpu", "--port", "0", "--device-cpus", "4095")
    assert node.wait() == 2
    assert "--device-cpus 4095: this process may use" in node.output
