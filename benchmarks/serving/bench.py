"""What every part of the comparison needs: options, frames, a NATS server, and where results go."""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import frames
import systems
from systems import Server, System

from common.nats_server import EmbeddedServer

RESULTS = Path(__file__).resolve().parents[1] / "results" / "serving"
DISTINCT_FRAMES = 32
QUIET = 0.5  # load average at the start


@dataclass(frozen=True, slots=True)
class Bench:
    """A NATS server, frames, and the lengths of the runs."""

    nats: str
    frames: Path
    edges: int
    seconds: float
    warm_up_s: float
    preset: str

    def serving(self, system: System, cpus: Sequence[int] = ()):
        """A started server of the system, as a context."""
        say(f"{system.title}: starting ({_settings(system)})")
        return systems.serving(system, self.nats, self.preset, self.frames, cpus)

    def drive(self, server: Server, plan: dict[str, object], **changed: object) -> dict:
        """Load it; `changed` may hold edges, seconds, warm_up_s and cpus."""
        usual = {"edges": self.edges, "seconds": self.seconds, "warm_up_s": self.warm_up_s}
        return systems.drive(server, self.nats, self.frames, plan, **{**usual, **changed})


def _settings(system: System) -> str:
    if not system.peer:
        return " ".join(system.extra) or "as it comes"
    return f"{system.workers} workers, batches of {system.batch}, {system.wait_ms:g} ms for them to fill"


def say(line: str) -> None:
    """Progress."""
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)


def parser(description: str | None, *, preset: str, edges: int, seconds: float) -> argparse.ArgumentParser:
    """The options that all parts share."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--preset", default=preset, help=f"of the network (default: {preset})")
    made.add_argument("--size", default="600x400", metavar="WxH", help="of a frame (default: 600x400)")
    made.add_argument("--edges", type=int, default=edges, help=f"that send (default: {edges})")
    made.add_argument("--seconds", type=float, default=seconds, help=f"of a measured run (default: {seconds:g})")
    made.add_argument("--quick", action="store_true", help="short runs, to see that all works; figures mean nothing")
    return made


@contextmanager
def bench(given: argparse.Namespace) -> Iterator[Bench]:
    """Start what is needed, from the main thread; end it whatever happens."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through every `finally`
    if not given.quick and (load := os.getloadavg()[0]) > QUIET:
        say(f"this machine is busy (load average {load:.1f}): the figures will be off, and not evenly")
    width, height = map(int, given.size.split("x"))
    with tempfile.TemporaryDirectory(prefix="lamplight-serving-") as folder, asyncio.Runner() as runner:
        file = Path(folder) / "frames"
        frames.make(file, width, height, DISTINCT_FRAMES)
        nats = EmbeddedServer()
        runner.run(nats.start())
        try:
            yield Bench(
                nats=nats.url,
                frames=file,
                edges=given.edges,
                seconds=min(given.seconds, 2.0) if given.quick else given.seconds,
                warm_up_s=0.5 if given.quick else 2.0,
                preset=given.preset,
            )
        finally:
            runner.run(nats.stop())


def write(name: str, figures: dict[str, object]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")


def main(part: Callable[[argparse.Namespace], object], given: argparse.Namespace) -> None:
    """Run one part; Ctrl-C ends what it started."""
    try:
        part(given)
    except KeyboardInterrupt:
        sys.exit(130)
