"""What was read of a picture against what it says: for benchmarks/reading.py and benchmarks/confidence.py.

Case does not count (the truth of the receipts is in capitals), and for characters neither do spaces.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from common.text_recognition import UNLIKELY, CTCRecognizer, Looks

SIDE = 480  # of the detector, as the node's default
DECODER = "read4"  # in the names of what is kept: another one with each change to what is read
READERS = (NONE, "receipts")  # of --recognize-like
ALL = 1000  # more lines than a receipt has


@dataclass(frozen=True)
class Read:
    """One region: what it says, and the probability of each letter."""

    polygon: list[tuple[float, float]]
    text: str
    letters: list[float]
    share: float | None = None  # where a prior chose

    @property
    def size(self) -> tuple[float, float]:
        """Length and height, in pixels."""
        return text_size(self.polygon)


class Remembering(CTCRecognizer):
    """Puts each crop to the network once, for as long as one picture is read."""

    def __init__(self) -> None:
        super().__init__(threads=1)
        self.known: dict[bytes, tuple[Any, ...]] = {}

    def probabilities(self, crop: np.ndarray) -> np.ndarray:
        key = crop.tobytes()
        if key not in self.known:
            seen = super().probabilities(crop)
            steps, letters = np.nonzero(seen > UNLIKELY)
            self.known[key] = (seen.shape, steps, letters, seen[steps, letters])
        shape, steps, letters, values = self.known[key]
        made = np.zeros(shape, np.float32)
        made[steps, letters] = values
        return made

    def set_prior(self, prior: TextPrior | None) -> None:
        self._prior = prior


class Pipeline:
    """The node's detector and recogniser, on one thread; keeps what it read in a folder where one is given."""

    def __init__(self, cache: Path | None = None) -> None:
        cv2.setNumThreads(1)
        self.detector, self.recognizer = DBNet(limit_side=SIDE, threads=1), Remembering()
        self.recognizer.load()
        self.cache = cache
        self.priors = {reader: text_prior(reader) for reader in READERS}
        self._found: tuple[np.ndarray, Any] | None = None  # the last picture, and the regions in it

    def read(self, rgb: np.ndarray, name: str, original: np.ndarray | None = None, reader: str = NONE) -> list[Read]:
        """original: the frame in the dark; with it all lines in doubt are read again."""
        file = self._file(name, reader) if self.cache else None
        if file and file.exists():
            return [Read(**one) for one in json.loads(file.read_text())]
        if self._found is None or self._found[0] is not rgb:
            self.recognizer.known.clear()
            self._found = (rgb, self.detector.detect(rgb))
        polygons = [region.polygon for region in self._found[1]]
        self.recognizer.set_prior(self.priors[reader])
        looks = Looks(self.recognizer, rgb, None if original is None else lambda: original, again=ALL)
        made = [
            Read(list(polygon), spelled.text, list(spelled.letters), spelled.share)
            for polygon, spelled in zip(polygons, looks.read(polygons), strict=True)
        ]
        if file:
            file.write_text(json.dumps([vars(one) for one in made]))
        return made

    def read_scene(self, scene: Scene, condition: str, reader: str = NONE) -> list[Read]:
        """One of the scene's pictures, or AGAIN."""
        name = name_of(scene.name, scene.darkness, condition)
        if condition == AGAIN:
            return self.read(scene.pictures[LIT], name, scene.pictures[DARK], reader)
        return self.read(scene.pictures[condition], name, reader=reader)

    def has(self, receipt: str, darkness: str, condition: str, reader: str) -> bool:
        """Whether that was read and kept."""
        return bool(self.cache) and self._file(name_of(receipt, darkness, condition), reader).exists()

    def _file(self, name: str, reader: str) -> Path:
        return Path(self.cache or ".") / f"{name} {reader} {DECODER}.json"


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
