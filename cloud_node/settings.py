"""Every setting of a cloud node, with its default."""

from dataclasses import dataclass
from pathlib import Path

from common.channel import DEFAULT_PORT, MAX_MESSAGE_BYTES, MAX_PIXELS
from common.loopback import host_and_port
from common.packing import ImageFormat
from common.settings import check_least, group, option
from common.telemetry import SLOW_MS


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How frames share the device."""

    batch_pixels: int = option(0, "pixels of one batch together (a larger frame goes alone); 0 = by device")
    batch_frames: int = option(32, "frames of one batch")
    max_wait_ms: int = option(2_000, "a frame that waited this long goes next, whatever its priority")
    window_ms: float = option(
        0.0, "a batch forms for this long after its first frame; 0 = an idle device starts at once"
    )


@dataclass(frozen=True, slots=True)
class Window:
    """What an edge may have out before credit returns."""

    window_frames: int = option(4, "frames")
    window_bytes: int = option(32 * 1024 * 1024, "bytes; one larger frame goes alone")


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused."""

    max_pixels: int = option(MAX_PIXELS, "largest frame, width x height")
    max_frame_bytes: int = option(MAX_MESSAGE_BYTES - 64 * 1024, "largest packed frame")
    max_edges: int = option(2_000, "edges connected at once")
    stream_age_s: float = option(
        0.0, "after this long an edge is asked to come anew, so that edges spread over several nodes; 0 = never"
    )
    max_queued: int = option(4_096, "frames waiting for the device, of all edges together")
    max_queued_mib: int = option(
        1_024, "mebibytes of them, packed; as many again may be coming in parts", metavar="MIB"
    )
    shed_after_ms: int = option(
        10_000, "frames that would wait longer are sent away, less urgent ones first; 0 = never"
    )
    spool_mib: int = option(256, "mebibytes of results kept while NATS is away", metavar="MIB")


@dataclass(frozen=True, slots=True)
class Network:
    """How the network runs."""

    threads: int = option(0, "CPU threads of the network; 0 = one per core, shared out among --engines")
    engines: int = option(1, "networks side by side on a CPU: more frames a second, each of them later")
    device_cpus: tuple[int, ...] = option((), "processors for the network alone, as 0 or 0,1", metavar="N[,N]")
    backend: str = option("auto", "how the network runs on a CPU: auto takes the fastest that is installed")
    tile_pixels: int = option(0, "larger frames are lit in tiles of so many pixels, without seams; 0 = by device")
    stuck_after_s: float = option(
        120.0, "a batch, or encoding one frame, that takes longer means that the device is lost; 0 = never"
    )


@dataclass(frozen=True, slots=True)
class Security:
    """Who may use this node (docs/security.md)."""

    identity: Path | None = option(
        None, "folder node/ that `enroll --init` made: TLS, and only enrolled edges", metavar="DIR"
    )
    insecure: bool = option(False, "listen beyond loopback without TLS and authentication: anybody may send and read")
    nats_port: int = option(4222, "of the NATS server that comes along, with --identity; 0 takes a free one")


@dataclass(frozen=True, slots=True)
class Telling:
    """What the node tells of itself (docs/metrics.md, docs/tracing.md)."""

    log_json: bool = option(False, "logs as JSON lines, with the frame and its trace")
    trace_slow_ms: float = option(
        SLOW_MS, "frames that take longer here keep their trace, sampled or not; 0 = none for that", metavar="MS"
    )


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """Settings of `python -m cloud_node`."""

    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0 for every interface")
    port: int = option(DEFAULT_PORT, "port to listen on; 0 takes a free one")
    gpus: tuple[int, ...] | None = option(
        None, "CUDA devices, as 0 or 0,1; without it the first GPU, else the CPU", metavar="N[,N]"
    )
    device: str = option("", "cpu, cuda:0 or mps, instead of --gpus")
    preset: tuple[str, ...] = option(
        ("fast",),
        "network presets to serve, the first for edges that name none; 'none' is no network, to measure the rest",
        metavar="NAME[,NAME]",
    )
    weights: tuple[str, ...] = option(
        (), "weights of the first preset, or of those named, instead of those that come along", metavar="[NAME=]FILE,.."
    )
    policy: Path | None = option(None, "who comes first and who may send what: docs/policies.md", metavar="FILE")
    http: str = option(
        "", "serve /live, /metrics, /livez, /readyz and /status here; a port alone is on loopback",
        metavar="[HOST:]PORT",
    )  # fmt: skip
    nats: str = option("", "NATS server with JetStream; without it one is started", metavar="URL", secret=True)
    nats_advertise: str = option("", "NATS address to give to edges, if not --nats", metavar="URL", secret=True)
    nats_replicas: int = option(1, "servers of a NATS cluster that hold a copy of each result, 1..5; 3 outlive one")
    result_format: ImageFormat = option(ImageFormat.JPEG, "how results come back if the edge does not say")
    quality: int = option(0, "1..100 for JPEG and WebP; 0 = as measured best for reading text")
    grace_s: float = option(10.0, "seconds to finish accepted frames when stopping")
    verbose: bool = option(False, "log each stream and batch")
    batch: BatchLimits = group(BatchLimits)
    window: Window = group(Window)
    limits: Limits = group(Limits)
    network: Network = group(Network)
    security: Security = group(Security)
    telling: Telling = group(Telling)

    def __post_init__(self) -> None:
        if self.result_format is ImageFormat.PNG:
            raise ValueError("--result-format: png is not offered; lossless is smaller and faster")
        if not 0 <= self.quality <= 100:
            raise ValueError(f"--quality {self.quality}: 0..100")
        check_least(
            ("--window-ms", self.batch.window_ms, 0),
            ("--shed-after-ms", self.limits.shed_after_ms, 0),
            ("--spool-mib", self.limits.spool_mib, 1),
            ("--tile-pixels", self.network.tile_pixels, 0),
            ("--stuck-after-s", self.network.stuck_after_s, 0),
            ("--engines", self.network.engines, 1),
            ("--batch-pixels", self.batch.batch_pixels, 0),
            ("--batch-frames", self.batch.batch_frames, 1),
            ("--max-wait-ms", self.batch.max_wait_ms, 0),
            ("--window-frames", self.window.window_frames, 1),
            ("--window-bytes", self.window.window_bytes, 1),
            ("--max-pixels", self.limits.max_pixels, 1),
            ("--max-frame-bytes", self.limits.max_frame_bytes, 1),
            ("--max-edges", self.limits.max_edges, 1),
            ("--stream-age-s", self.limits.stream_age_s, 0),
            ("--max-queued", self.limits.max_queued, 1),
            ("--max-queued-mib", self.limits.max_queued_mib, 1),
            ("--threads", self.network.threads, 0),
            ("--grace-s", self.grace_s, 0),
            ("--trace-slow-ms", self.telling.trace_slow_ms, 0),
        )
        if not 1 <= self.nats_replicas <= 5:
            raise ValueError(f"--nats-replicas {self.nats_replicas}: 1..5")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"--port {self.port}: 0..65535")
        if self.gpus is not None and self.device:
            raise ValueError("--gpus and --device exclude each other")
        if not self.preset:
            raise ValueError("--preset: name at least one")
        _ = self.presets, self.http_address  # what is wrong with them shows now

    @property
    def presets(self) -> dict[str, Path | None]:
        """Every preset to serve with the file of its weights, None for those that come along; the first is the default.

        Raises ValueError for weights of another preset.
        """
        files: dict[str, Path | None] = dict.fromkeys(self.preset)
        for item in self.weights:
            name, equals, file = item.partition("=")
            if not equals:
                name, file = self.preset[0], item
            if name not in files:
                raise ValueError(f"--weights {item}: preset {name!r} is not served: add it to --preset")
            files[name] = Path(file)
        return files

    @property
    def http_address(self) -> tuple[str, int] | None:
        """(host, port) to serve HTTP at; None for none. Raises ValueError for what is no address."""
        return host_and_port(self.http, "--http") if self.http else None
