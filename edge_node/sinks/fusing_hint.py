"""Says once that frames are too dark to be read one by one, and what to do about it."""

import logging
from typing import Final

from common.frame import Route
from edge_node.sinks.sink import Shown

logger = logging.getLogger(__name__)

FRAMES: Final = 30  # lit ones with text, before anything is said
DOUBTFUL: Final = 0.5  # mean confidence; lit receipts have 0.4 in 40 to 120 times less light, 0.75 in 8 to 20


class FusingHint:
    """A sink for cameras whose frames are not fused (`--fuse 1`)."""

    def __init__(self) -> None:
        self._sure: list[float] = []  # of each frame's regions, their mean
        self._said = False

    def write(self, shown: Shown) -> None:
        reading = shown.reading
        sure = [region.confidence for region in reading.regions if region.text]
        if self._said or reading.path is Route.NONE or shown.spooled or not sure:
            return
        self._sure.append(sum(sure) / len(sure))
        if len(self._sure) < FRAMES:
            return
        mean = sum(self._sure) / FRAMES
        self._sure.clear()
        if mean < DOUBTFUL:
            self._said = True
            logger.warning(
                "what is read in these frames is right in %.0f %% of the places only, they are very dark: where the "
                "camera stands still --fuse 8 reads much more (docs/fusion.md)", mean * 100,
            )  # fmt: skip

    def close(self) -> None:
        """Nothing is open."""
