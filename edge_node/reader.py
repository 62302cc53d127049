"""Reader: find the text in an enhanced frame."""

import threading

from common.frame import Region
from common.pixels import Bytes
from common.text_detection import TextDetector


class Reader:
    """Reads frames with a detector; `Reader(None)` (`--detector none`) finds nothing, at no cost.

    Several nodes of one process may share it: it reads one frame at a time, so that memory stays bounded.
    """

    def __init__(self, detector: TextDetector | None) -> None:
        self.detector = detector
        self._lock = threading.Lock()

    def load(self) -> None:
        """Load the detector's model before the first frame, so that what it lacks is known at the start.

        Raises:
            SettingsError, WeightsError: the detector's package or weights are missing.
        """
        load = getattr(self.detector, "load", None)
        if load is not None:
            with self._lock:
                load()

    def read(self, rgb: Bytes) -> tuple[Region, ...]:
        """Text regions of an (H, W, 3) uint8 RGB image; raises what the detector raises."""
        if self.detector is None:
            return ()
        with self._lock:
            return self.detector.detect(rgb)
