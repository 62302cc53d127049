"""See it work: a dark clip, a cloud node and an edge node as two processes, pictures and figures at the end.

    .venv/bin/python deploy/demo/run.py

Without a GPU it takes about 90 s of CPU time. Everything it leaves is in demo-output/.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from common.errors import LamplightError
from common.frame import Region
from common.text_detection import create_detector
from deploy.demo.clip import CLIP, Bytes, FrameTruth, decode, load_truth
from deploy.demo.pictures import Pair, before_after, latency_plot, lit_panel, summary
from deploy.demo.report import FrameReading, figures, load_readings, score

ROOT = Path(__file__).resolve().parents[2]
LAST_LINES = 15
CLOUD_START_S, STOP_S, POLL_S = 120.0, 20.0, 0.1
PICTURE_SCENES, README_SCENES = 6, 4

console = Console()


class DemoFailed(LamplightError):
    """A process of the demo ended or did not answer in time; the message holds its last lines."""


class Node:
    """One node as a process, its output in a file. `stop` ends it, and nothing else."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name, self.log = name, log
        # Waiting threads that spin would take the cores from the other node.
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONUNBUFFERED": "1"}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,  # Ctrl-C reaches this runner alone, which stops the nodes in order
            )

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def failed(self, what: str) -> DemoFailed:
        """An error with what happened, the last lines and what to do."""
        lines = "\n".join(f"    {line}" for line in self.output.splitlines()[-LAST_LINES:]) or "    (it said nothing)"
        return DemoFailed(f"the {self.name} node {what}. Its last lines:\n{lines}\nAll of them: {self.log}")

    def wait(self, done: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Wait until `done`. Raises DemoFailed when the process fails first, or takes too long."""
        deadline = time.monotonic() + timeout_s
        while not done():
            if (code := self.code) is not None and not done():
                raise self.failed(f"ended with exit code {code} before {what}")
            if time.monotonic() > deadline:
                raise self.failed(f"needed more than {timeout_s:.0f} s: {what}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Let it finish in order; end it at once where it does not."""
        if self.code is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()


@contextmanager
def running(name: str, arguments: Sequence[str], log: Path) -> Iterator[Node]:
    """A node that is stopped at the end, however that comes."""
    node = Node(name, arguments, log)
    try:
        yield node
    finally:
        node.stop()


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the runner as Ctrl-C does: by way of every `finally`."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def clear(output: Path) -> None:
    """Remove what an earlier demo left in this folder, and nothing else."""
    annotated = output / "annotated"
    annotated.mkdir(parents=True, exist_ok=True)
    for old in (*annotated.glob("*.jpg"), *output.glob("*.log")):
        old.unlink()
    for name in ("readings.jsonl", "before-after.png", "latency.png"):
        (output / name).unlink(missing_ok=True)


def progress() -> Progress:
    columns = (TextColumn("{task.description:<34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def run_nodes(output: Path, count: int, cloud_flags: Sequence[str], timeout_s: float) -> None:
    """Start both nodes, wait until the edge node has settled `count` frames, stop both.

    Raises:
        DemoFailed: one of them failed, or took too long.
    """
    readings = output / "readings.jsonl"
    with ExitStack() as stack:
        arguments = ("cloud_node", "--host", "127.0.0.1", "--port", "0", *cloud_flags)
        with console.status("starting a cloud node"):
            cloud = stack.enter_context(running("cloud", arguments, output / "cloud.log"))
            cloud.wait(lambda: address(cloud.output) is not None, CLOUD_START_S, "it was ready")
        where = address(cloud.output)
        assert where is not None
        console.print(f"cloud node: {ready_line(cloud.output)}", highlight=False)

        # One frame at the cloud and one being read: more would show how long frames queue on a small machine.
        arguments = ("edge_node", "--source", str(CLIP), "--cloud", where, "--output", str(output), "--in-flight", "2")
        edge = stack.enter_context(
            running("edge", (*arguments, "--edge", "demo", "--local", "off", "--annotate"), output / "edge.log")
        )
        with progress() as bar:
            task = bar.add_task("sent, lit up, read", total=count)

            def finished() -> bool:
                if cloud.code is not None:
                    raise cloud.failed(f"ended with exit code {cloud.code} in the middle")
                bar.update(task, completed=readings.read_bytes().count(b"\n") if readings.exists() else 0)
                return edge.code == 0

            edge.wait(finished, timeout_s, f"all {count} frames were read")
    if cloud.code != 0:
        raise cloud.failed(f"did not stop in order: exit code {cloud.code}")


def ready_line(output: str) -> str | None:
    """What a cloud node says after `ready on`, None while it has not."""
    found = re.search(r"ready on (.+)", output)
    return found[1].strip() if found else None


def address(output: str) -> str | None:
    """HOST:PORT that a cloud node serves on, None while it does not."""
    line = ready_line(output)
    return line.split()[0].rstrip(",;") if line else None


def search_dark(frames: Sequence[Bytes]) -> list[tuple[Region, ...]]:
    """What the edge node's detector finds in the dark frames as they are."""
    detector = create_detector()
    with progress() as bar:
        return [detector.detect(frame) for frame in bar.track(frames, description="the same detector in the dark")]


def choose(truth: Sequence[FrameTruth], readings: Sequence[FrameReading], scenes: int) -> list[FrameReading]:
    """The middle enhanced frame of each of the first `scenes` scenes: no choice by how well it went."""
    by_scene: dict[str, list[FrameReading]] = {}
    for reading in readings:
        if reading.outcome == "enhanced":
            by_scene.setdefault(truth[reading.number].scene, []).append(reading)
    return [of_scene[len(of_scene) // 2] for of_scene in list(by_scene.values())[:scenes]]


def make_pairs(
    chosen: Sequence[FrameReading],
    truth: Sequence[FrameTruth],
    dark_frames: Sequence[Bytes],
    dark_regions: Sequence[Sequence[Region]],
    annotated: Path,
) -> list[Pair]:
    """Pictures and captions of the chosen frames. Raises SourceError where the edge node left no picture."""
    pairs = []
    for reading in chosen:
        number = reading.number
        true, dark = truth[number], dark_frames[number]
        pattern = f"{reading.sequence:06d}-*.jpg"
        picture = next(annotated.glob(pattern), annotated / pattern)
        before, after = score(dark_regions[number], true), score(reading.regions, true)
        caption = f"text found: {before.matched} of {before.true} in the dark, {after.matched} of {after.true} lit up"
        lit = lit_panel(picture, dark.shape[1], dark.shape[0])
        pairs.append(Pair(dark, lit, true.outlines, f"{true.scene}, frame {number}", caption))
    return pairs


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 when every frame was enhanced."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "demo-output", help="folder for what it leaves")
    parser.add_argument("--preset", help="network preset of the cloud node")
    parser.add_argument("--gpus", metavar="N", help="GPU of the cloud node (default: the first, else the CPU)")
    parser.add_argument("--timeout-s", type=float, default=300.0, help="for all frames together (default: 300)")
    parser.add_argument(
        "--readme-picture", type=Path, metavar="FILE", help="also write the README's picture: .jpg or .png"
    )
    args = parser.parse_args(argv)
    output: Path = args.output.resolve()
    flags = [part for name in ("preset", "gpus") if (value := getattr(args, name)) for part in (f"--{name}", value)]

    truth, dark_frames = load_truth(), decode()
    clear(output)
    run_nodes(output, len(truth), flags, args.timeout_s)
    readings = load_readings(output / "readings.jsonl", len(truth))
    dark_regions = search_dark(dark_frames)
    made = figures(readings, truth, dark_regions, dark_frames)

    chosen = choose(truth, readings, PICTURE_SCENES)
    pairs = make_pairs(chosen, truth, dark_frames, dark_regions, output / "annotated")
    before_after(pairs, output / "before-after.png")
    latency_plot([reading for reading in readings if reading.outcome == "enhanced"], output / "latency.png")
    if args.readme_picture:
        before_after(pairs[:README_SCENES], args.readme_picture, panel_width=400)

    console.print()
    console.print(summary(made))
    console.print(f"\nPictures: {output}/before-after.png, latency.png and annotated/", highlight=False, soft_wrap=True)
    search = f"    .venv/bin/python -m edge_node search boats --output {output}"
    console.print(f"What was read:\n{search}", highlight=False, soft_wrap=True)
    console.print("Your own camera, and a page that shows it on http://localhost:8080:", highlight=False)
    console.print("    .venv/bin/python -m cloud_node                          in one terminal", highlight=False)
    console.print("    .venv/bin/python -m edge_node --camera 0 --live 8080    in another", highlight=False)
    if made.enhanced < made.frames:
        reasons = sorted({reading.reason for reading in readings if reading.reason})
        why = "; ".join(reasons) or "no reason was given"
        raise DemoFailed(f"{made.frames - made.enhanced} frames were not enhanced: {why}")
    return 0


if __name__ == "__main__":
    try:
        with stopped_by_sigterm():
            sys.exit(main())
    except KeyboardInterrupt:
        console.print("\nstopped; both nodes are down")
        sys.exit(130)
    except LamplightError as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
