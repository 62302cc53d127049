"""Every shell command on the pages runs as it is written, on a machine of its own, except those that cannot: UNRUN.

    make docs-commands        # those that take minutes too, with the detector and the networks as they are by default

Commands that go on (nodes, `listen`, `load`) are watched until they are ready or have read a frame, then ended with
SIGTERM (`load` with SIGINT), and must end with 0. Two run at a time. Without the marker `slow` nodes have no network
and edges no detector, where the command does not ask for one: what they do is for other tests.
"""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from page_commands import Command, commands
from world import NotPossible, World

UNRUN = {  # command, as it begins: why it is not run
    "docker ": "images are built; tests/deploy/test_compose.py and test_images.py check what it is told",
    "LAMPLIGHT_HOST=gpu-box docker ": "as above",
    "kubectl ": "a cluster; tests/deploy/test_kubernetes.py renders and validates what it is told",
    "make images-local ": "packages and images from the network; tests/deploy/test_images.py checks what it is told",
    "apt-get install ": "packages from the network",
    "systemctl ": "systemd as the first process; tests/deploy checks the units",
    "mkdir bundles; for pole in ": "two hundred certificates; one is made below",
    "nats ": "the nats command line is another project's and not installed",
    "python -m cloud_node --gpus 0 ": "a GPU",
    "python -m cloud_node archive night/ lit/ --gpus 0,1,2,3": "four GPUs",
    "python -m cloud_node archive /nfs/night /nfs/lit --ray auto": "a Ray cluster; tests/cloud_node run one in itself",
    "python benchmarks/engine.py --device cuda:0": "a GPU",
    "python3 -m venv /opt/lamplight ": "packages from the network",
    "python -m venv peers ": "packages from the network",
    ".venv/bin/pip install ": "packages from the network",
    ".venv/bin/python deploy/demo/make_clip.py": "scikit-learn, which is not installed",
    "python benchmarks/edge_footprint.py": "packages from the network",
    "python tests/fuzz/run.py": "minutes for each of many targets; tests/fuzz runs each of them shortly",
    "python tests/faults/run.py": "ten minutes, alone on its machine",
    "python benchmarks/endurance.py": "an hour",
    "python benchmarks/half_open.py": "ten thousand streams for minutes",
    "python benchmarks/link.py": "minutes, and network devices",
    "python benchmarks/link_cut.py": "minutes, and network devices",
    "python benchmarks/scaling/run.py": "minutes, and one core to itself; tests/benchmarks runs the simulation",
    "python benchmarks/forgetting.py": "fonts with Chinese letters, which are not installed",
    "python benchmarks/fusion.py --data": "data sets that are fetched by hand",
    "python benchmarks/packing.py": "as above",
    "python benchmarks/result_formats.py": "as above",
    "python benchmarks/reader.py": "as above",
    "python benchmarks/reader_time.py": "as above",
    "python benchmarks/confidence.py": "as above",
    "python benchmarks/reading.py": "as above",
    "python benchmarks/ideal_reader.py": "as above",
    "python benchmarks/text_prior.py": "as above",
    "python benchmarks/tracking.py": "as above",
    "python -m cloud_node.evaluation --data": "as above",
    "python -m cloud_node.training ablations --data": "as above",
    "python -m cloud_node.training --data": "as above",
    "python -m edge_node --camera 0 --detector east ": "a model of 96 MB from elsewhere",
}
SLOW = {  # command, as it begins: what is added to it
    "make demo": "",
    ".venv/bin/python deploy/demo/run.py": "",
    "python -m cloud_node.training --low LOW": " --minutes 0.2",
    "python -m cloud_node.training export": "",
    "python benchmarks/fusion.py --picture": "",
}
ENDS = {  # command, as it begins, that does not end with 0: nothing like it was read
    "python -m edge_node search 'B-AB 12'": 1,
    "python -m edge_node search --since yesterday --until today": 1,
}
WITHOUT = {"enroll --init": "authority", "enroll edge-17": "edge-17.bundle"}  # what a command makes is not there before
ONE_AT_A_TIME = (
    "--identity",
    "--live",
    "--metrics-port",
    "demo",
)  # an edge of a name, a program at a port, demo-output/
LOOKS = re.compile(r"--alert|--detector|--recognize|edge_node check")  # it is about the detector
EDGE, CLOUD = re.compile(r"python -m edge_node(?! [a-z])"), re.compile(r"python -m cloud_node(?! [a-z])")
TIMEOUT_S, SLOW_TIMEOUT_S = 240, 1_800

COMMANDS = commands()


def beginning(command: Command, table: Iterable[str]) -> str | None:
    return next((start for start in table if f"{command.text} ".startswith(start)), None)


RUN = [command for command in COMMANDS if beginning(command, UNRUN) is None]


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int | None  # None = it was not ready in time
    said: str


class Runner:
    """Runs commands in a world, two at a time; `full`: with everything that they have by default."""

    def __init__(self, world: World, full: bool) -> None:
        self._world, self._full = world, full
        self._timeout_s = SLOW_TIMEOUT_S if full else TIMEOUT_S
        self._locks = {mark: threading.Lock() for mark in ONE_AT_A_TIME}
        self._pool = ThreadPoolExecutor(2)

    def submit(self, command: Command) -> "Future[Outcome]":
        return self._pool.submit(self._run, command, f"{RUN.index(command)}")

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _run(self, command: Command, name: str) -> Outcome:
        lock = next((self._locks[mark] for mark in ONE_AT_A_TIME if mark in command.text), None)
        if lock is None or CLOUD.search(command.text):
            return self._watched(command, name)
        with lock:
            return self._watched(command, name)

    def _watched(self, command: Command, name: str) -> Outcome:
        without = tuple(made for what, made in WITHOUT.items() if what in command.text)
        desk = self._world.desk(name, without)
        log = desk / "said.log"
        more = SLOW.get(beginning(command, SLOW) or "", "")
        with log.open("wb") as said:
            process = self._world.start(
                command.shell + more,
                name,
                self._env(command, name),
                alone=bool(CLOUD.search(command.text)),
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        code: int | None
        try:
            if self._until_ready(command, desk, log, process):
                number = signal.SIGINT if "edge_node load" in command.text else signal.SIGTERM
                os.killpg(process.pid, number)
            code = process.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return Outcome(code, log.read_text(errors="replace"))

    def _env(self, command: Command, name: str) -> dict[str, str]:
        edge, cloud = EDGE.search(command.text) or "edge_node check" in command.text, CLOUD.search(command.text)
        env = {"LD_PRELOAD": "/usr/lib/camera.so"} if edge else {}
        if edge and not re.search("--identity|--edge|--config", command.text):
            env["LAMPLIGHT_EDGE"] = f"edge-{name}"  # they run side by side
        if not self._full and edge and not LOOKS.search(command.text):
            env["LAMPLIGHT_DETECTOR"] = "none"
        if not self._full and cloud:
            env["LAMPLIGHT_PRESET"] = "none"
        return env

    def _until_ready(self, command: Command, desk: Path, log: Path, process: "subprocess.Popen[bytes]") -> bool:
        """Wait for what a command that goes on is to reach; False: it ended before, as others do."""
        deadline_s = time.monotonic() + self._timeout_s
        before = lines(desk)
        while time.monotonic() < deadline_s and process.poll() is None:
            said = log.read_text(errors="replace")
            if EDGE.search(command.text) and lines(desk) > before:
                return True
            if CLOUD.search(command.text) and "ready on" in said:
                return True
            if "edge_node listen" in command.text and "listening to" in said:
                return True
            if "edge_node load" in command.text and re.search(r"served [1-9]", said):
                return True
            time.sleep(0.05)
        if process.poll() is None:
            raise subprocess.TimeoutExpired(command.text, self._timeout_s)
        return False


def lines(desk: Path) -> int:
    """Readings so far, of all edges."""
    return sum(file.read_text().count("\n") for file in (desk / "readings").rglob("readings.jsonl"))


class Begun(dict[Command, "Future[Outcome]"]):
    """Commands that run or have ended; another begins when it is asked for."""

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self._runner = runner

    def __missing__(self, command: Command) -> "Future[Outcome]":
        return self.setdefault(command, self._runner.submit(command))


@pytest.fixture(scope="session")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begun]:
    """How those of the commands end whose tests are selected; they begin together."""
    items = [item for item in request.session.items if getattr(item, "originalname", "") == "test_a_command_runs"]
    wanted = [item.callspec.params["command"] for item in items]  # type: ignore[attr-defined]
    if "PYTEST_XDIST_WORKER" in os.environ:  # another worker may have the test: each begins with its own
        wanted = []
    full = any(item.get_closest_marker("slow") for item in items)
    try:
        with World(tmp_path_factory.mktemp("world")) as world:
            runner = Runner(world, full)
            try:
                begun = Begun(runner)
                for command in wanted:
                    begun[command]
                yield begun
            finally:
                runner.close()
    except NotPossible as why:
        pytest.skip(f"no machine can be made here for the commands: {why}")


def test_what_is_not_run_is_on_a_page() -> None:
    for start in (*UNRUN, *SLOW, *ENDS, *WITHOUT):
        assert any(start in f"{command.text} " for command in COMMANDS), f"on no page: {start}"
    assert len(RUN) > 60


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(
            command,
            id=f"{COMMANDS[command]}: {command.text[:80]}",
            marks=[pytest.mark.slow] if beginning(command, SLOW) else [],
        )
        for command in RUN
    ],
)
def test_a_command_runs(command: Command, outcomes: dict[Command, "Future[Outcome]"]) -> None:
    outcome = outcomes[command].result()
    del outcomes[command]  # a second try of the test is one of the command
    assert outcome.code == ENDS.get(beginning(command, ENDS) or "", 0), (
        f"{command.shell}\nended with {outcome.code}:\n{outcome.said[-4000:]}"
    )
