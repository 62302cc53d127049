"""Real processes: a cloud node, edge nodes, and what they leave."""

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from skimage import data

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 240  # only ends a test that hangs


class Process:
    """A command that runs; its lines can be waited for. `prefix` goes before it: see Host.prefix in tests/links."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None, prefix: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(
            [*prefix, sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._new: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip())
            self._new.put(line.rstrip())
        self._process.stdout.close()
        self._new.put(None)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first line from now on that matches."""
        while True:
            try:
                line = self._new.get(timeout=TIMEOUT_S)
            except queue.Empty:
                raise AssertionError(f"no line with {pattern!r} in time:\n{self.output}") from None
            if line is None:
                raise AssertionError(f"ended without a line with {pattern!r}:\n{self.output}")
            if match := re.search(pattern, line):
                return match

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Until something else than a line shows; fails when the process ends first, or time is up."""
        deadline = time.monotonic() + TIMEOUT_S
        while not done():
            assert self._process.poll() is None, f"ended too early:\n{self.output}"
            assert time.monotonic() < deadline, f"not in time:\n{self.output}"
            time.sleep(0.05)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait; returns the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        try:
            return self._process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError(f"did not end in time:\n{self.output}") from None


class Cloud(Process):
    """A cloud node that is ready."""

    def __init__(
        self, *arguments: str, port: int = 0, env: dict[str, str] | None = None, prefix: Sequence[str] = ()
    ) -> None:
        # Two threads that wait for each other crawl where a core is taken by other processes, as in these tests.
        fixed = ("--device", "cpu", "--threads", "1", "--port", str(port))
        super().__init__("-m", "cloud_node", *fixed, *arguments, env=env, prefix=prefix)
        try:
            self.address = self.wait_for(r"ready on (\S+)").group(1)
        except BaseException:
            self.end(signal.SIGKILL)
            raise

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


def edge_arguments(cloud: str, source: Path | str, output: Path, *more: str) -> list[str]:
    fixed = ["-m", "edge_node", "--cloud", cloud, "--source", str(source), "--output", str(output)]
    return [*fixed, "--edge", f"edge-{output.name}"[:64].replace(".", "-"), *more]


def readings(output: Path) -> list[dict]:
    """Readings so far."""
    file = output / "readings.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def dark_photos(folder: Path) -> Path:
    """A new folder with four of `dark_sign`."""
    folder.mkdir()
    for number, text in enumerate(("STATION", "EXIT 12", "MAIN ROAD", "PARKING")):
        dark_sign(text).save(folder / f"{number}.png")
    return folder


def dark_sign(text: str, size: tuple[int, int] = (600, 400)) -> Image.Image:
    """A photograph with large words on it, darkened twelve times."""
    photo = Image.fromarray(data.astronaut()).resize(size)
    draw = ImageDraw.Draw(photo)
    draw.rectangle((60, 60, 420, 160), fill="white")
    draw.text((80, 80), text, fill="black", font_size=52)
    noise = np.random.default_rng(len(text)).normal(0, 0.8, (size[1], size[0], 3))
    return Image.fromarray((np.asarray(photo) / 12 + noise).clip(0, 255).astype(np.uint8))
