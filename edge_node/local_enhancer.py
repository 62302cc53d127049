"""The small network that runs here when the cloud cannot: preset `edge` on ONNX Runtime, without torch.

The same two stages as in the cloud: a curve solved for the frame's exposure, flatter where it is light already, then a
body that removes the noise.
`docs/network.md` says how it is trained and how good it is.
"""

import threading
from pathlib import Path
from typing import Final

import numpy as np

from common.errors import ImageError, SettingsError, WeightsError
from common.onnx_models import lean_options
from common.pixels import Bytes
from edge_node.solved_curve import lifted, local_curve

COMMITTED: Final = Path(__file__).parent / "weights" / "edge.onnx"
FULL_STRENGTH: Final = 0.15  # the alpha from which on the network's residual counts in full


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
            if {each.name: each.shape for each in self._session.get_inputs()}["strength"][-1] == 1:
                raise ValueError("its strength is one for the frame, as of old: export it again")
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
        local = local_curve(rgb, self._exposure)
        pre = lifted(low, local)
        strength = np.minimum(local / np.float32(FULL_STRENGTH), 1)
        strength = np.ascontiguousarray(np.broadcast_to(strength, (1, 1, *low.shape[1:])))
        with self._lock:
            [lit] = self._session.run(None, {"low": low[None], "pre": pre[None], "strength": strength})
        return np.ascontiguousarray(cv2.merge(list(lit[0]))[:height, :width])
