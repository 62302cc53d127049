"""Every setting of a cloud node, with its default."""

from dataclasses import dataclass
from pathlib import Path

from common.channel import DEFAULT_PORT, MAX_MESSAGE_BYTES, MAX_PIXELS
from common.packing import ImageFormat
from common.settings import group, option


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How frames share the device."""

    batch_pixels: int = option(0, "pixels of one batch together (a larger frame goes alone); 0 = by device")
    batch_frames: int = option(32, "frames of one batch")
    max_wait_ms: int = option(2_000, "a frame that waited this long goes next, whatever its priority")


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
    max_queued: int = option(4_096, "frames waiting for the device, of all edges together")
    max_queued_mib: int = option(1_024, "mebibytes of them, packed as they came", metavar="MIB")


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """Settings of `python -m cloud_node`."""

    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0 for every interface")
    port: int = option(DEFAULT_PORT, "port to listen on; 0 takes a free one")
    gpus: tuple[int, ...] | None = option(
        None, "CUDA devices, as 0 or 0,1; without it the first GPU, else the CPU", metavar="N[,N]"
    )
    device: str = option("", "cpu, cuda:0 or mps, instead of --gpus")
    preset: str = option("fast", "network preset: fast or reference")
    weights: Path | None = option(None, "weights of that preset, instead of those that come along", metavar="FILE")
    threads: int = option(0, "CPU threads of the network; 0 = one per core")
    nats: str = option("", "NATS server with JetStream; without it one is started on loopback", metavar="URL")
    nats_advertise: str = option("", "NATS address to give to edges, if not --nats", metavar="URL")
    result_format: ImageFormat = option(ImageFormat.JPEG, "how results come back if the edge does not say")
    quality: int = option(0, "1..100 for JPEG and WebP; 0 = as measured best for reading text")
    grace_s: float = option(10.0, "seconds to finish accepted frames when stopping")
    verbose: bool = option(False, "log each stream and batch")
    batch: BatchLimits = group(BatchLimits)
    window: Window = group(Window)
    limits: Limits = group(Limits)

    def __post_init__(self) -> None:
        if self.result_format is ImageFormat.PNG:
            raise ValueError("--result-format: png is not offered; lossless is smaller and faster")
        if not 0 <= self.quality <= 100:
            raise ValueError(f"--quality {self.quality}: 0..100")
        for name, value, least in (
            ("--batch-pixels", self.batch.batch_pixels, 0),
            ("--batch-frames", self.batch.batch_frames, 1),
            ("--max-wait-ms", self.batch.max_wait_ms, 0),
            ("--window-frames", self.window.window_frames, 1),
            ("--window-bytes", self.window.window_bytes, 1),
            ("--max-pixels", self.limits.max_pixels, 1),
            ("--max-frame-bytes", self.limits.max_frame_bytes, 1),
            ("--max-edges", self.limits.max_edges, 1),
            ("--max-queued", self.limits.max_queued, 1),
            ("--max-queued-mib", self.limits.max_queued_mib, 1),
            ("--threads", self.threads, 0),
            ("--grace-s", self.grace_s, 0),
        ):
            if value < least:
                raise ValueError(f"{name} {value}: at least {least}")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"--port {self.port}: 0..65535")
        if self.gpus is not None and self.device:
            raise ValueError("--gpus and --device exclude each other")
