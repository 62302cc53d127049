"""Bright pictures with text for the recogniser to be taught with: those of the pools, and pages written here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from cloud_node.training import pools
from cloud_node.training.images import DataError

Outline = tuple[tuple[float, float], ...]  # four corners, clockwise from the top left

WIDTH, HEIGHT = 600, 400  # pixels of a written page
TRAINED_ON = ("receipts_sroie", "plates_ro")  # the pools, both of them MIT
LEFT_OUT = 7  # each seventh receipt is seen by no step, for looking at what training brings and what is still lost
PLATES_EVERY = 3  # frames of a drive that are taken: those between show the same plates
LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnopqrstuvwxyz.,:-/&%$#()+*'"
SIZES = (9, 34)  # pixels of a letter's height, evenly in the logarithm
MANY = 5000  # letters, of which a font of Chinese and Japanese has more
MANY_SHARE = 0.15  # of the lines are written in such a font, if there is one: others read those
NEIGHBOURS = 40  # letters of one script stand so near each other


@dataclass(frozen=True)
class Page:
    name: str
    rgb: np.ndarray  # (H, W, 3) uint8, H and W even
    outlines: tuple[Outline, ...] = ()  # where text is known to stand; empty: the detector is asked


@dataclass(frozen=True)
class Face:
    """A font, and the letters that both it and the recogniser know: plain ones, and all others."""

    path: Path
    number: int  # inside a collection
    plain: tuple[str, ...]
    others: tuple[str, ...]


def photographs(data: Path) -> list[Path]:
    """The files of the pools that are trained on. Raises DataError where there are none."""
    found = {pool: pools.files(data, pool)[0] for pool in TRAINED_ON}
    receipts = found["receipts_sroie"]
    if not receipts:
        raise DataError(f"{data} holds no receipts_sroie: the recogniser is taught with its receipts")
    return [path for place, path in enumerate(receipts) if place % LEFT_OUT] + found["plates_ro"][::PLATES_EVERY]


def read(path: Path) -> Page:
    rgb = pools.read(path).rgb
    height, width = (side - side % 2 for side in rgb.shape[:2])
    return Page(f"{path.parent.parent.name}-{path.stem}", np.ascontiguousarray(rgb[:height, :width]))


def words(data: Path) -> list[str]:
    """The words of the receipts that are trained on, each as often as it stands there."""
    found: list[str] = []
    for path in photographs(data):
        truth = path.parent.parent / "gt" / f"{path.stem}.txt"
        if path.parent.parent.name == "receipts_sroie" and truth.exists():
            for line in truth.read_text(encoding="utf-8-sig", errors="replace").splitlines():
                found += line.split(",", 8)[-1].split()
    return found


def faces(folders: Sequence[Path], letters: Sequence[str], say: Callable[[str], None] = print) -> list[Face]:
    """The TrueType files under the folders, with what both they and the recogniser can say; broken ones are none."""
    made = []
    known = {letter for letter in letters if len(letter) == 1 and letter.isprintable() and not letter.isspace()}
    for path in sorted(path for folder in folders for path in folder.rglob("*.tt[fc]")):
        try:
            with path.open("rb") as file, TTFont(file, fontNumber=0, lazy=True) as font:
                there = {chr(code) for code in font.getBestCmap() or ()} & known
            ImageFont.truetype(str(path), SIZES[0])
        except Exception as error:  # of fontTools and FreeType, by what is broken
            say(f"{path} is left out, it cannot be read as a font: {error}")
            continue
        if there >= set(LATIN):
            made.append(Face(path, 0, tuple(LATIN), tuple(sorted(there - set(LATIN)))))
    return made


def written(name: str, rng: np.random.Generator, fonts: Sequence[Face], vocabulary: Sequence[str]) -> Page:
    """A page of lines in several fonts and sizes, on paper of any colour, light on dark now and then."""
    paper, ink = rng.uniform(150, 256), rng.uniform(0, 90)
    tint = rng.uniform(0.85, 1.0, 3)
    if rng.random() < 0.2:
        paper, ink = ink, paper
    image = Image.new("RGB", (WIDTH, HEIGHT), tuple((paper * tint).astype(int)))
    draw, outlines = ImageDraw.Draw(image), []
    many = [face for face in fonts if len(face.others) > MANY]
    top = float(rng.integers(4, 14))
    while True:
        chosen = many if many and rng.random() < MANY_SHARE else fonts
        face = chosen[int(rng.integers(len(chosen)))]
        size = int(np.exp(rng.uniform(*np.log(SIZES))))
        font = ImageFont.truetype(str(face.path), size, index=face.number)
        text, left = _line(rng, face, vocabulary), float(rng.integers(4, 40))
        x0, y0, x1, y1 = font.getbbox(text)
        if top + y1 - y0 > HEIGHT - 6:
            break
        while x1 - x0 + left > WIDTH - 6 and len(text) > 2:
            text = text[: len(text) * 3 // 4].rstrip() or text[:2]
            x0, y0, x1, y1 = font.getbbox(text)
        contrast = rng.uniform(0.45, 1.0)
        colour = tuple(((paper + (ink - paper) * contrast) * tint).astype(int))
        draw.text((left - x0, top - y0), text, font=font, fill=colour)
        right, bottom = left + x1 - x0, top + y1 - y0
        outlines.append(((left, top), (right, top), (right, bottom), (left, bottom)))
        top = bottom + float(rng.integers(4, 14))
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.7)))
    return Page(name, np.asarray(image), tuple(outlines))


def _line(rng: np.random.Generator, face: Face, vocabulary: Sequence[str]) -> str:
    kind, count = rng.random(), int(rng.integers(1, 5))
    if len(face.others) > MANY and kind < 0.75:
        return "".join(rng.choice(face.others, int(rng.integers(2, 14))))
    if kind < 0.15 and len(face.others) > NEIGHBOURS:  # other scripts and signs
        first = int(rng.integers(len(face.others) - NEIGHBOURS))
        near = face.others[first : first + NEIGHBOURS]
        return " ".join("".join(rng.choice(near, int(rng.integers(2, 10)))) for _ in range(count))
    if kind < 0.55 and vocabulary:
        return " ".join(str(vocabulary[int(i)]) for i in rng.integers(0, len(vocabulary), count))
    if kind < 0.75:
        return f"{rng.uniform(0, 10 ** rng.integers(1, 5)):.{rng.integers(0, 4)}f}"
    letters = face.plain + tuple(rng.choice(face.others, min(2, len(face.others))))
    return " ".join("".join(rng.choice(letters, int(rng.integers(2, 10)))) for _ in range(count))
