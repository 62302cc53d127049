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


class Source(Protocol):
    """A camera, stream, file or folder that was opened."""

    name: str
    live: bool  # frames come at their own pace, and one not taken in time is replaced by the next

    @property
    def total(self) -> int | None:
        """Frames in all, where known."""
        ...

    def frames(self) -> Iterator[Captured]:
        """Frames until the end; blocks, so run it in a thread, and only once.

        Raises:
            SourceError: the source broke, stalled, or held no frame at all.
        """
        ...

    def close(self) -> None:
        """End `frames` soon, from any thread, even while it waits; may be called again."""
        ...
