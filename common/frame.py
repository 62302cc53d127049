"""What flows through Lamplight: frames out, results back, readings at the end. Small and frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from common.packing import EncodedImage, PackedImage


class Priority(IntEnum):
    """How urgent a frame is; lower numbers go first. The numbers are those of the wire."""

    ESSENTIAL = 1
    STANDARD = 2
    SECONDARY = 3


class Outcome(IntEnum):
    """What became of a frame."""

    ENHANCED = 1
    EXPIRED = 2
    FAILED = 3
    AS_IS = 4  # read as the camera gave it; only on an edge, the wire does not know it

    @property
    def is_read(self) -> bool:
        """Whether there is a picture in which text was looked for."""
        return self in (Outcome.ENHANCED, Outcome.AS_IS)


class Route(Enum):
    """Where a frame was lit up."""

    CLOUD = "cloud"
    EDGE = "edge"  # on this device
    NONE = "none"  # nowhere: it is read as it is


@dataclass(frozen=True, slots=True)
class FrameId:
    """Identity of a frame: an edge, one start of its node, and a number that grows."""

    edge: str
    session: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.edge}/{self.session}/{self.sequence}"


@dataclass(frozen=True, slots=True)
class Frame:
    """A packed frame on its way to a cloud node."""

    id: FrameId
    image: PackedImage
    captured_unix_ns: int
    priority: Priority = Priority.STANDARD
    attempt: int = 0
    deadline_ms: int = 0  # left at sending; 0 = none
    trace: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """What a cloud node made of a frame."""

    id: FrameId
    attempt: int
    priority: Priority
    captured_unix_ns: int
    outcome: Outcome
    image: PackedImage | EncodedImage | None = None  # only when ENHANCED
    reason: str = ""
    model: str = ""
    sharpness_before: float = 0.0  # mean Sobel magnitude of luma, 0..1
    sharpness_after: float = 0.0
    stages_ns: Mapping[str, int] = field(default_factory=dict)
    batch_size: int = 0
    trace: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Region:
    """One piece of text: its outline in pixels of the frame, clockwise, and the detector's score 0..1."""

    polygon: tuple[tuple[float, float], ...]
    score: float
    text: str = ""  # what it says; empty where it was not recognised
    confidence: float = 0.0  # 0..1, how likely the text is right
    sight: str = ""  # the id of the sight that it belongs to (edge_node.sights); empty where nothing is tracked


@dataclass(frozen=True, slots=True)
class Reading:
    """The text regions found in one frame, or why there are none."""

    id: FrameId
    name: str  # the file or camera that the frame came from
    captured_unix_ns: int
    priority: Priority
    outcome: Outcome
    path: Route = Route.CLOUD
    regions: tuple[Region, ...] = ()
    reason: str = ""  # for EXPIRED and FAILED, in words
    model: str = ""
    sharpness_before: float = 0.0
    sharpness_after: float = 0.0
    latency_ns: int = 0  # from capture to reading
    stages_ns: Mapping[str, int] = field(default_factory=dict)
    bytes_raw: int = 0  # as the camera gave it
    bytes_up: int = 0  # as it was sent
    bytes_down: int = 0  # as it came back
    sent_as: str = "lossless"  # or what was given up: "error 2, size 0.5"
