"""Every setting of the load generator, with its default."""

import math
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from common.channel import DEFAULT_PORT
from common.frame import Priority
from common.packing import ImageFormat
from common.settings import check_least, group, option
from common.subjects import check_edge

Weights = tuple[float, float, float]  # in the order of Priority


class Arrivals(Enum):
    """How an edge's frames lie in time."""

    FIXED = "fixed"
    POISSON = "poisson"


@dataclass(frozen=True, slots=True)
class Frames:
    """What is sent."""

    size: str = option("", "crop frames to this size (smaller ones are enlarged first), as 640x360", metavar="WxH")
    frames: int = option(32, "frames of the source that are packed and sent in turns")


@dataclass(frozen=True, slots=True)
class Traffic:
    """When frames come, and how long they wait for the window."""

    arrivals: Arrivals = option(Arrivals.FIXED, "frames of an edge come at fixed distances, or poisson: by chance")
    seed: int = option(0, "of the times and of the order of priorities")
    backlog: int = option(100, "frames that wait in an edge for the window; more are dropped, and counted")
    deadline_ms: int = option(0, "a frame older than this is given up; 0 = never", metavar="MS")
    retry: bool = option(False, "send again what the cloud node turned away for a while or lost, as a real edge does")


@dataclass(frozen=True, slots=True)
class Results:
    """How results are asked for."""

    result_format: ImageFormat | None = option(None, "how results come back; without it the cloud node chooses")
    quality: int = option(0, "1..100 for JPEG and WebP results; 0 = the cloud node chooses")
    preset: str = option("", "network preset to ask for; without it the cloud node's")
    part_kib: int = option(1024, "larger frames travel in parts of this size")
    decode: bool = option(False, "decode each result image too; its time counts")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited."""

    connect_timeout_s: float = option(20.0, "give up when an edge cannot connect for so long")
    timeout_s: float = option(10.0, "after the end, wait so long for what is on its way; the rest is lost")


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """Settings of `python -m edge_node load`."""

    source: str = option("", "folder of images, image, or video to send", metavar="WHAT")
    edges: int = option(8, "edges to be, each with connections of its own")
    fps: float = option(5.0, "frames a second of each edge")
    priority_mix: str = option(
        "10:60:30", "weights of essential, standard and secondary frames of each edge", metavar="E:S:S"
    )
    duration_s: float = option(30.0, "seconds that count", metavar="S", flag="--duration")
    warm_up_s: float = option(3.0, "seconds before them that do not", metavar="S", flag="--warm-up")
    cloud: str = option(f"localhost:{DEFAULT_PORT}", "cloud node", metavar="HOST[:PORT]")
    nats: str = option("", "NATS server, if not the one that the cloud node names", metavar="URL", secret=True)
    identity: Path | None = option(
        None, "bundle that was enrolled for every edge, as `enroll load-0000,load-0001`", metavar="FILE"
    )
    insecure: bool = option(False, "send frames to another machine without TLS and --identity")
    name: str = option("load", "edges are called NAME-0000, NAME-0001...; another for a second load at the same time")
    processes: int = option(1, "processes that the edges are spread over")
    output: Path = option(Path("load-output"), "folder for load.json and load.png", metavar="DIR")
    verbose: bool = option(False, "log each step")
    frames: Frames = group(Frames)
    traffic: Traffic = group(Traffic)
    results: Results = group(Results)
    patience: Patience = group(Patience)

    def __post_init__(self) -> None:
        if not self.source:
            raise ValueError("say what to send: --source with a folder of images, an image or a video")
        check_least(
            ("--edges", self.edges, 1),
            ("--processes", self.processes, 1),
            ("--frames", self.frames.frames, 1),
            ("--backlog", self.traffic.backlog, 1),
            ("--deadline-ms", self.traffic.deadline_ms, 0),
            ("--part-kib", self.results.part_kib, 16),
            ("--fps", self.fps, 0.001),
            ("--duration", self.duration_s, 0.1),
            ("--warm-up", self.warm_up_s, 0),
            ("--connect-timeout-s", self.patience.connect_timeout_s, 0.1),
            ("--timeout-s", self.patience.timeout_s, 0),
        )
        if self.processes > self.edges:
            raise ValueError(f"--processes {self.processes}: at most one for each of the {self.edges} edges")
        if self.results.result_format is ImageFormat.PNG:
            raise ValueError("--result-format: png is not offered; lossless is smaller and faster")
        if not 0 <= self.results.quality <= 100:
            raise ValueError(f"--quality {self.results.quality}: 0..100")
        _ = self.weights, self.frame_size  # they raise
        check_edge(self.edge_name(self.edges - 1))

    @property
    def weights(self) -> Weights:
        """The mix as numbers. Raises ValueError for another form."""
        try:
            weights = tuple(float(part) for part in self.priority_mix.split(":"))
            if (
                len(weights) != len(Priority)
                or not all(0 <= weight < math.inf for weight in weights)
                or not any(weights)
            ):
                raise ValueError
        except ValueError:
            raise ValueError(
                f"--priority-mix {self.priority_mix}: three weights for essential, standard and secondary, as 10:60:30"
            ) from None
        essential, standard, secondary = weights
        return essential, standard, secondary

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """(width, height); None = as the source has it. Raises ValueError for another form."""
        if not self.frames.size:
            return None
        match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", self.frames.size)
        if match is None:
            raise ValueError(f"--size {self.frames.size}: as 640x360")
        return int(match[1]), int(match[2])

    @property
    def end_s(self) -> float:
        """When the last frame may come, seconds from the start."""
        return self.warm_up_s + self.duration_s

    def edge_name(self, index: int) -> str:
        return f"{self.name}-{index:04d}"
