"""Find the text in an image, and compare what was found with what is there.

References:
    Liao et al., Real-time Scene Text Detection with Differentiable Binarization, AAAI 2020 (DBNet).
    Zhou et al., EAST: An Efficient and Accurate Scene Text Detector, CVPR 2017, section 3.3 (RBOX geometry).
    Karatzas et al., ICDAR 2015 Competition on Robust Reading (matching at IoU 0.5).
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from common.errors import ImageError, SettingsError, WeightsError
from common.frame import Region
from common.pixels import Bytes

Polygon = Sequence[tuple[float, float]]
Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]

WHOLE_FRAME_SHARE: Final = 0.8
BORDER_SHARE: Final = 0.05
STRIDE: Final = 32

EAST_SCORES: Final = "feature_fusion/Conv_7/Sigmoid"
EAST_GEOMETRY: Final = "feature_fusion/concat_3"
EAST_CELL: Final = 4  # pixels of the network's input for one cell of its maps
EAST_MEAN: Final = (123.68, 116.78, 103.94)  # RGB


class TextDetector(Protocol):
    """Anything that finds text."""

    def detect(self, rgb: Bytes) -> tuple[Region, ...]:
        """Text regions of an (H, W, 3) uint8 RGB image, top to bottom; safe from any thread."""
        ...


class DBNet:
    """DBNet by rapidocr, detector only; the weights are in its wheel, so nothing is downloaded.

    The model is loaded at the first `detect` or `load`. A box around the whole frame is dropped;
    see `is_whole_frame`.

    Args:
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
        *,
        limit_side: int = 736,
        max_side: int = 2048,
        score_threshold: float = 0.5,
        unclip_ratio: float = 1.3,
        threads: int = 0,
    ) -> None:
        if limit_side < STRIDE:
            raise SettingsError(f"detector: limit_side {limit_side} must be {STRIDE} pixels or more")
        if not 0 <= score_threshold <= 1:
            raise SettingsError(f"detector: score_threshold {score_threshold} must be 0..1")
        if unclip_ratio <= 0:
            raise SettingsError(f"detector: unclip_ratio {unclip_ratio} must be above 0")
        if threads < 0:
            raise SettingsError(f"detector: threads {threads} must be 0 (default) or more")
        self.limit_side, self.max_side = limit_side, max(limit_side, max_side)
        self.score_threshold, self.unclip_ratio, self.threads = score_threshold, unclip_ratio, threads
        self._model: Any = None
        self._lock = threading.Lock()

    def load(self) -> None:
        """Load the model now rather than at the first frame.

        Raises:
            SettingsError: rapidocr is not installed.
            WeightsError: its wheel carries no detector.
        """
        with self._lock:
            if self._model is None:
                self._model = _load_rapidocr(self.score_threshold, self.unclip_ratio, self.threads)

    def detect(self, rgb: Bytes) -> tuple[Region, ...]:
        """Text regions of an (H, W, 3) uint8 RGB image, in reading order.

        Polygons are quadrilaterals, clockwise from the top left, in pixels of `rgb`, clipped to it.

        Raises:
            ImageError: for another shape or type. SettingsError, WeightsError: as `load`.
        """
        _check_image(rgb)
        self.load()
        height, width = rgb.shape[:2]
        probabilities = self._model.session(self._to_blob(rgb))
        # Not the model's own __call__: it sorts the boxes and leaves the scores unsorted (3.10).
        boxes, scores = self._model.postprocess_op(probabilities, (height, width))
        regions = [
            Region(tuple((float(x), float(y)) for x, y in box), float(score))
            for box, score in zip(boxes, scores, strict=True)
        ]
        return _in_order(region for region in regions if not is_whole_frame(region.polygon, width, height))

    def _to_blob(self, rgb: Bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
        height, width = network_size(rgb.shape[0], rgb.shape[1], self.limit_side, self.max_side)
        scaled = _resized(rgb, height, width)[:, :, ::-1].astype(np.float32)  # trained on BGR
        blob = (scaled / 255 - np.float32(self._model.mean)) / np.float32(self._model.std)
        return np.ascontiguousarray(blob.transpose(2, 0, 1)[None])  # (1, 3, H, W)


def _load_rapidocr(score_threshold: float, unclip_ratio: float, threads: int) -> Any:
    try:
        import rapidocr
        from rapidocr.utils.log import logger

        logger.setLevel(logging.ERROR)
        from rapidocr.ch_ppocr_det import TextDetector as RapidDetector
        from rapidocr.main import DEFAULT_CFG_PATH
        from rapidocr.utils.parse_parameters import ParseParams
    except ImportError as error:
        raise SettingsError(f"the dbnet detector needs rapidocr: pip install 'lamplight[edge]' ({error})") from None
    folder = Path(rapidocr.__file__).parent / "models"
    models = sorted(folder.glob("*_det_*.onnx"))
    if not models:
        raise WeightsError(f"no detector in {folder}: pip install --force-reinstall rapidocr")
    settings = ParseParams.update_batch(
        ParseParams.load(DEFAULT_CFG_PATH),
        {
            "Det.model_path": str(models[-1]),
            "Det.box_thresh": score_threshold,
            "Det.unclip_ratio": unclip_ratio,
            "Det.use_dilation": False,
            "EngineConfig.onnxruntime.intra_op_num_threads": threads or -1,
        },
    )
    settings.Det.engine_cfg = settings.EngineConfig.onnxruntime
    return RapidDetector(settings.Det)


class EAST:
    """EAST through OpenCV, the paper's detector, with a model file that the user gives.

    The file is `frozen_east_text_detection.pb` of OpenCV's text detection sample, whose source names where it lies,
    or an ONNX conversion that kept the names of its two outputs. It is read at the first `detect` or `load`.

    Args:
        model: the file.
        width, height: of the network's input, in pixels, multiples of 32; 0 each: as `limit_side`, `max_side` say.
        limit_side, max_side: as of `DBNet`.
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
                self._net = _load_east(self.model, self.threads)

    def detect(self, rgb: Bytes) -> tuple[Region, ...]:
        """Text regions of an (H, W, 3) uint8 RGB image, in reading order.

        Polygons are quadrilaterals, clockwise from the top left, in pixels of `rgb`, clipped to it.

        Raises:
            ImageError: for another shape or type. SettingsError, WeightsError: as `load`.
        """
        _check_image(rgb)
        self.load()
        import cv2

        height, width = self.height, self.width
        if not width:
            height, width = network_size(rgb.shape[0], rgb.shape[1], self.limit_side, self.max_side)
        blob = cv2.dnn.blobFromImage(_resized(rgb, height, width), mean=EAST_MEAN)  # trained on RGB
        try:
            with self._lock:
                self._net.setInput(blob)
                scores, geometry = self._net.forward([EAST_SCORES, EAST_GEOMETRY])
        except cv2.error as error:
            raise WeightsError(f"{self.model} does not run as EAST on {width}x{height} pixels: {error}") from None
        cells = (height // EAST_CELL, width // EAST_CELL)
        if scores.shape != (1, 1, *cells) or geometry.shape != (1, 5, *cells):
            raise WeightsError(
                f"{self.model} is no EAST with rotated boxes: for {width}x{height} pixels it gave scores "
                f"{scores.shape} and geometry {geometry.shape}"
            )
        corners, found = decode_east(scores, geometry, self.score_threshold)
        kept = _suppress(corners, found, self.nms_threshold)
        scale = np.array([rgb.shape[1] / width, rgb.shape[0] / height])
        polygons = np.clip(corners[kept] * scale, 0, [rgb.shape[1], rgb.shape[0]])
        return _in_order(
            Region(tuple((float(x), float(y)) for x, y in polygon), float(score))
            for polygon, score in zip(polygons, found[kept], strict=True)
        )


def decode_east(scores: Floats, geometry: Floats, score_threshold: float) -> tuple[Floats, Floats]:
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
    points = EAST_CELL * np.stack([columns, rows], axis=-1)
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


def _load_east(model: Path, threads: int) -> Any:
    try:
        import cv2
    except ImportError as error:
        raise SettingsError(f"the east detector needs OpenCV: pip install 'lamplight[edge]' ({error})") from None
    try:
        content = model.read_bytes()
    except OSError as error:
        raise WeightsError(f"{model} cannot be read: {error}") from None
    absent = [name for name in (EAST_SCORES, EAST_GEOMETRY) if name.encode() not in content]
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


def network_size(height: int, width: int, limit_side: int, max_side: int) -> tuple[int, int]:
    """Height and width to scale an image to: multiples of 32; `max_side` wins over `limit_side`.

    >>> network_size(400, 600, 736, 2048), network_size(4320, 7680, 736, 2048)
    ((736, 1088), (1152, 2048))
    """
    scale = min(max(1.0, limit_side / min(height, width)), max_side / max(height, width))

    def rounded(side: int) -> int:
        return max(STRIDE, round(side * scale / STRIDE) * STRIDE)

    return rounded(height), rounded(width)


def is_whole_frame(polygon: Polygon, width: int, height: int) -> bool:
    """Whether a region is just the frame: more than 80 % of it, and near all four borders.

    With rapidocr's dilation on, DBNet draws such boxes (99.5 % of the frame, score 0.53..0.63) around dark
    noise of mean level 8; with it off, as here, none was seen on noise, dark receipts or night photographs.
    """
    xs, ys = [x for x, _ in polygon], [y for _, y in polygon]
    area = abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in _edges(polygon))) / 2
    margin_x, margin_y = BORDER_SHARE * width, BORDER_SHARE * height
    touches = (
        min(xs) <= margin_x
        and min(ys) <= margin_y
        and max(xs) >= width - 1 - margin_x
        and max(ys) >= height - 1 - margin_y
    )
    return touches and area > WHOLE_FRAME_SHARE * width * height


def _check_image(rgb: Bytes) -> None:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
        raise ImageError(f"expected an (H, W, 3) uint8 array, got {rgb.dtype} {rgb.shape}")


def _resized(rgb: Bytes, height: int, width: int) -> Bytes:
    import cv2

    shrinks = height * width < rgb.shape[0] * rgb.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: Bytes = cv2.resize(rgb, (width, height), interpolation=interpolation)
    return resized


def _in_order(regions: Iterable[Region]) -> tuple[Region, ...]:
    return tuple(sorted(regions, key=lambda region: (region.polygon[0][1], region.polygon[0][0])))


def _edges(polygon: Polygon) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    return [(polygon[i - 1], polygon[i]) for i in range(len(polygon))]


DETECTORS: Final[dict[str, Callable[..., TextDetector]]] = {"dbnet": DBNet, "east": EAST}


def create_detector(name: str = "dbnet", **settings: Any) -> TextDetector:
    """The detector of that name.

    Raises:
        SettingsError: for a name that is not in DETECTORS, or a setting the detector refuses.
    """
    if name not in DETECTORS:
        raise SettingsError(f"there is no detector {name!r}; choose one of: {', '.join(sorted(DETECTORS))}")
    return DETECTORS[name](**settings)


def iou(a: Polygon | Region, b: Polygon | Region) -> float:
    """Intersection over union, 0..1, of two convex outlines; 0 where one has no area.

    >>> iou([(0, 0), (2, 0), (2, 2), (0, 2)], [(1, 0), (3, 0), (3, 2), (1, 2)])
    0.3333333333333333
    """
    from shapely import MultiPoint  # comes with rapidocr

    one, other = (MultiPoint(_outline(shape)).convex_hull for shape in (a, b))
    intersection = one.intersection(other).area
    union = one.area + other.area - intersection
    return float(intersection / union) if union > 0 else 0.0


def match(
    found: Sequence[Polygon | Region], truth: Sequence[Polygon | Region], threshold: float = 0.5
) -> list[tuple[int, int]]:
    """Pairs (index in `found`, index in `truth`), each used once, whose IoU is above `threshold`.

    Greedy as in ICDAR 2015: each truth takes the first found region that fits and is still free.
    """
    pairs: list[tuple[int, int]] = []
    free = list(range(len(found)))
    for j, target in enumerate(truth):
        for i in free:
            if _overlap(found[i], target) and iou(found[i], target) > threshold:
                pairs.append((i, j))
                free.remove(i)
                break
    return pairs


def _outline(shape: Polygon | Region) -> Polygon:
    return shape.polygon if isinstance(shape, Region) else shape


def _overlap(a: Polygon | Region, b: Polygon | Region) -> bool:
    """Whether the bounding boxes meet: cheap, and false for nearly all pairs."""
    p, q = np.asarray(_outline(a), float), np.asarray(_outline(b), float)
    return bool((p.min(axis=0) <= q.max(axis=0)).all() and (q.min(axis=0) <= p.max(axis=0)).all())
