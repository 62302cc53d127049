"""Sights: the same piece of text over frames. One sign in view for an hour is one sight, not a hundred readings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from common.frame import FrameId, Priority, Reading, Route
from common.pixels import Bytes


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known of it so far; a later one with the same id replaces it."""

    id: str  # "<session>-<number>", unique among all edges and runs
    edge: str
    name: str  # the file or camera
    text: str  # voted over its frames; empty where nothing is recognised
    confidence: float  # 0..1, how likely the text is right
    score: float  # of the detector, in the best view
    first_unix_ns: int  # when it was captured first
    last_unix_ns: int  # and last
    frames: int  # that it was seen in
    best: FrameId  # the frame with the best view
    polygon: tuple[tuple[float, float], ...]  # there, in pixels
    size: tuple[int, int]  # of that frame, width and height
    priority: Priority  # the most urgent of its frames
    path: Route  # that made the best view
    ended: bool = False  # it is out of sight and will not change any more
    crop: Bytes | None = field(default=None, compare=False, repr=False)  # (H, W, 3) uint8 RGB: the best view, upright


class Tracker(Protocol):
    """Follows text over the frames of one camera. Called from one thread at a time, in order of arrival."""

    def observe(self, reading: Reading, rgb: Bytes, captured_ns: int) -> tuple[Reading, tuple[Sight, ...]]:
        """The reading with the sight of each region, and the sights that are new, changed or ended by it.

        captured_ns: when the frame was in hand, by the monotonic clock; what moves is followed by it.
        """
        ...

    def close(self) -> tuple[Sight, ...]:
        """The sights that end with the node."""
        ...


@runtime_checkable
class SightSink(Protocol):
    """A sink that wants to know of sights too; called after `write` of the frame that changed them."""

    def sights(self, changed: Sequence[Sight]) -> None:
        """Take sights that are new, changed or ended. Failing is logged and counted, never raised."""
        ...
