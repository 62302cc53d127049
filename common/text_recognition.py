"""Read what pieces of text say: a recogniser with CTC output, as PaddleOCR trains them.

References:
    Graves et al., Connectionist Temporal Classification, ICML 2006, section 3.2 (best path decoding).
    PP-OCRv6 small recognition model, 18,708 characters, Apache-2.0, in rapidocr's wheel.
"""

import threading
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from common.detector_input import check_image
from common.errors import SettingsError, WeightsError
from common.frame import Region
from common.memory import give_back
from common.onnx_models import lean_session, wheel_model
from common.pixels import Bytes
from common.text_confidence import confidence
from common.text_crops import crops, text_size

MOST_LETTERS: Final = 256  # of one piece of text; more is cut off
FULL_WIDTH: Final = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}


class TextRecognizer(Protocol):
    """Anything that reads what regions say."""

    def recognize(self, rgb: Bytes, regions: Sequence[Region]) -> tuple[Region, ...]:
        """The regions in their order with `text` and `confidence`; rgb: (H, W, 3) uint8; safe from any thread."""
        ...


@dataclass(frozen=True, slots=True)
class Spelled:
    """What the network spelled."""

    text: str
    letters: tuple[float, ...] = ()  # probability of each letter, 0..1

    @property
    def score(self) -> float:
        """Their mean, what PaddleOCR and rapidocr call the score; 0 without letters."""
        return float(np.mean(self.letters)) if self.letters else 0.0


class CTCRecognizer:
    """The recogniser in rapidocr's wheel, so nothing is downloaded; loaded at the first `recognize` or `load`.

    One crop at a time, at its own width: batches are no faster on a CPU, and take memory.

    Args:
        model: another ONNX file of that kind, with its letters under `character` in its metadata.
        threads: for the network; 0 = as many as ONNX Runtime thinks right.
    """

    def __init__(self, model: str | Path | None = None, *, threads: int = 0) -> None:
        if model is not None and not Path(model).is_file():
            raise SettingsError(f"there is no recognition model {model}")
        if threads < 0:
            raise SettingsError(f"recogniser: threads {threads} must be 0 (default) or more")
        self.model, self.threads = model and Path(model), threads
        self._session: Any = None
        self._letters: list[str] = []
        self._lock = threading.Lock()

    def load(self) -> None:
        """Load the model now rather than at the first frame.

        Raises:
            SettingsError: rapidocr is not installed. WeightsError: there is no model, or it is none of this kind.
        """
        with self._lock:
            if self._session is not None:
                return
            path = self.model or wheel_model("rec", "--recognize")
            session = lean_session(path, self.threads)
            listed = session.get_modelmeta().custom_metadata_map.get("character", "").split("\n")
            classes = session.get_outputs()[0].shape[-1]
            letters = ["", *listed, " "]  # CTC's blank first
            if classes != len(letters):
                raise WeightsError(
                    f"{path} is no recogniser with its letters: {classes} classes, {len(letters)} letters"
                )
            self._letters, self._session = letters, session
            give_back()

    def recognize(self, rgb: Bytes, regions: Sequence[Region]) -> tuple[Region, ...]:
        """The regions in their order, each with what it says and how likely that is right; "" and 0 for nothing.

        Raises:
            ImageError: for another shape or type of image. SettingsError, WeightsError: as `load`.
        """
        check_image(rgb)
        self.load()
        read = []
        for region in regions:
            spelled = self.spell(rgb, region.polygon)
            sure = confidence(spelled.letters, *text_size(region.polygon)) if spelled.text else 0.0
            read.append(replace(region, text=spelled.text, confidence=sure))
        return tuple(read)

    def spell(self, rgb: Bytes, polygon: Sequence[tuple[float, float]]) -> Spelled:
        """What stands in one outline; of text that may be turned either way, the way that scores higher."""
        return max((self._spell(crop) for crop in crops(rgb, polygon)), key=lambda one: one.score, default=Spelled(""))

    def _spell(self, crop: Bytes) -> Spelled:
        blob = crop[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32, order="C")  # trained on BGR
        blob /= 127.5
        blob -= 1
        [probabilities] = self._session.run(None, {self._session.get_inputs()[0].name: blob})[0]  # (T, letters)
        return decode(probabilities, self._letters)


def decode(probabilities: "np.ndarray[Any, np.dtype[np.float32]]", letters: Sequence[str]) -> Spelled:
    """CTC's best path: (T, classes) probabilities to text; class 0 is the blank, repeats are one letter."""
    best = probabilities.argmax(axis=1)
    starts = np.concatenate([[True], best[1:] != best[:-1]]) & (best != 0)
    found = [(letters[best[t]], float(probabilities[t, best[t]])) for t in np.flatnonzero(starts)]
    return Spelled(cleaned("".join(letter for letter, _ in found)), tuple(p for letter, p in found if letter.strip()))


def cleaned(text: str) -> str:
    """Text that strangers wrote, as one line that is safe to log, store and compare.

    No control, format (bidirectional overrides, joiners) or unassigned characters; full-width ASCII as ASCII; spaces
    single; composed (NFC); at most 256 characters.
    """
    plain = unicodedata.normalize("NFC", text.translate(FULL_WIDTH))
    kept = (" " if char.isspace() else char for char in plain if char.isspace() or unicodedata.category(char)[0] != "C")
    return " ".join("".join(kept).split())[:MOST_LETTERS]
