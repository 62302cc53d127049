"""Makes the lines that the recogniser is taught with, page by page; what stands in the folder is not made again."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import torch

from cloud_node.laegan import load as load_enhancer
from cloud_node.laegan import weights_version
from cloud_node.training.images import DataError
from cloud_node.training.recognizer import crops, pages
from cloud_node.training.recognizer.crops import Line, bright, lines, load, save
from cloud_node.training.recognizer.pages import Outline, Page
from common.onnx_models import wheel_model
from common.text_detection import DBNet
from common.text_recognition import PLAIN, CTCRecognizer

SIDE = 480  # of the detector, as the edge's default


@dataclass(frozen=True)
class Amount:
    """How much is made."""

    times: int = 4  # that each photograph is darkened
    written: int = 160  # pages
    lines: int = 36  # of a page in one darkness, at most
    reminders: int = 200  # written pages that stay bright


class Eyes:
    """What looks at a page: the network that lights it up, the detector, and the recogniser that teaches."""

    def __init__(self) -> None:
        cv2.setNumThreads(1)
        self.detector, self.teacher = DBNet(limit_side=SIDE, threads=1), CTCRecognizer(PLAIN, threads=1)
        self.teacher.load()
        self._enhancer = load_enhancer("fast")

    def light(self, dark: np.ndarray) -> np.ndarray:
        """As the cloud node's `fast` gives it back."""
        with torch.inference_mode():
            lit = self._enhancer(torch.from_numpy(dark.astype(np.float32)).movedim(-1, 0)[None] / 255)
        made: np.ndarray = (lit[0].movedim(0, -1).numpy() * 255 + 0.5).clip(0, 255).astype(np.uint8)
        return made

    def find(self, rgb: np.ndarray) -> list[Outline]:
        return [region.polygon for region in self.detector.detect(rgb) if len(region.polygon) == 4]


def prepare(
    data: Path, fonts: list[Path], folder: Path, amount: Amount, seed: int, say: Callable[[str], None] = print
) -> list[Line]:
    """The lines in the order in which they were made; a page that is kept is made anew only if it cannot be read.

    Kept under the seed and a checksum of what it is made of: another font or photograph of the same name, other rules,
    and other networks that look at it, make others.

    Raises DataError for data that is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    eyes, every = Eyes(), list[Line]()
    known: dict[str, list[Outline]] = {}
    for page, number, checksum in drawn(data, fonts, amount, seed, eyes.teacher.letters, say):
        file = folder / f"{page.name}-{checksum:08x}-{number}-{seed}.npz"
        kept = _kept(file, say)
        if not kept:
            if not page.outlines and page.name not in known:
                known[page.name] = eyes.find(page.rgb)
            rng = np.random.default_rng((seed, number, zlib.crc32(page.name.encode())))
            bright = known.get(page.name, [])
            made = lines(page, rng, eyes.light, eyes.find, eyes.teacher.probabilities, amount.lines, bright)
            if not made:
                continue
            save(file, made)
            say(f"{file.stem}: {len(made)} lines")
            kept = load(file)  # rounded, as the next run will find them
        every += kept
    return every


def reminders(data: Path, fonts: list[Path], amount: Amount, seed: int) -> list[np.ndarray]:
    """Bright written lines in all letters of the fonts, other ones than the lessons': crops (48, W, 3) uint8."""
    teacher = CTCRecognizer(PLAIN, threads=1)
    teacher.load()
    faces, vocabulary = pages.faces(fonts, teacher.letters, lambda _: None), pages.words(data)
    made: list[np.ndarray] = []
    for number in range(amount.reminders if faces else 0):
        rng = np.random.default_rng((seed, number, 1))
        made += bright(pages.written(f"reminder-{number:04d}", rng, faces, vocabulary), rng)
    return made


def _kept(file: Path, say: Callable[[str], None]) -> list[Line]:
    """What a file has; nothing if it is not there or, after a power cut, not whole."""
    try:
        return load(file) if file.exists() else []
    except DataError as error:
        say(f"{error}; it is made again")
        return []


def drawn(
    data: Path, fonts: list[Path], amount: Amount, seed: int, letters: list[str], say: Callable[[str], None]
) -> Iterator[tuple[Page, int, int]]:
    """Pages, how many times each came before, and a checksum of what it is made of.

    Photographs and written ones by turns, so that any part has both.
    """
    photographs = pages.photographs(data)
    faces = pages.faces(fonts, letters, say)
    named = zlib.crc32("\n".join(face.path.name for face in faces).encode())
    vocabulary, each = pages.words(data), amount.times * len(photographs)
    looks = [
        weights_version("fast"),
        *(zlib.crc32(wheel_model(kind, "training").read_bytes()) for kind in ("det", "rec")),
    ]
    rules = zlib.crc32(repr([SIDE, amount.lines, looks, _constants(pages), _constants(crops)]).encode())
    in_fonts = zlib.crc32("\n".join(vocabulary).encode(), rules)
    for face in faces:
        content = face.path.read_bytes()
        in_fonts = zlib.crc32(content, zlib.crc32(str(len(content)).encode(), in_fonts))
    share = amount.written / max(1, each) if faces else 0.0
    done = 0
    for place in range(each):
        page = pages.read(photographs[place % len(photographs)])
        yield page, place // len(photographs), zlib.crc32(page.rgb.tobytes(), rules)
        while done < share * (place + 1):
            rng = np.random.default_rng((seed, done))
            yield pages.written(f"written-{named:08x}-{done:04d}", rng, faces, vocabulary), 0, in_fonts
            done += 1


def _constants(module: ModuleType) -> list[tuple[str, object]]:
    return sorted((name, value) for name, value in vars(module).items() if name.isupper())
