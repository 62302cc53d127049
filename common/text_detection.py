"""Find the text in an image: what a detector is, DBNet, and detectors by name.

References:
    Liao et al., Real-time Scene Text Detection with Differentiable Binarization, AAAI 2020 (DBNet).
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from common.banded_network import BandedNetwork
from common.db_outlines import outlines
from common.detector_input import STRIDE, check_image, network_size, resized
from common.east import EAST
from common.errors import SettingsError
from common.frame import Region
from common.memory import give_back
from common.onnx_models import wheel_model
from common.pixels import Bytes
from common.polygons import in_reading_order, is_whole_frame


class TextDetector(Protocol):
    """Anything that finds text."""

    def detect(self, rgb: Bytes) -> tuple[Region, ...]:
        """Text regions of an (H, W, 3) uint8 RGB image, top to bottom; safe from any thread."""
        ...


class DBNet:
    """DBNet, PaddleOCR's small one; the weights are in rapidocr's wheel, so nothing is downloaded.

    Of rapidocr nothing is imported. The model is loaded at the first `detect` or `load`. A box around the whole frame
    is dropped; see `common.polygons.is_whole_frame`.

    Args:
        model: another ONNX file of that kind, as PaddleOCR's server models; None = the wheel's.
        limit_side: the image is enlarged until its shorter side has this many pixels.
        max_side: the image is then reduced until its longer side has at most this many pixels.
        score_threshold: regions with a lower score, 0..1, are dropped.
        unclip_ratio: how far the shrunken text kernels grow back. 1.3 fits lines of text tightly;
            rapidocr's own 1.6 makes boxes too large for an IoU of 0.5.
        threads: for the network; 0 = as many as ONNX Runtime thinks right.

    Raises:
        SettingsError: for a setting out of its range.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        limit_side: int = 736,
        max_side: int = 2048,
        score_threshold: float = 0.5,
        unclip_ratio: float = 1.3,
        threads: int = 0,
    ) -> None:
        if model is not None and not Path(model).is_file():
            raise SettingsError(f"the dbnet detector: there is no model file {model}")
        if limit_side < STRIDE:
            raise SettingsError(f"detector: limit_side {limit_side} must be {STRIDE} pixels or more")
        if not 0 <= score_threshold <= 1:
            raise SettingsError(f"detector: score_threshold {score_threshold} must be 0..1")
        if unclip_ratio <= 0:
            raise SettingsError(f"detector: unclip_ratio {unclip_ratio} must be above 0")
        if threads < 0:
            raise SettingsError(f"detector: threads {threads} must be 0 (default) or more")
        self.model = model and Path(model)
        self.limit_side, self.max_side = limit_side, max(limit_side, max_side)
        self.score_threshold, self.unclip_ratio, self.threads = score_threshold, unclip_ratio, threads
        self._model: Any = None
        self._lock = threading.Lock()

    def load(self) -> None:
        """Load the model now rather than at the first frame.

        Raises:
            SettingsError: rapidocr is not installed.
            WeightsError: its wheel carries no detector, or the file is none.
        """
        with self._lock:
            if self._model is None:
                model = self.model or wheel_model("det", "the dbnet detector")
                self._model = BandedNetwork(model, self.threads)
                give_back()  # reading the graph took 20 MiB that nobody needs again

    def detect(self, rgb: Bytes) -> tuple[Region, ...]:
        """Text regions of an (H, W, 3) uint8 RGB image, in reading order.

        Polygons are quadrilaterals, clockwise from the top left, in pixels of `rgb`, clipped to it.

        Raises:
            ImageError: for another shape or type. SettingsError, WeightsError: as `load`.
        """
        check_image(rgb)
        self.load()
        height, width = rgb.shape[:2]
        scaled = resized(rgb, *network_size(height, width, self.limit_side, self.max_side))
        probabilities = self._model.run(scaled, _blob)
        limits = {"score_threshold": self.score_threshold, "unclip_ratio": self.unclip_ratio}
        regions = [
            Region(tuple((float(x), float(y)) for x, y in box), score)
            for box, score in outlines(probabilities, width, height, **limits)
        ]
        return in_reading_order(region for region in regions if not is_whole_frame(region.polygon, width, height))


def _blob(rgb: Bytes) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """(H, W, 3) uint8 RGB -> (1, 3, H, W) float32, -1..1 in BGR, which is what PaddleOCR trains on."""
    blob = rgb[:, :, ::-1].transpose(2, 0, 1).astype(np.float32, order="C")
    blob /= 127.5  # in place: one such array has 12 MB at 1312x736
    blob -= 1
    return blob[None]


DETECTORS: Final[dict[str, Callable[..., TextDetector]]] = {"dbnet": DBNet, "east": EAST}


def create_detector(name: str = "dbnet", **settings: Any) -> TextDetector:
    """The detector of that name.

    Raises:
        SettingsError: for a name that is not in DETECTORS, or a setting the detector refuses.
    """
    if name not in DETECTORS:
        raise SettingsError(f"there is no detector {name!r}; choose one of: {', '.join(sorted(DETECTORS))}")
    return DETECTORS[name](**settings)
