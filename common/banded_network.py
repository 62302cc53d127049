"""A detection network whose large early layers run on one band of the image at a time, with the same result."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from common.errors import WeightsError
from common.onnx_models import lean_session, lean_sessions, or_as_it_is
from common.onnx_split import STEM_STRIDE, halves
from common.pixels import Bytes, Levels

log = logging.getLogger(__name__)

BAND: Final = 192  # rows of the image; its early layers then take less than the later ones of the whole image


class BandedNetwork:
    """An ONNX network from an image to a map of its size; (1, 3, H, W) in, (1, 1, H, W) out, H and W multiples of 32.

    The early layers are the largest: at 1280x736 rapidocr's detector takes 70 MB less in bands, to the same bits. A
    network that has no place to be cut, or whose parts do not load or run, runs whole.

    Raises:
        SettingsError, WeightsError: as `lean_sessions`.
    """

    def __init__(self, model: Path, threads: int) -> None:
        self._reach, self._seam = 0, ""

        def cut(content: bytes) -> tuple[bytes, ...]:
            found = halves(content)
            if found is None:
                return (content,)
            self._reach, self._seam = found.reach + -found.reach % STEM_STRIDE, found.seam
            return found.stem, found.body

        try:
            first, *rest = lean_sessions(model, threads, cut)
        except WeightsError:
            if not self._seam:
                raise
            log.warning("%s does not run in two parts: it runs whole, which takes more memory", model.name)
            self._seam = ""
            first, *rest = lean_sessions(model, threads, lambda content: (content,))
        self._image = first.get_inputs()[0].name
        self._run = or_as_it_is(  # it alone has the sessions, so that those that do not run go
            model,
            partial(self._parts, first, *rest) if rest else partial(self._whole, first),
            lambda: partial(self._whole, lean_session(model, threads, rewrite=False)),
        )

    def run(self, scaled: Bytes, blob: Callable[[Bytes], Levels]) -> Levels:
        """(H, W) probabilities of an (H, W, 3) image; `blob` makes (1, 3, h, W) of some of its rows."""
        return self._run(scaled, blob)

    def _whole(self, session: Any, scaled: Bytes, blob: Callable[[Bytes], Levels]) -> Levels:
        probabilities: Levels = session.run(None, {self._image: blob(scaled)})[0][0, 0]
        return probabilities

    def _parts(self, first: Any, body: Any, scaled: Bytes, blob: Callable[[Bytes], Levels]) -> Levels:
        height, width = scaled.shape[:2]
        features: Levels | None = None
        for top in range(0, height, BAND):
            bottom = min(top + BAND, height)
            start, end = max(0, top - self._reach), min(height, bottom + self._reach)
            [band] = first.run(None, {self._image: blob(scaled[start:end])})
            if features is None:
                features = np.empty((1, band.shape[1], height // STEM_STRIDE, band.shape[3]), np.float32)
            inside = slice((top - start) // STEM_STRIDE, (bottom - start) // STEM_STRIDE)
            features[:, :, top // STEM_STRIDE : bottom // STEM_STRIDE] = band[:, :, inside]
        probabilities: Levels = body.run(None, {self._seam: features})[0][0, 0]
        return probabilities
