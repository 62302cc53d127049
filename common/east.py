"""Find text with EAST, through OpenCV.

References:
    Zhou et al., EAST: An Efficient and Accurate Scene Text Detector, CVPR 2017, section 3.3 (RBOX geometry).
"""

import threading
from pathlib import Path
from typing import Any, Final

import numpy as np

from common.detector_input import STRIDE, check_image, network_size, resized
from common.errors import SettingsError, WeightsError
from common.frame import Region
from common.pixels import Bytes
from common.polygons import in_reading_order

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]

SCORES: Final = "feature_fusion/Conv_7/Sigmoid"
GEOMETRY: Final = "feature_fusion/concat_3"
CELL: Final = 4  # pixels of the network's input for one cell of its maps
MEAN: Final = (123.68, 116.78, 103.94)  # RGB


class EAST:
    """EAST through OpenCV, the paper's detector, with a model file that the user gives.

    The file is `frozen_east_text_detection.pb` of OpenCV's text detection sample, whose source names where it lies,
    or an ONNX conversion that kept the names of its two outputs. It is read at the first `detect` or `load`.

    Args:
        model: the file.
        width, height: of the network's input, in pixels, multiples of 32; 0 each: as `limit_side`, `max_side` say.
        limit_side, max_side: as of `common.text_detection.DBNet`.
        score_threshold: cells of the score map below this, 0..1, are dropped.
        nms_threshold: of two boxes whose IoU is above this, 0..1, the better one stays.
        threads: for OpenCV, in the whole process; 0 = leave as it is.

    Raises:
        SettingsError: no model file, or a setting out of its range.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        width: int = 0,
        height: int = 0,
        limit_side: int = 736,
        max_side: int = 2048,
        score_threshold: float = 0.5,
        nms_threshold: float = 0.4,
        threads: int = 0,
    ) -> None:
        if not model or not Path(model).is_file():
            missing = f"there is no file {model}" if model else "it has none"
            raise SettingsError(
                f"the east detector needs a model file, and {missing}: get frozen_east_text_detection.pb (OpenCV's "
                "samples/dnn/text_detection.cpp says where) and name it with --detector-model FILE"
            )
        if min(width, height) < 0 or width % STRIDE or height % STRIDE or (width == 0) != (height == 0):
            raise SettingsError(f"detector: width {width} and height {height} must be multiples of {STRIDE}, or both 0")
        if limit_side < STRIDE:
            raise SettingsError(f"detector: limit_side {limit_side} must be {STRIDE} pixels or more")
        for name, value in (("score_threshold", score_threshold), ("nms_threshold", nms_threshold)):
            if not 0 <= value <= 1:
                raise SettingsError(f"detector: {name} {value} must be 0..1")
        if threads < 0:
            raise SettingsError(f"detector: threads {threads} must be 0 (as it is) or more")
        self.model, self.threads = Path(model), threads
        self.width, self.height = width, height
        self.limit_side, self.max_side = limit_side, max(limit_side, max_side)
        self.score_threshold, self.nms_threshold = score_threshold, nms_threshold
        self._net: Any = None
        self._lock = threading.Lock()

    def load(self) -> None:
        """Read the model now rather than at the first frame.

        Raises:
            SettingsError: OpenCV is not installed.
            WeightsError: the file cannot be read, or holds no EAST.
        """
        with self._lock:
            if self._net is None:
                self._net = _load(self.model, self.threads)

    def detect(self, rgb: Bytes) -> tuple[Region, ...]:
        """Text regions of an (H, W, 3) uint8 RGB image, in reading order.

        Polygons are quadrilaterals, clockwise from the top left, in pixels of `rgb`, clipped to it.

        Raises:
            ImageError: for another shape or type. SettingsError, WeightsError: as `load`.
        """
        check_image(rgb)
        self.load()
        import cv2

        height, width = self.height, self.width
        if not width:
            height, width = network_size(rgb.shape[0], rgb.shape[1], self.limit_side, self.max_side)
        blob = cv2.dnn.blobFromImage(resized(rgb, height, width), mean=MEAN)  # trained on RGB
        try:
            with self._lock:
                self._net.setInput(blob)
                scores, geometry = self._net.forward([SCORES, GEOMETRY])
        except cv2.error as error:
            raise WeightsError(f"{self.model} does not run as EAST on {width}x{height} pixels: {error}") from None
        cells = (height // CELL, width // CELL)
        if scores.shape != (1, 1, *cells) or geometry.shape != (1, 5, *cells):
            raise WeightsError(
                f"{self.model} is no EAST with rotated boxes: for {width}x{height} pixels it gave scores "
                f"{scores.shape} and geometry {geometry.shape}"
            )
        corners, found = decode(scores, geometry, self.score_threshold)
        kept = _suppress(corners, found, self.nms_threshold)
        scale = np.array([rgb.shape[1] / width, rgb.shape[0] / height])
        polygons = np.clip(corners[kept] * scale, 0, [rgb.shape[1], rgb.shape[0]])
        return in_reading_order(
            Region(tuple((float(x), float(y)) for x, y in polygon), float(score))
            for polygon, score in zip(polygons, found[kept], strict=True)
        )


def decode(scores: Floats, geometry: Floats, score_threshold: float) -> tuple[Floats, Floats]:
    """The rotated rectangle that each cell of EAST's maps votes for, where its score reaches the threshold.

    scores: (1, 1, h, w), 0..1. geometry: (1, 5, h, w), from the cell's point (4 x, 4 y) the distances to the top,
    right, bottom and left side, in pixels of the network's input, and the angle in radians, positive where the text
    climbs to the right. Returns corners (n, 4, 2), clockwise from the text's own top left, and scores (n,).
    """
    likely = scores[0, 0] >= score_threshold
    rows, columns = np.nonzero(likely)
    top, right, bottom, left, angle = geometry[0][:, likely].astype(np.float64)
    along = np.stack([np.cos(angle), -np.sin(angle)], axis=-1)  # y grows downwards
    across = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    points = CELL * np.stack([columns, rows], axis=-1)
    sides = ((-left, -top), (right, -top), (right, bottom), (-left, bottom))
    corners = [points + along * x[:, None] + across * y[:, None] for x, y in sides]
    return np.stack(corners, axis=1), scores[0, 0][likely].astype(np.float64)


def _suppress(corners: Floats, scores: Floats, threshold: float) -> list[int]:
    """Indices of the rectangles (n, 4, 2) that non-maximum suppression keeps."""
    import cv2

    centres = corners.mean(axis=1)
    along, down = corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0]
    angles = np.degrees(np.arctan2(along[:, 1], along[:, 0]))
    sizes = np.stack([np.linalg.norm(along, axis=1), np.linalg.norm(down, axis=1)], axis=-1)
    boxes = list(zip(centres.tolist(), sizes.tolist(), angles.tolist(), strict=True))
    return [int(i) for i in cv2.dnn.NMSBoxesRotated(boxes, scores.tolist(), 0.0, threshold)] if boxes else []


def _load(model: Path, threads: int) -> Any:
    try:
        import cv2
    except ImportError as error:
        raise SettingsError(f"the east detector needs OpenCV: pip install 'lamplight[edge]' ({error})") from None
    try:
        content = model.read_bytes()
    except OSError as error:
        raise WeightsError(f"{model} cannot be read: {error}") from None
    absent = [name for name in (SCORES, GEOMETRY) if name.encode() not in content]
    if absent:
        raise WeightsError(f"{model} is no EAST model: there is no output {' and no '.join(absent)} in it")
    # OpenCV 5 tries its new engine first, which crashes the process on a .pb that parses as an empty graph.
    classic = [cv2.dnn.ENGINE_CLASSIC] if model.suffix == ".pb" and hasattr(cv2.dnn, "ENGINE_CLASSIC") else []
    try:
        net = cv2.dnn.readNet(str(model), "", "", *classic)
    except cv2.error as error:
        raise WeightsError(f"{model} cannot be read as a network, get it again: {error}") from None
    if net.empty():
        raise WeightsError(f"{model} holds no network of the kind that its name ends in: get it again")
    if threads:
        cv2.setNumThreads(threads)
    return net
