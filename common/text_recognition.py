"""Read what pieces of text say: a recogniser with CTC output, as PaddleOCR trains them.

References:
    Graves et al., Connectionist Temporal Classification, ICML 2006, section 3.2 (best path decoding).
    PP-OCRv6 small recognition model, 18,708 characters, Apache-2.0, in rapidocr's wheel.
"""

import logging
import os.path
import threading
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from common.ctc_beam import beam
from common.detector_input import check_image
from common.errors import SettingsError, WeightsError
from common.frame import Region
from common.memory import give_back
from common.onnx_models import lean_session, wheel_model
from common.onnx_overlay import OtherBaseError, read_overlay
from common.pixels import Bytes
from common.text_confidence import confidence
from common.text_crops import crops, smoothed, stretched, text_size
from common.text_noise import NOISY, coloured_noise
from common.text_prior import NONE, TextPrior, text_prior
from common.text_scripts import mostly_latin

log = logging.getLogger(__name__)

Probabilities = np.ndarray[Any, np.dtype[np.float32]]  # (T, letters)
Indices = np.ndarray[Any, np.dtype[np.intp]]
Polygon = Sequence[tuple[float, float]]
Original = Callable[[], Bytes | None]  # the frame in the dark, (H, W, 3) uint8, made when it is asked for

MOST_LETTERS: Final = 256  # of one piece of text; more is cut off
LIKELY_SPACE: Final = 0.1  # a space this likely between two letters is one: the recogniser leaves too many out
DOUBT: Final = 0.6  # what is less sure is read again
LESS_SURE: Final = 0.2  # than the first look: then that one counts
UNLIKELY: Final = 1e-4  # of a letter at the first look: not kept for the second, all 18,708 would take 3 MB a line
DARK, PLAIN = "dark", "plain"  # the recogniser in the wheel, as it was taught to read in the dark, and as it is
TAUGHT: Final = Path(__file__).parent / "recognizers" / "dark.npz"
FULL_WIDTH: Final = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}


class TextRecognizer(Protocol):
    """Anything that reads what regions say."""

    def recognize(self, rgb: Bytes, regions: Sequence[Region], original: Original | None = None) -> tuple[Region, ...]:
        """The regions in their order with `text` and `confidence`; rgb: (H, W, 3) uint8; safe from any thread.

        original: the same frame as it was in the dark, for who can make use of it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Spelled:
    """What the network spelled."""

    text: str
    letters: tuple[float, ...] = ()  # probability of each letter, 0..1
    share: float | None = None  # of this text among those that a prior chose from, 0..1; None = it was not asked
    taught: bool = False  # by a network that was taught to read in the dark

    @property
    def score(self) -> float:
        """Their mean, what PaddleOCR and rapidocr call the score; 0 without letters."""
        return float(np.mean(self.letters)) if self.letters else 0.0


class CTCRecognizer:
    """The recogniser in rapidocr's wheel, so nothing is downloaded; loaded at the first `recognize` or `load`.

    One crop at a time, at its own width: batches are no faster on a CPU, and take memory.

    Args:
        model: PLAIN: as it is; DARK: with weights of ours that were taught to read noise, for noisy lines in Latin
            letters, and as it is for all others, by a second network that is loaded at the first such line; or a file:
            other such weights (.npz, from `python -m cloud_node.training recognizer`; confidence with DARK's numbers),
            or another ONNX file of that kind, with its letters under `character` in its metadata.
        threads: for the network; 0 = as many as ONNX Runtime thinks right.
        again: of a frame so many lines that are in doubt are read again with the original beside it.
        like: the kind of text that decides where a line is in doubt; see `common.text_prior.text_prior`.
    """

    def __init__(self, model: str | Path = PLAIN, *, threads: int = 0, again: int = 0, like: str = NONE) -> None:
        if model not in (DARK, PLAIN) and not os.path.isfile(model):  # nor of a name that is too long
            raise SettingsError(f"there is no recognition model {model}: {DARK}, {PLAIN}, or a file")
        if threads < 0:
            raise SettingsError(f"recogniser: threads {threads} must be 0 (default) or more")
        self.model, self.threads, self.again, self.like = str(model), threads, again, like
        self._prior: TextPrior | None = None
        self._session: Any = None
        self._plain: Any = None  # beside weights that were taught: the session for what is not noisy, or not Latin
        self._letters: list[str] = []
        self._taught = False
        self.untaught = ""  # why weights that were asked for are not used, once it is loaded
        self._lock = threading.Lock()

    def load(self) -> None:
        """Load the model now rather than at the first frame.

        Raises:
            SettingsError: rapidocr is not installed, or the text of `like` cannot be read.
            WeightsError: there is no model, or it is none of this kind.
        """
        with self._lock:
            if self._session is not None:
                return
            self._prior = text_prior(self.like)
            path, session = self._open()
            listed = session.get_modelmeta().custom_metadata_map.get("character", "").split("\n")
            classes = session.get_outputs()[0].shape[-1]
            letters = ["", *listed, " "]  # CTC's blank first
            if classes != len(letters):
                raise WeightsError(
                    f"{path} is no recogniser with its letters: {classes} classes, {len(letters)} letters"
                )
            self._letters, self._session = letters, session
            give_back()

    def _open(self) -> tuple[Path, Any]:
        """The ONNX file and its session; another version of the wheel's network runs as it is, and the log says so."""
        if self.model not in (DARK, PLAIN) and Path(self.model).suffix != ".npz":
            return Path(self.model), lean_session(Path(self.model), self.threads)
        path = wheel_model("rec", "--recognize")
        if self.model != PLAIN:
            overlay = read_overlay(TAUGHT if self.model == DARK else Path(self.model))
            try:
                session = lean_session(path, self.threads, overlay)
                self._taught = True
                return path, session
            except OtherBaseError as error:
                self.untaught = f"{path.name} is read with as it is, not as it was taught to read in the dark: {error}"
                log.warning("%s", self.untaught)
        return path, lean_session(path, self.threads)

    def recognize(self, rgb: Bytes, regions: Sequence[Region], original: Original | None = None) -> tuple[Region, ...]:
        """The regions in their order, each with what it says and how likely that is right; "" and 0 for nothing.

        Raises:
            ImageError: for another shape or type of image. SettingsError, WeightsError: as `load`.
        """
        check_image(rgb)
        self.load()
        spelled = Looks(self, rgb, original, self.again).read([region.polygon for region in regions])
        return tuple(
            replace(region, text=one.text, confidence=sureness(one, region.polygon))
            for region, one in zip(regions, spelled, strict=True)
        )

    def spell(self, rgb: Bytes, polygon: Polygon) -> Spelled:
        """What stands in one outline; of text that may be turned either way, the way that scores higher."""
        return Looks(self, rgb).read([polygon])[0]

    @property
    def letters(self) -> list[str]:
        """What each class stands for, once it is loaded: the blank first, the space last."""
        return self._letters

    def reads_as_taught(self, crop: Bytes) -> bool:
        """Whether a crop is for the weights that were taught."""
        return self._taught and coloured_noise(crop) >= NOISY

    def read(self, crop: Bytes) -> Spelled:
        """What a (48, W, 3) crop says."""
        taught = self.reads_as_taught(crop)
        return self.decode(self.probabilities(crop, taught), taught)

    def decode(self, probabilities: Probabilities, taught: bool = False) -> Spelled:
        spelled = decode(probabilities, self._letters)
        return replace(spelled, taught=taught and mostly_latin(spelled.text))

    def decode_line(self, probabilities: Probabilities, polygon: Polygon, taught: bool = False) -> Spelled:
        """As `decode`; what is in doubt as the prior has it, if the text is in its script."""
        spelled = self.decode(probabilities, taught)
        if self._prior is None or not spelled.text or sureness(spelled, polygon) >= DOUBT:
            return spelled
        if not self._prior.knows(spelled.text):
            return spelled
        text, likely, share = beam(probabilities, self._letters, self._prior)
        text = cleaned(text)
        return Spelled(text, likely, share) if text else spelled

    def probabilities(self, crop: Bytes, taught: bool = False) -> Probabilities:
        """Of each letter at each step of a (48, W, 3) crop; what the taught one has in no Latin letters, the plain one
        reads."""
        if not taught and self._taught:
            return self._run(self._plain_session(), crop)
        seen = self._run(self._session, crop)
        if taught and not mostly_latin("".join(self._letters[best] for best in seen.argmax(axis=1))):
            return self._run(self._plain_session(), crop)
        return seen

    def _plain_session(self) -> Any:
        with self._lock:
            if self._plain is None:
                self._plain = lean_session(wheel_model("rec", "--recognize"), self.threads)
                give_back()
            return self._plain

    def _run(self, session: Any, crop: Bytes) -> Probabilities:
        blob = crop[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32, order="C")  # trained on BGR
        blob /= 127.5
        blob -= 1
        [probabilities] = session.run(None, {session.get_inputs()[0].name: blob})[0]
        return probabilities  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A line that may be read again: what it spelled, how sure that is, and the probabilities worth keeping."""

    index: int
    spelled: Spelled
    sure: float
    crop: Bytes
    likely: tuple[Indices, Indices]  # step and letter
    probabilities: Probabilities


class Looks:
    """What the lines of one frame say: each is looked at once, then `again` of those in doubt twice more.

    Of these the probabilities of three crops are averaged: as it is, smoothed, and smoothed from the dark frame with
    its contrast stretched. Noise misleads each of them elsewhere. Those nearest to being sure go first; what is empty
    at the first look is no line.
    """

    def __init__(self, recognizer: CTCRecognizer, rgb: Bytes, original: Original | None = None, again: int = 0) -> None:
        self._recognizer, self._rgb, self._original, self._most = recognizer, rgb, original, again
        self._doubts: list[Doubt] = []

    def read(self, polygons: Sequence[Polygon]) -> list[Spelled]:
        """What each says, in their order; no failure of the second look loses the first one."""
        found = [self._once(index, polygon) for index, polygon in enumerate(polygons)]
        chosen = sorted(self._doubts, key=lambda doubt: -doubt.sure)[: self._most]
        if not chosen or self._original is None:
            return found
        try:
            dark = self._original()
            if dark is not None and dark.shape == self._rgb.shape:
                for doubt in chosen:
                    found[doubt.index] = self._again(doubt, dark, polygons[doubt.index])
        except Exception:
            log.warning("lines in doubt could not be read again, they stay as they were read first", exc_info=True)
        return found

    def _once(self, index: int, polygon: Polygon) -> Spelled:
        """The first look at a line; of text that may be turned either way, the way that scores higher."""
        cut = crops(self._rgb, polygon)
        if len(cut) != 1:
            ways = (self._recognizer.read(crop) for crop in cut)
            return max(ways, key=lambda one: one.score, default=Spelled(""))
        taught = self._recognizer.reads_as_taught(cut[0])
        seen = self._recognizer.probabilities(cut[0], taught)
        spelled = self._recognizer.decode_line(seen, polygon, taught)
        if self._most and self._original is not None and spelled.text:
            sure = sureness(spelled, polygon)
            if sure < DOUBT:
                steps, letters = np.nonzero(seen > UNLIKELY)
                self._doubts.append(Doubt(index, spelled, sure, cut[0], (steps, letters), seen[steps, letters]))
        return spelled

    def _again(self, doubt: Doubt, dark: Bytes, polygon: Polygon) -> Spelled:
        """The average of three looks, unless it says nothing or is much less sure than the first one."""
        [other] = crops(dark, polygon)
        taught = doubt.spelled.taught
        total = self._recognizer.probabilities(smoothed(doubt.crop, polygon), taught).copy()
        total += self._recognizer.probabilities(stretched(smoothed(other, polygon)), taught)
        total[doubt.likely] += doubt.probabilities
        spelled = self._recognizer.decode_line(np.divide(total, 3, dtype=np.float32), polygon, taught)
        return spelled if spelled.text and sureness(spelled, polygon) >= doubt.sure - LESS_SURE else doubt.spelled


def sureness(spelled: Spelled, polygon: Polygon) -> float:
    """How likely a text is right, 0..1; 0 for none."""
    if not spelled.text:
        return 0.0
    return confidence(spelled.letters, *text_size(polygon), spelled.share, taught=spelled.taught)


def decode(probabilities: Probabilities, letters: Sequence[str]) -> Spelled:
    """CTC's best path: (T, classes) probabilities to text; class 0 is the blank, the last one the space.

    Repeats are one letter. Between two letters a space counts from LIKELY_SPACE on.
    """
    best = probabilities.argmax(axis=1)
    places = np.flatnonzero(np.concatenate([[True], best[1:] != best[:-1]]) & (best != 0))
    if not len(places):
        return Spelled("")
    found = [(letters[best[t]], float(probabilities[t, best[t]])) for t in places]
    spaced = np.maximum.reduceat(probabilities[:, -1], places) > LIKELY_SPACE  # after each
    text = "".join(letter + " " * bool(space) for (letter, _), space in zip(found, spaced, strict=True))
    return Spelled(cleaned(text), tuple(p for letter, p in found if letter.strip()))


def cleaned(text: str) -> str:
    """Text that strangers wrote, as one line that is safe to log, store and compare.

    No control, format (bidirectional overrides, joiners) or unassigned characters; full-width ASCII as ASCII; spaces
    single; composed (NFC); at most 256 characters.
    """
    plain = unicodedata.normalize("NFC", text.translate(FULL_WIDTH))
    kept = (" " if char.isspace() else char for char in plain if char.isspace() or unicodedata.category(char)[0] != "C")
    return " ".join("".join(kept).split())[:MOST_LETTERS]
