"""What was read of a picture against what it says: for benchmarks/reading.py and benchmarks/confidence.py.

Case does not count (the truth of the receipts is in capitals), and for characters neither do spaces.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from reading_scenes import AGAIN, BRIGHT, DARK, LIT, Scene, made_by

from cloud_node.evaluation.cases import DARKNESS
from cloud_node.evaluation.detection import Outline, covered
from common.frame import Region
from common.polygons import match
from common.text_crops import text_size
from common.text_detection import DBNet
from common.text_prior import NONE, TextPrior, text_prior
from common.text_recognition import DARK as TAUGHT_IN_THE_DARK
from common.text_recognition import PLAIN, TAUGHT, UNLIKELY, CTCRecognizer, Looks

SIDE = 480  # of the detector, as the node's default
DECODER = "read4"  # in the names of what is kept: another one with each change to what is read
ALL = 1000  # more lines than a receipt has


class Reader(NamedTuple):
    """What a node is told: --recognizer and --recognize-like."""

    recognizer: str = PLAIN
    like: str = NONE

    def __str__(self) -> str:
        return self.recognizer + (f", like {self.like}" if self.like != NONE else "")

    def kept_as(self) -> str:
        """What stands in the names of files of what it read."""
        return self.like if self.recognizer == PLAIN else f"{_digest(self.recognizer)} noisy {self.like}"


OURS = Reader()  # as a node reads unless it is told otherwise


@cache
def _digest(recognizer: str) -> str:
    path = TAUGHT if recognizer == TAUGHT_IN_THE_DARK else Path(recognizer)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


@dataclass(frozen=True)
class Read:
    """One region: what it says, and the probability of each letter."""

    polygon: list[tuple[float, float]]
    text: str
    letters: list[float]
    share: float | None = None  # where a prior chose
    taught: bool = False  # read with the weights that were taught

    @property
    def size(self) -> tuple[float, float]:
        """Length and height, in pixels."""
        return text_size(self.polygon)


class Remembering(CTCRecognizer):
    """Puts each crop to the network once, for as long as one picture is read."""

    def __init__(self, recognizer: str) -> None:
        super().__init__(recognizer, threads=1)
        self.load()
        self.known: dict[bytes, tuple[Any, ...]] = {}

    def probabilities(self, crop: np.ndarray, taught: bool = False) -> np.ndarray:
        key = crop.tobytes() + bytes([taught])
        if key not in self.known:
            seen = super().probabilities(crop, taught)
            steps, letters = np.nonzero(seen > UNLIKELY)
            self.known[key] = (seen.shape, steps, letters, seen[steps, letters])
        shape, steps, letters, values = self.known[key]
        made = np.zeros(shape, np.float32)
        made[steps, letters] = values
        return made

    def set_prior(self, prior: TextPrior | None) -> None:
        self._prior = prior


class Pipeline:
    """The node's detector and recognisers, on one thread; keep what they found and read where a folder is given."""

    def __init__(self, cache: Path | None = None) -> None:
        cv2.setNumThreads(1)
        self.detector, self.cache = DBNet(limit_side=SIDE, threads=1), cache
        self.recognizers: dict[str, Remembering] = {}
        self.priors = {like: text_prior(like) for like in (NONE, "receipts")}
        self._seen: np.ndarray | None = None  # the last picture

    def read(self, rgb: np.ndarray, name: str, original: np.ndarray | None = None, reader: Reader = OURS) -> list[Read]:
        """original: the frame in the dark; with it all lines in doubt are read again."""
        file = self._file(name, reader) if self.cache else None
        if file and file.exists():
            return [Read(**one) for one in json.loads(file.read_text())]
        if self._seen is not rgb:
            for one in self.recognizers.values():
                one.known.clear()
            self._seen, self._outlines = rgb, self._find(rgb, name.replace(AGAIN, LIT))
        if reader.recognizer not in self.recognizers:
            self.recognizers[reader.recognizer] = Remembering(reader.recognizer)
        recognizer = self.recognizers[reader.recognizer]
        recognizer.set_prior(self.priors[reader.like])
        looks = Looks(recognizer, rgb, None if original is None else lambda: original, again=ALL)
        made = [
            Read(polygon, spelled.text, list(spelled.letters), spelled.share, spelled.taught)
            for polygon, spelled in zip(self._outlines, looks.read(self._outlines), strict=True)
        ]
        if file:
            file.write_text(json.dumps([vars(one) for one in made]))
        return made

    def _find(self, rgb: np.ndarray, name: str) -> list[list[tuple[float, float]]]:
        """The outlines of a picture; the same for all that read it."""
        file = self.cache and self.cache / f"{name} outlines.json"
        if file and file.exists():
            return [[(x, y) for x, y in one] for one in json.loads(file.read_text())]
        found = [[(float(x), float(y)) for x, y in region.polygon] for region in self.detector.detect(rgb)]
        if file:
            file.write_text(json.dumps(found))
        return found

    def read_scene(self, scene: Scene, condition: str, reader: Reader = OURS) -> list[Read]:
        """One of the scene's pictures, or AGAIN."""
        name = name_of(scene.name, scene.darkness, condition)
        if condition == AGAIN:
            return self.read(scene.pictures[LIT], name, scene.pictures[DARK], reader)
        return self.read(scene.pictures[condition], name, reader=reader)

    def has(self, receipt: str, darkness: str, condition: str, reader: Reader) -> bool:
        """Whether that was read and kept."""
        return bool(self.cache) and self._file(name_of(receipt, darkness, condition), reader).exists()

    def _file(self, name: str, reader: Reader) -> Path:
        return Path(self.cache or ".") / f"{name} {reader.kept_as()} {DECODER}.json"


def name_of(receipt: str, darkness: str, condition: str) -> str:
    """Of what was read in a file; the bright scan is read once, for it is the same in any darkness."""
    darkness = next(iter(DARKNESS)) if condition == BRIGHT else darkness
    return f"{Path(receipt).stem} {darkness} {condition}{made_by(condition)}"


def letters(text: str) -> str:
    return "".join(text.upper().split())


def edits(one: str, other: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]


def by_line(read: Sequence[Read], truth: Sequence[Outline]) -> tuple[list[str], list[str]]:
    """What was read of each line of the truth, left to right, and what was read elsewhere.

    A region belongs to the line on which most of it lies, if that is more than half of it.
    """
    boxes = [np.asarray(outline.polygon) for outline in truth]
    parts: list[list[tuple[float, str]]] = [[] for _ in truth]
    elsewhere = []
    for one in read:
        box, shares = np.asarray(one.polygon), {}
        for j, other in enumerate(boxes):
            if (box.min(axis=0) < other.max(axis=0)).all() and (other.min(axis=0) < box.max(axis=0)).all():
                shares[j] = covered(Region(tuple(one.polygon), 1.0), truth[j].polygon)
        best = max(shares, key=lambda j: shares[j], default=None)
        if best is not None and shares[best] > 0.5:
            parts[best].append((float(box[:, 0].min()), one.text))
        else:
            elsewhere.append(one.text)
    return [" ".join(text for _, text in sorted(part)) for part in parts], elsewhere


def score(read: Sequence[Read], truth: Sequence[Outline]) -> np.ndarray:
    """(words read right where they stand, words, character errors, characters).

    Characters of a line that was not found are errors, and so is what was read where nothing stands.
    """
    lines, elsewhere = by_line(read, truth)
    right = words = wrong = characters = 0
    for line, outline in zip(lines, truth, strict=True):
        if not outline.counts:
            continue
        there = Counter(outline.text.upper().split())
        right += (there & Counter(line.upper().split())).total()
        words += there.total()
        wrong += edits(letters(line), letters(outline.text))
        characters += len(letters(outline.text))
    wrong += sum(len(letters(text)) for text in elsewhere)
    return np.array([right, words, wrong, characters], float)


def labelled(read: Sequence[Read], truth: Sequence[Outline]) -> list[tuple[Read, bool]]:
    """Regions whose truth is known, and whether all letters are right.

    Known are those that match a line at IoU 0.5, and those that lie on no line, which are wrong; the rest, parts of
    lines, are left out, as is what spells nothing.
    """
    polygons: Any = [outline.polygon for outline in truth]
    pairs = {i: j for i, j in match([one.polygon for one in read], polygons)}
    made = []
    for i, one in enumerate(read):
        if i in pairs:
            right = letters(one.text) == letters(truth[pairs[i]].text)
        elif any(covered(Region(tuple(one.polygon), 1.0), polygon) > 0.05 for polygon in polygons):
            continue
        else:
            right = False
        if one.text:
            made.append((one, right))
    return made
