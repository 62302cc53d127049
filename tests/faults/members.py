"""The processes of a fault laboratory: each on a host of its own, started again when it ends, its trouble undone."""

import errno
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from laboratory import Host, NotPossible, Shape
from plan import Fault

ROOT: Final = Path(__file__).resolve().parents[2]
SKEWED: Final = Path(__file__).with_name("skewed")
RESTART_S: Final = 1.0  # as a service manager waits before it starts again what ended by itself
DISK_MIB: Final = 96
RESERVE_MIB: Final = 50  # below what the spool leaves free
USUAL: Final = Shape(rate_mbit=20, delay_ms=5)
SLOW: Final = Shape(rate_mbit=2, delay_ms=100, loss=0.02)


@dataclass
class Level:
    """What a process takes: at rest in the beginning, and now."""

    rss_mib: float
    files: int


@dataclass
class Member:
    """One process of the laboratory."""

    name: str
    host: Host
    command: Callable[[], Sequence[str]]
    folder: Path  # of the whole laboratory
    prefix: Sequence[str] = ()
    process: "subprocess.Popen[Any] | None" = None
    starts: int = 0
    fell: int = 0  # how often it ended by itself
    stopped: bool = False  # nobody starts it
    clock_s: float = field(default_factory=time.monotonic)  # 0 of the log
    exits: list[int] = field(default_factory=list)
    _ended_s: float = 0.0

    @property
    def role(self) -> str:
        return self.name.partition("-")[0]

    @property
    def log(self) -> Path:
        return self.folder / "logs" / f"{self.name}.log"

    @property
    def skew_file(self) -> Path:
        return self.folder / "skew" / self.name

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """From the main thread: what a thread started ends with it."""
        self.log.parent.mkdir(exist_ok=True)
        self.skew_file.parent.mkdir(exist_ok=True)
        if not self.skew_file.exists():
            self.skew(0.0)
        paths = [str(SKEWED), str(ROOT), str(ROOT / "proto")]
        env = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": ":".join(paths)}
        env |= {"LAMPLIGHT_SKEW_FILE": str(self.skew_file), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [*self.prefix, *self.host.prefix, *self.command()],
            cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        threading.Thread(target=self._write_down, args=(self.process,), daemon=True).start()
        self.starts += 1
        self.stopped, self._ended_s = False, 0.0

    def _write_down(self, process: "subprocess.Popen[bytes]") -> None:
        """What it says, with the second of the laboratory's clock in front."""
        assert process.stdout is not None
        with self.log.open("ab", buffering=0) as log, process.stdout:
            for line in process.stdout:
                log.write(f"{time.monotonic() - self.clock_s:8.2f} ".encode() + line)

    def care(self) -> None:
        """Start it again when it ended by itself, after a while."""
        if self.stopped or self.process is None or self.alive:
            return
        if not self._ended_s:
            self._ended_s = time.monotonic()
            self.fell += 1
            self.exits.append(self.process.returncode)
        elif time.monotonic() - self._ended_s > RESTART_S:
            self.start()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """And leave it so."""
        self.stopped = True
        if self.alive:
            assert self.process is not None
            self.process.send_signal(number)
            if number == signal.SIGKILL:
                self.process.wait()

    def skew(self, seconds: float) -> None:
        if not self.skew_file.exists():
            self.skew_file.write_bytes(bytes(8))
        with self.skew_file.open("r+b") as file:  # in place: it is mapped
            file.write(struct.pack("<q", int(seconds * 1e9)))

    def level(self) -> Level | None:
        """What the process takes now; None when there is none."""
        if not self.alive:
            return None
        assert self.process is not None
        process = Path(f"/proc/{self.process.pid}")
        try:
            pages = int((process / "statm").read_text().split()[1])
            return Level(pages * os.sysconf("SC_PAGESIZE") / 2**20, len(list((process / "fd").iterdir())))
        except (OSError, IndexError):
            return None

    def begin(self, fault: Fault) -> None:
        """Let it happen."""
        match fault.kind:
            case "kill":
                self.kill()
            case "cut":
                self.host.cut()
            case "slow":
                self.host.shape(SLOW)
            case "pause" if self.alive:
                assert self.process is not None
                self.process.send_signal(signal.SIGSTOP)
            case "skew":
                self.skew(fault.skew_s)

    def end(self, fault: Fault) -> None:
        """Undo it."""
        match fault.kind:
            case "kill":
                self.start()
            case "cut":
                self.host.restore()
            case "slow":
                self.host.shape(USUAL)
            case "pause" if self.alive:
                assert self.process is not None
                self.process.send_signal(signal.SIGCONT)
            case "skew":
                self.skew(0.0)


class SmallDisk:
    """A disk that can be filled: a tmpfs in a mount namespace of its own, which ends with us."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        script = f'mount -t tmpfs -o size={DISK_MIB}m none "$0" && echo ready && exec cat'
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            self.close()
            raise NotPossible("no tmpfs can be mounted in a namespace of its own here")

    @property
    def prefix(self) -> list[str]:
        """What to put before a command so that it sees this disk at `folder`."""
        return ["nsenter", "--mount", f"--wd={ROOT}", "--target", str(self._holder.pid)]

    @property
    def path(self) -> Path:
        """Where we see it."""
        return Path(f"/proc/{self._holder.pid}/root{self.folder}")

    def fill(self, everything: bool) -> None:
        """Leave nothing, or too little for the spool."""
        file = os.open(self.path / "filler", os.O_WRONLY | os.O_CREAT)
        try:
            while (size := self._free() - (0 if everything else RESERVE_MIB * 2**20)) > 0:
                try:
                    return os.posix_fallocate(file, 0, size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:  # the edge wrote meanwhile: what is left now
                        raise
        finally:
            os.close(file)

    def _free(self) -> int:
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize

    def free(self) -> None:
        (self.path / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        self._holder.kill()
        for stream in (self._holder.stdin, self._holder.stdout):
            if stream is not None:
                stream.close()
        self._holder.wait()


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]
