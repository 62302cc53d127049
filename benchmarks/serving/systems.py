"""The systems that are compared, each as a process of its own with what it started; all of it ends with `stop`."""

import contextlib
import ctypes
import json
import os
import queue
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import setup_peers

from common import child

HERE = Path(__file__).resolve().parent
START_TIMEOUT_S = 180.0
START_TRIES = 3  # pytriton gives its own parts one second to find each other, too little on a busy machine
STOP_TIMEOUT_S = 25.0
PR_SET_CHILD_SUBREAPER = 36
# Before a command: it ends when this process does, however that happens.
TIED = [sys.executable, "-I", child.__file__, "--parent", str(os.getpid())]
PORTS = range(20_000, 32_000)  # below those that clients take, so that a free one stays free


@dataclass(frozen=True, slots=True)
class System:
    """A system and its settings; `peer` names the environment, empty for the project's own."""

    name: str
    title: str
    script: str
    peer: str = ""
    workers: int = 1
    batch: int = 1
    wait_ms: float = 0.0
    extra: tuple[str, ...] = ()

    @property
    def python(self) -> str:
        return str(setup_peers.python_of(self.peer)) if self.peer else sys.executable

    @property
    def environment(self) -> dict[str, str]:
        # Waiting threads that spin would take the cores from the others.
        threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        return {**os.environ, "PYTHONPATH": setup_peers.path_of(self.peer), "PYTHONUNBUFFERED": "1", **threads}


# The peers' settings: what tune.py finds best on a quiet machine belongs here.
SYSTEMS = {
    system.name: system
    for system in (
        System("ours", "Lamplight", "ours.py", workers=2),
        System("litserve", "LitServe", "peer_litserve.py", "litserve", workers=2, batch=4),
        System("ray", "Ray Serve", "peer_ray.py", "ray", workers=2, batch=4),
        System("triton", "Triton (pytriton)", "peer_triton.py", "triton", workers=2, batch=4),
        System("limit", "bare gRPC and NATS", "limit.py"),
    )
}
PEERS = [name for name, system in SYSTEMS.items() if system.peer]


def with_settings(name: str, **settings: Any) -> System:
    return replace(SYSTEMS[name], **settings)


class Server:
    """A running system. Nothing that it started outlives it."""

    def __init__(self, system: System, nats: str, preset: str, frames: Path, cpus: Sequence[int] = ()) -> None:
        # What a server leaves behind comes to us, so that it can be ended too.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.system = system
        self._folder = tempfile.TemporaryDirectory(prefix="srv-", ignore_cleanup_errors=True)
        self._others = set(psutil.Process().children(recursive=True))
        command = [system.python, str(HERE / system.script), "--nats", nats, "--preset", preset]
        command += ["--workers", str(system.workers), "--batch", str(system.batch), "--wait-ms", str(system.wait_ms)]
        extra = [str(frames)] if system.name == "limit" else list(system.extra)
        for attempt in range(START_TRIES):
            try:
                self._start([*command, "--port", str(_free_port()), "--", *extra], cpus)
            except BaseException as error:
                self._end()
                if attempt == START_TRIES - 1 or not isinstance(error, RuntimeError):
                    self._folder.cleanup()
                    raise
            else:
                return

    def _start(self, command: list[str], cpus: Sequence[int]) -> None:
        self._process = subprocess.Popen(
            [*TIED, *command],
            cwd=setup_peers.ROOT,
            env={**self.system.environment, "TMPDIR": self._folder.name},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )
        if cpus:
            os.sched_setaffinity(self._process.pid, cpus)
        self.lines: list[str] = []
        self._address: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._collect, daemon=True).start()
        self.address = self._wait_ready()

    @property
    def family(self) -> list[psutil.Process]:
        """Its process, and all that came with it."""
        return [child for child in psutil.Process().children(recursive=True) if child not in self._others]

    def cpu_s(self) -> float:
        """CPU seconds of all of it so far."""
        total = 0.0
        for process in self.family:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def stop(self) -> None:
        """End it in good order, then by force, with what it left on disk."""
        self._end()
        self._folder.cleanup()

    def _end(self) -> None:
        family = self.family
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                print(f"{self.system.title} does not end by itself: killed", file=sys.stderr)
        left = {*family, *self.family}
        _, alive = psutil.wait_procs(left, timeout=3)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=5)
        self._process.poll()

    def _collect(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip())
            if found := re.search(r"ready on (\S+)", line):
                self._address.put(found.group(1))
        self._address.put(None)

    def _wait_ready(self) -> str:
        try:
            address = self._address.get(timeout=START_TIMEOUT_S)
        except queue.Empty:
            address = None
        if address is None:
            raise RuntimeError(f"{self.system.title} did not start:\n" + "\n".join(self.lines[-30:]))
        return address


@contextmanager
def serving(system: System, nats: str, preset: str, frames: Path, cpus: Sequence[int] = ()) -> Iterator[Server]:
    server = Server(system, nats, preset, frames, cpus)
    try:
        yield server
    finally:
        server.stop()


def drive(
    server: Server,
    nats: str,
    frames: Path,
    plan: dict[str, object],
    *,
    edges: int,
    warm_up_s: float,
    seconds: float,
    cpus: Sequence[int] = (),
) -> dict:
    """Load a server from a process of its own; returns what drive.py writes, and the server's CPU seconds meanwhile."""
    system, before = server.system, server.cpu_s()
    command = [system.python, str(HERE / "drive.py"), "--system", system.name, "--address", server.address]
    command += ["--nats", nats, "--frames", str(frames), "--plan", json.dumps(plan), "--edges", str(edges)]
    command += ["--warm-up-s", str(warm_up_s), "--seconds", str(seconds)]
    driver = subprocess.Popen(
        [*TIED, *command],
        cwd=setup_peers.ROOT,
        env=system.environment,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    if cpus:
        os.sched_setaffinity(driver.pid, cpus)
    try:
        output, _ = driver.communicate()
    except BaseException:
        driver.kill()
        driver.wait()
        raise
    if driver.returncode:
        last = "\n".join(server.lines[-20:])
        raise RuntimeError(f"the load on {system.title} failed; the server's last words:\n{last}")
    # The driver has ended: what is left of the family is the server's.
    return {**json.loads(output.splitlines()[-1]), "server_cpu_s": server.cpu_s() - before}


def _free_port() -> int:
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def settled() -> None:
    """A moment between two systems."""
    time.sleep(1.0)
