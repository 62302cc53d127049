"""A source whose frames are fused in time, before anything else is done with them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from common.errors import SettingsError
from edge_node.sources.source import Captured, Source


def fuse(source: Source, frames: int) -> Source:
    """The source itself for `frames` of 1, else a `FusedSource`. Raises SettingsError as that does."""
    return FusedSource(source, frames) if frames > 1 else source


class FusedSource:
    """Gives as many frames as the source, each with what those before it tell about the parts that stood still.

    Every frame is merged as it comes: what `--fps` or a full queue leaves out later is in the frames after it.

    Raises:
        SettingsError: OpenCV is not installed.
    """

    def __init__(self, source: Source, frames: int) -> None:
        self._source = source
        try:
            from edge_node.fusion import Fuser
        except ImportError as error:
            raise SettingsError(f"--fuse needs OpenCV: pip install 'lamplight[edge]' ({error})") from None
        self.name, self.live, self.status = source.name, source.live, source.status
        self.fuser = Fuser(frames)
        self._given, self._merged = 0, 0.0

    def __getattr__(self, name: str) -> Any:  # what this kind of source has beyond the others
        return getattr(self._source, name)

    @property
    def total(self) -> int | None:
        return self._source.total

    def frames(self) -> Iterator[Captured]:
        for captured in self._source.frames():
            image = self.fuser.add(captured.image)
            self._given += 1
            self._merged += self.fuser.merged
            yield replace(captured, image=image)

    def close(self) -> None:
        self._source.close()

    def words(self) -> str:
        """What fusion did, for the summary."""
        mean = self._merged / max(1, self._given)
        return f"fused: {mean:.1f} frames in each on average, {self.fuser.resets} new starts"
