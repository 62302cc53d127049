"""What every source of frames is."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from common.pixels import RawImage


@dataclass(frozen=True, slots=True)
class Captured:
    """One frame as a source gives it."""

    image: RawImage
    captured_unix_ns: int  # when the decoded frame was in hand
    name: str  # "street.jpg", "clip.mp4#17" (the first is #0), "camera 0"


@dataclass(slots=True)
class SourceStatus:
    """What a source has been through since it was opened. Its reader writes, anybody reads."""

    frames: int = 0  # pictures that were decoded
    dropped: int = 0  # replaced by a newer one before they were taken; live sources only
    thinned: int = 0  # left out because of --fps; live sources only
    broken: int = 0  # pictures, packets or files that could not be decoded
    resized: int = 0  # changes of the picture's size on the way
    frozen: int = 0  # times without a new picture for too long
    reopened: int = 0  # times it was opened again
    problem: str = ""  # what keeps it from giving pictures now, in words; "" = nothing

    def words(self) -> list[str]:
        """What is worth telling, as phrases; empty for a source that had no trouble."""
        counts = {
            "replaced by newer ones at the source": self.dropped,
            "left out by --fps": self.thinned,
            "broken at the source": self.broken,
            "changes of size": self.resized,
            "times frozen": self.frozen,
            "times opened again": self.reopened,
        }
        told = [f"{count} {what}" for what, count in counts.items() if count]
        return [*told, f"now: {self.problem}"] if self.problem else told


class Source(Protocol):
    """A camera, stream, file or folder that was opened."""

    name: str
    live: bool  # frames come at their own pace, and one not taken in time is replaced by the next
    status: SourceStatus

    @property
    def total(self) -> int | None:
        """Frames in all, where known."""
        ...

    def frames(self) -> Iterator[Captured]:
        """Frames until the end; blocks, so run it in a thread, and only once.

        Raises:
            SourceError: the source broke for good, or held no frame at all.
        """
        ...

    def close(self) -> None:
        """End `frames` soon, from any thread, even while it waits; may be called again."""
        ...
