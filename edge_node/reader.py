"""Reader: find the text in an enhanced frame, and what it says."""

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial

from common.frame import Region
from common.pixels import Bytes
from common.text_crops import text_size
from common.text_detection import TextDetector, create_detector
from common.text_recognition import CTCRecognizer, TextRecognizer
from edge_node.detector_size import ENLARGED, RATE, SHARE, SHARE_ALONE, Size, fit
from edge_node.settings import MOST_READ, Reading

log = logging.getLogger(__name__)


class Reader:
    """Reads frames with a detector; `Reader(None)` (`--detector none`) finds nothing, at no cost.

    Several nodes of one process may share it: it reads one frame at a time, so that memory stays bounded.

    Args:
        recognizer: reads what the regions say; without one they have no text.
        most: of a frame so many regions are read, those with the largest text, so that a page full of small print
            holds nothing up; the others keep their outlines and have no text.
        fit: sizes the detector for this device, once it is loaded.
    """

    def __init__(
        self,
        detector: TextDetector | None,
        recognizer: TextRecognizer | None = None,
        *,
        most: int = MOST_READ,
        fit: Callable[[TextDetector], object] | None = None,
    ) -> None:
        self.detector, self.recognizer, self.most = detector, recognizer, most
        self._fit = fit
        self.left_out = 0  # regions so far that were not read
        self._lock = threading.Lock()

    def load(self) -> None:
        """Load the models before the first frame, so that what they lack is known at the start.

        Raises:
            SettingsError, WeightsError: a package or weights are missing.
        """
        with self._lock:
            for model in (self.detector, self.recognizer):
                load = getattr(model, "load", None)
                if self.detector is not None and load is not None:
                    load()
            if self.detector is not None and self._fit is not None:
                self._fit(self.detector)
                self._fit = None

    def read(self, rgb: Bytes, original: Callable[[], Bytes | None] | None = None) -> tuple[Region, ...]:
        """Text regions of an (H, W, 3) uint8 RGB image; raises what detector and recogniser raise.

        original: makes the frame as it was in the dark, or None; asked where a text is in doubt.
        """
        if self.detector is None:
            return ()
        with self._lock:
            regions = self.detector.detect(rgb)
            if self.recognizer is None or not regions:
                return regions
            places = self._largest(regions)
            read = self.recognizer.recognize(rgb, [regions[i] for i in places], original)
            texts = dict(zip(places, read, strict=True))
            return tuple(texts.get(i, region) for i, region in enumerate(regions))

    def _largest(self, regions: Sequence[Region]) -> list[int]:
        """Places of those with the largest text, at most `most`, in their order."""
        places = list(range(len(regions)))
        if len(regions) <= self.most:
            return places
        if not self.left_out:
            log.warning(
                "a frame has %d text regions: only the %d with the largest text are read, in this frame and in others "
                "like it (--recognize-most)", len(regions), self.most,
            )  # fmt: skip
        self.left_out += len(regions) - self.most
        return sorted(sorted(places, key=lambda i: -text_size(regions[i].polygon)[1])[: self.most])


def create_reader(given: Reading, frames_per_s: float = RATE, size: Size | None = None) -> Reader:
    """The reader of these settings; its models are loaded later, by `load`.

    frames_per_s: what it has to keep, of all cameras together; the detector is sized for it where its side is auto.
    size: width and height of the cameras' frames, where they are known and the same.

    Raises:
        SettingsError: for a detector that does not exist, or a setting that it refuses.
    """
    if given.detector == "none":
        return Reader(None)
    detector = create_detector(
        given.detector,
        model=given.detector_model,
        threads=given.detector_threads,
        limit_side=given.detector_side or ENLARGED,
        max_side=given.detector_max_side,
    )
    recognizer = None
    if given.recognize:
        again, like = given.recognize_again, given.recognize_like
        recognizer = CTCRecognizer(given.recognizer, threads=given.detector_threads, again=again, like=like)
    share = SHARE if recognizer else SHARE_ALONE
    sized = None if given.detector_side else partial(fit, frames_per_s=frames_per_s, share=share, size=size)
    return Reader(detector, recognizer, most=given.recognize_most, fit=sized)
