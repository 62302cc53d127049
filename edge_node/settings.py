"""Every setting of an edge node, with its default."""

import re
import socket
from dataclasses import dataclass
from pathlib import Path

from common.channel import DEFAULT_PORT
from common.frame import Priority
from common.loopback import host_and_port, is_loopback
from common.packing import ImageFormat
from common.settings import check_least, group, option
from common.subjects import EDGE_NAME
from common.telemetry import SLOW_MS
from edge_node.alerts.options import AlertOptions
from edge_node.areas import Area, parse_areas
from edge_node.detector_size import Side
from edge_node.gate import GateMode
from edge_node.live.options import Page
from edge_node.route import LocalMode
from edge_node.sinks.options import SinkOptions
from edge_node.sources.options import LiveOptions

DEFAULT_CLOUD = f"localhost:{DEFAULT_PORT}"
NAME_LENGTH = 64  # of an edge, at most


def host_name() -> str:
    """This machine's name, as far as it fits into an edge's name."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname().split(".")[0])[:NAME_LENGTH] or "edge"


@dataclass(frozen=True, slots=True)
class Sending:
    """How frames are sent."""

    priority: Priority = option(Priority.STANDARD, "of every frame")
    deadline_ms: int = option(0, "a frame older than this is given up; 0 = never", metavar="MS")
    result_format: ImageFormat | None = option(None, "how results come back; without it the cloud node chooses")
    quality: int = option(0, "1..100 for JPEG and WebP results; 0 = the cloud node chooses")
    preset: str = option("", "network preset to ask for; without it the cloud node's")
    in_flight: int = option(4, "frames sent and not yet read, at most")
    part_kib: int = option(
        1024, "larger frames travel in parts, on slow links smaller than this, so that essential ones overtake"
    )
    retry_s: float = option(30.0, "a frame without a result after this long is sent again")
    attempts: int = option(5, "a frame without a result after so many of these is given up")


MOST_READ = 64  # regions of a frame whose text is read
OFF = "off"
MEASURES = ("bounded", "size", "rate")


@dataclass(frozen=True, slots=True)
class Stepping:
    """What may be given up when the link cannot carry lossless frames in time.

    In time is before --deadline-ms, or else, for a live source with --fps, before the next frame.
    """

    step_down: tuple[str, ...] = option(
        MEASURES,
        "what may be given up so that frames come in time: bounded = exact samples, size, rate; off = nothing",
        metavar="WHAT[,WHAT]",
    )
    step_down_essential: bool = option(False, "essential frames too; else they stay lossless, however late")


@dataclass(frozen=True, slots=True)
class Choosing:
    """Which frames are taken, and where they are lit up."""

    gate: GateMode = option(
        GateMode.AUTO, "auto = frames that are bright enough are read as they are; off = all are lit"
    )
    local: LocalMode = option(
        LocalMode.AUTO, "light up on this device: when the cloud is away or too slow, never, or without any cloud"
    )
    every: int = option(1, "take each N-th frame of the source", metavar="N")
    on_change: bool = option(False, "leave out frames that show nothing new against the last one taken")
    still_s: float = option(10.0, "with --on-change, a frame is taken after so many seconds all the same", metavar="S")
    essential_region: str = option(
        "",
        "a frame is essential when something changes here, and while text is read here; in pixels or, up to 1, in "
        "fractions of the frame; several apart by ;",
        metavar="X,Y,W,H",
    )

    def __post_init__(self) -> None:
        check_least(("--every", self.every, 1), ("--still-s", self.still_s, 0))
        parse_areas(self.essential_region, "--essential-region")

    @property
    def areas(self) -> tuple[Area, ...]:
        return parse_areas(self.essential_region, "--essential-region")


@dataclass(frozen=True, slots=True)
class Reading:
    """How text is found and read (docs/reading.md)."""

    detector: str = option("dbnet", "text detector: dbnet, east, or none = light up alone")
    detector_model: Path | None = option(
        None, "the detector's model file; east has none of its own, dbnet has one", metavar="FILE"
    )
    detector_threads: int = option(0, "CPU threads of the detector; 0 = its own choice")
    detector_side: Side = option(
        Side(480),
        "smaller frames are enlarged to this shorter side for the detector; auto = chosen at the start for --fps, or "
        "10 frames/s, on this device",
        metavar="PIXELS",
    )
    detector_max_side: int = option(
        2048, "and down to this longer side; less takes less memory and time, and misses small text", metavar="PIXELS"
    )
    recognize: bool = option(True, "read what the regions say")
    recognizer: str = option(
        "dark",
        "what reads them: dark = the packaged network, and for noisy lines in Latin letters the same taught to read "
        "noise, plain = the packaged network alone, or a file with other weights (their confidence is that of dark) or "
        "another network",
        metavar="plain|dark|FILE",
    )
    recognize_most: int = option(
        MOST_READ, "in so many regions of a frame, those with the largest text; others have no text", metavar="N"
    )
    recognize_again: int = option(
        0, "read so many lines of a frame that are in doubt again, with the dark frame beside the lit one", metavar="N"
    )
    recognize_like: str = option(
        "none",
        "what kind of text decides where a line is in doubt: receipts, or a text file with lines like those to be read",
        metavar="NAME|FILE",
    )


@dataclass(frozen=True, slots=True)
class Output:
    """What is left behind."""

    output: Path = option(Path("readings"), "folder for everything below", metavar="DIR")
    annotate: bool = option(False, "write each frame, dark and lit side by side with boxes, into DIR/annotated/")
    video: bool = option(False, "write the same as a video, DIR/annotated.mp4")


@dataclass(frozen=True, slots=True)
class Care:
    """Bounds on this machine (docs/operation.md)."""

    min_free_mib: int = option(100, "no pictures are written while the disk has less room; 0 = no bound", metavar="MIB")
    max_rss_mib: int = option(0, "above this memory the node ends with code 75, to be started again", metavar="MIB")
    max_celsius: float = option(0.0, "above this temperature the node takes fewer frames", metavar="C")


@dataclass(frozen=True, slots=True)
class Fusing:
    """How frames are merged over time."""

    fuse: int = option(
        1, "merge each frame with the N - 1 before it where the scene stands still: less noise; 1 = off", metavar="N"
    )


@dataclass(frozen=True, slots=True)
class Tracking:
    """How the same text is followed over frames."""

    track: bool = option(True, "one sign over many frames is one sight, with one text and its best view")
    sight_timeout_s: float = option(10.0, "a sight that is unseen for so long has ended", metavar="S")

    def __post_init__(self) -> None:
        check_least(("--sight-timeout-s", self.sight_timeout_s, 0.1))


@dataclass(frozen=True, slots=True)
class Spooling:
    """Frames that must not be lost are on disk until they are read: those of priority essential, or all."""

    keep_all: bool = option(False, "keep every frame, not the essential ones alone")
    spool: Path | None = option(None, "folder for them (default: spool/ in the folder of --output)", metavar="DIR")
    spool_mib: int = option(1024, "room for them; when it is full the least urgent and oldest go", metavar="MIB")
    spool_hours: float = option(72.0, "a frame kept for longer is given up", metavar="HOURS")


@dataclass(frozen=True, slots=True)
class Telling:
    """What the node tells of itself (docs/metrics.md, docs/tracing.md)."""

    metrics_port: str = option(
        "", "serve metrics to Prometheus here; a port alone is on loopback", metavar="[HOST:]PORT"
    )
    metrics_open: bool = option(False, "they may be served beyond loopback: anybody who reaches the port reads them")
    log_json: bool = option(False, "logs as JSON lines, with the frame and its trace")
    trace_sample: float | None = option(
        None, "share of frames whose trace is kept, 0..1; without it OTEL_TRACES_SAMPLER tells, else all"
    )
    trace_slow_ms: float = option(
        SLOW_MS, "frames that take longer keep their trace, sampled or not; 0 = none for that", metavar="MS"
    )

    def __post_init__(self) -> None:
        check_least(("--trace-slow-ms", self.trace_slow_ms, 0))
        if self.trace_sample is not None and not 0 <= self.trace_sample <= 1:
            raise ValueError(f"--trace-sample {self.trace_sample:g}: 0..1")
        address = self.metrics_address
        if address is not None and not self.metrics_open and not is_loopback(address[0]):
            raise ValueError(
                f"--metrics-port {self.metrics_port}: others could read them, there is no login; leave the host out, "
                "or take that with --metrics-open on a network that you trust"
            )

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """(host, port); None for none. Raises ValueError for what is no address."""
        return host_and_port(self.metrics_port, "--metrics-port") if self.metrics_port else None


@dataclass(frozen=True, slots=True)
class Kept:
    """What was read is kept to be searched: python -m edge_node search (docs/readings.md)."""

    keep_readings: bool = option(True, "in DIR/readings.db, and the best view of each text in DIR/sights/")
    keep_days: float = option(30.0, "what was last seen before goes; 0 = never", metavar="DAYS")
    readings_mib: int = option(1024, "room for all of it; when it is full the oldest goes", metavar="MIB")
    jsonl_mib: int = option(
        1024, "room for DIR/readings.jsonl, in eighths; when it is full the oldest goes; 0 = no bound", metavar="MIB"
    )

    def __post_init__(self) -> None:
        rows = ("--keep-days", self.keep_days, 0), ("--readings-mib", self.readings_mib, 1)
        check_least(*rows, ("--jsonl-mib", self.jsonl_mib, 0))


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """Settings of `python -m edge_node`."""

    camera: str | None = option(
        None, "camera number or device, as 0 or /dev/video0; several: give it again for each", metavar="N"
    )
    source: str | None = option(
        None,
        "video file, RTSP address, image, or folder of images, as well as or instead of a camera",
        metavar="WHAT",
        secret=True,
    )
    list_cameras: bool = option(False, "print the cameras of this machine with their formats and sizes, then end")
    size: str = option("", "size to ask of a camera, as 1280x720", metavar="WxH")
    fps: float = option(0.0, "at most this many frames a second; 0 = as they come")
    limit: int = option(0, "stop after this many frames; 0 = at the end of the source")
    loop: bool = option(False, "start a file or folder again at its end")
    watch: bool = option(False, "wait for new images in a folder, and take each once it is whole")
    cloud: str = option(DEFAULT_CLOUD, "cloud node, or several: one after the other is tried", metavar="HOST[:PORT],..")
    nats: str = option("", "NATS server, if not the one that the cloud node names", metavar="URL", secret=True)
    identity: Path | None = option(
        None, "bundle of an enrolled edge: its name, TLS and addresses (docs/security.md)", metavar="FILE"
    )
    insecure: bool = option(
        False, "send frames to another machine without TLS and --identity, and show the live page to others without TLS"
    )
    edge: str = option("", "this edge's name (default: this machine's)", metavar="NAME")
    connect_timeout_s: float = option(0.0, "give up when no cloud node answers for this long; 0 = keep trying")
    verbose: bool = option(False, "log each step")
    choosing: Choosing = group(Choosing)
    sending: Sending = group(Sending)
    stepping: Stepping = group(Stepping)
    reading: Reading = group(Reading)
    output: Output = group(Output)
    live: LiveOptions = group(LiveOptions)
    care: Care = group(Care)
    fusing: Fusing = group(Fusing)
    tracking: Tracking = group(Tracking)
    spooling: Spooling = group(Spooling, former="keep")
    telling: Telling = group(Telling)
    kept: Kept = group(Kept)
    sinks: SinkOptions = group(SinkOptions)
    alerts: AlertOptions = group(AlertOptions)
    page: Page = group(Page)

    def __post_init__(self) -> None:
        if (self.camera is None) == (self.source is None) and not self.list_cameras:
            raise ValueError(
                "say what to look at: --camera 0, or --source with a video file, RTSP address, image or folder"
            )
        if self.size and not re.fullmatch(r"\d+x\d+", self.size):
            raise ValueError(f"--size {self.size}: as 1280x720")
        if self.edge and not EDGE_NAME.fullmatch(self.edge):
            raise ValueError(f"--edge {self.edge}: use 1 to 64 of A-Z a-z 0-9 _ -")
        check_least(
            ("--in-flight", self.sending.in_flight, 1),
            ("--part-kib", self.sending.part_kib, 16),
            ("--attempts", self.sending.attempts, 1),
            ("--deadline-ms", self.sending.deadline_ms, 0),
            ("--fps", self.fps, 0),
            ("--limit", self.limit, 0),
            ("--retry-s", self.sending.retry_s, 0.1),
            ("--frozen-s", self.live.frozen_s, 0.1),
            ("--open-timeout-s", self.live.open_timeout_s, 0.1),
            ("--detector-max-side", self.reading.detector_max_side, self.reading.detector_side or 1),
            ("--recognize-most", self.reading.recognize_most, 1),
            ("--recognize-again", self.reading.recognize_again, 0),
            ("--min-free-mib", self.care.min_free_mib, 0),
            ("--max-rss-mib", self.care.max_rss_mib, 0),
            ("--max-celsius", self.care.max_celsius, 0),
            ("--fuse", self.fusing.fuse, 1),
            ("--spool-mib", self.spooling.spool_mib, 1),
            ("--spool-hours", self.spooling.spool_hours, 0.01),
        )
        if self.stepping.step_down != (OFF,) and not set(self.stepping.step_down) <= set(MEASURES):
            raise ValueError(f"--step-down {','.join(self.stepping.step_down)}: off, or some of {','.join(MEASURES)}")
        if self.sending.result_format is ImageFormat.PNG:
            raise ValueError("--result-format: png is not offered; lossless is smaller and faster")
        if not 0 <= self.sending.quality <= 100:
            raise ValueError(f"--quality {self.sending.quality}: 0..100")

    @property
    def name(self) -> str:
        return self.edge or host_name()

    @property
    def draws(self) -> bool:
        """Whether each frame is written down, dark and lit."""
        return self.output.annotate or self.output.video

    @property
    def shows_dark(self) -> bool:
        """Whether a sink may want the dark frame beside the lit one."""
        return self.draws or bool(self.page.live)

    @property
    def spool_folder(self) -> Path:
        """An edge name's own part of the spool."""
        return (self.spooling.spool or self.output.output / "spool") / self.name

    @property
    def camera_size(self) -> tuple[int, int] | None:
        if not self.size:
            return None
        width, _, height = self.size.partition("x")
        return int(width), int(height)
