"""The small network that runs here when the cloud cannot: preset `edge` on ONNX Runtime, without torch.

The same two stages as in the cloud: a curve solved for the frame's exposure, then a body that removes the noise.
`docs/network.md` says how it is trained and how good it is.
"""

import threading
from pathlib import Path
from typing import Final

import numpy as np

from common.errors import ImageError, SettingsError, WeightsError
from common.onnx_models import lean_options
from common.pixels import Bytes, Levels

COMMITTED: Final = Path(__file__).parent / "weights" / "edge.onnx"
CURVE_ITERATIONS: Final = 8
PAGE, DUSK = 0.70, 0.22  # mean luma of a page, and of a scene that was half lit already
FULL_STRENGTH: Final = 0.15  # the alpha from which on the network's residual counts in full
SOLVER_SIDE: Final = 48  # pixels of the shorter side that the exposure solver looks at
SOLVER_STEPS: Final = 25  # curves it tries
SOLVER_REACH: Final = 3.2  # atanh of the steepest
LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
BYTE_LEVELS: Final[Levels] = np.linspace(0, 1, 256, dtype=np.float32)


class LocalEnhancer:
    """Lights up frames on this device.

    Args:
        path: an .onnx file that `python -m cloud_node.training export` wrote; None takes the one that comes along.
        threads: for the network; 0 = as many as ONNX Runtime thinks right.

    Raises:
        SettingsError: onnxruntime is not installed.
        WeightsError: there is no such file, or it is no exported network.
    """

    def __init__(self, path: Path | None = None, *, threads: int = 1) -> None:
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise SettingsError(
                f"the local enhancer needs onnxruntime: pip install 'lamplight[edge]' ({error})"
            ) from None
        path = COMMITTED if path is None else path
        if not path.is_file():
            raise WeightsError(f"local enhancer: there is no file {path}")
        options = lean_options(threads)
        self._lock = threading.Lock()  # cameras of one process share it, and the memory of one run
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            properties = self._session.get_modelmeta().custom_metadata_map
            self.model = properties["version"]
            self._exposure, self._multiple = float(properties["exposure"]), int(properties["multiple"])
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise WeightsError(f"local enhancer: {path} is no network exported for the edge: {error}") from None

    def enhance(self, rgb: Bytes) -> Bytes:
        """(H, W, 3) uint8 RGB, any size -> lit, the same shape and type.

        Raises:
            ImageError: for another shape or type.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
            raise ImageError(f"expected an (H, W, 3) uint8 array, got {rgb.dtype} {rgb.shape}")
        import cv2

        height, width = rgb.shape[:2]
        bottom, right = (max(16, side + -side % self._multiple) - side for side in (height, width))
        if bottom or right:
            rgb = np.pad(rgb, ((0, bottom), (0, right), (0, 0)), mode="reflect")
        low = np.stack(cv2.split(rgb))  # (3, H, W)
        alpha = solve_curve(rgb, self._exposure)
        levels = curve(BYTE_LEVELS, alpha)
        pre = cv2.LUT(low.reshape(-1, low.shape[-1]), levels).reshape(low.shape)
        strength = np.full((1, 1, 1, 1), min(1.0, alpha / FULL_STRENGTH) * bool(rgb.any()), np.float32)
        with self._lock:
            [lit] = self._session.run(None, {"low": low[None], "pre": pre[None], "strength": strength})
        return np.ascontiguousarray(cv2.merge(list(lit[0]))[:height, :width])


def curve(levels: Levels, alpha: float | Levels) -> Levels:
    """Zero-DCE's curve: levels in [0, 1] -> lifted levels; alpha in [0, 1], one or an array that broadcasts.

    >>> curve(np.array([0.0, 0.5, 1.0], np.float32), 0.0)
    array([0. , 0.5, 1. ], dtype=float32)
    """
    for _ in range(CURVE_ITERATIONS):
        levels = (levels + alpha * (levels - levels * levels)).astype(np.float32, copy=False)
    return levels


def solve_curve(rgb: Bytes, level: float) -> float:
    """The alpha in [0, 1) whose curve brings an (H, W, 3) uint8 frame to its mean luma; 0 where it is there already.

    The cloud's `laegan.curve.solve_curve` and `exposure_level`, on histograms; a test holds the two equal.
    """
    stride = max(1, min(rgb.shape[:2]) // SOLVER_SIDE)
    view = rgb[::stride, ::stride]
    y = (view / np.float32(255)) @ LUMA
    lamps = (view.max(axis=-1) >= 0.9 * 255).mean()
    lit = np.clip(max((y.mean() - 0.12) / 0.08, lamps / 0.015), 0, 1)
    rows, columns = (side // 4 for side in y.shape)
    areas = y[: rows * 4, : columns * 4].reshape(rows, 4, columns, 4).mean(axis=(1, 3))
    page = np.clip(2 - areas.std(ddof=1) / max(float(areas.mean()), 1e-3) / 0.16, 0, 1) * np.clip(
        y.mean() * 255 / 4, 0, 1
    )
    scene = level - max(0.0, level - DUSK) * lit
    target = scene + (PAGE - scene) * page
    counts = np.stack([np.bincount(view[..., c].ravel(), minlength=256) for c in range(3)])
    shifts = np.linspace(0, SOLVER_REACH, SOLVER_STEPS, dtype=np.float32)
    means = curve(BYTE_LEVELS, np.tanh(shifts)[:, None]) @ (LUMA @ counts) / counts[0].sum()  # (K,), rising
    return float(np.tanh(np.interp(target, means, shifts)))
