"""What the recogniser is taught with: one line bright, dark and lit up, and what the teacher reads of the bright one.

Kept as one file a page, so that pages are darkened and lit up once.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from cloud_node.training.codecs import delivered
from cloud_node.training.darkness import CAMERAS, TRAINING_CAMERAS, darkest, illumination, record, to_linear, to_srgb
from cloud_node.training.images import DataError
from cloud_node.training.recognizer.pages import Outline, Page
from common.text_crops import crops, text_size
from common.text_recognition import Probabilities

RATIO = (4.0, 150.0)  # times less light
DROWNED = 2.5  # paper may be so much darker than the noise of one pixel
FUSED = 8  # frames, of as many the noise is averaged in FUSED_SHARE of the pages
FUSED_SHARE = 0.3
UNEVEN_SHARE, BAYER_SHARE = 0.3, 0.7
AMPLIFIED_SHARE = (
    0.75  # recorded in less light yet, down to DROWNED, and amplified: a large sensor sees too well in the dark
)
WIDEST = 640  # pixels of a crop; longer lines take too long
WIDEST_REMINDER = 400
KEPT = 12  # the likeliest letters of each step
VIEWS = ("bright", "lit", "dark")

Light = Callable[[np.ndarray], np.ndarray]  # (H, W, 3) uint8, dark -> lit up
Find = Callable[[np.ndarray], Sequence[Outline]]
Teach = Callable[[np.ndarray], Probabilities]  # (48, W, 3) uint8 -> (steps, letters)


@dataclass(frozen=True)
class Line:
    """One line of text in its views, each (48, W, 3) uint8, and the teacher's likeliest letters of the bright one."""

    views: dict[str, np.ndarray]
    letters: np.ndarray  # (steps, KEPT) int32
    probabilities: np.ndarray  # (steps, KEPT) float32
    far: float  # of what the teacher reads of the lit one from that: KL divergence, in nats a step
    written: bool = False  # here, rather than on a photograph

    @property
    def width(self) -> int:
        return int(self.views["bright"].shape[1])


def darkened(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A page as a camera records it in 4 to 150 times less light, or as noisy as in less: (H, W, 3) uint8.

    Some have the noise of several frames fused.
    """
    camera = CAMERAS[TRAINING_CAMERAS[rng.integers(len(TRAINING_CAMERAS))]]
    log_gain = rng.uniform(*camera.log_gain)
    limit = max(2.0, darkest(camera, log_gain, DROWNED))
    fused = FUSED if rng.random() < FUSED_SHARE else 1
    dimming = min(float(np.exp(rng.uniform(*np.log(RATIO)))), limit * fused**0.5)
    amplified = max(1.0, limit / dimming) ** rng.random() if rng.random() < AMPLIFIED_SHARE else 1.0
    light = np.full((1, 1, 1), 1 / dimming / amplified, np.float32)
    height, width = rgb.shape[:2]
    if rng.random() < UNEVEN_SHARE:
        light = light * illumination(max(height, width), rng)[:height, :width]
    linear = to_linear(rgb.astype(np.float32) / 255) * light
    recorded = record(linear, camera, rng, rng.random() < BAYER_SHARE, log_gain, fused) * amplified
    return (delivered(to_srgb(recorded), rng) * 255 + 0.5).astype(np.uint8)


def jittered(outline: Outline, rng: np.random.Generator) -> Outline:
    """An outline as another detector might have drawn it: moved, grown, and slanted, by parts of the text's height."""
    high = text_size(outline)[1]
    points = np.asarray(outline, float)
    points += rng.normal(0, 0.04, (1, 2)) * high + rng.normal(0, 0.02, (4, 2)) * high
    grown = np.array([rng.normal(0.03, 0.1), rng.normal(0.03, 0.05)]) * high
    points += np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * grown
    return tuple((float(x), float(y)) for x, y in points)


def lines(
    page: Page,
    rng: np.random.Generator,
    light: Light,
    find: Find,
    teach: Teach,
    most: int,
    bright: Sequence[Outline] = (),
) -> list[Line]:
    """At most `most` lines of a page, in one darkness.

    bright: outlines that were found on the bright page, of one whose text is not known; those on the lit one are added,
    for that is where the student will have to read.
    """
    dark = darkened(page.rgb, rng)
    lit = light(dark)
    pictures = {"bright": page.rgb, "lit": lit, "dark": dark}
    outlines = list(page.outlines) or [*bright, *find(lit)]
    made = []
    for index in rng.permutation(len(outlines)):
        outline = jittered(outlines[index], rng)
        cut = {name: crops(picture, outline) for name, picture in pictures.items()}
        if any(len(found) != 1 for found in cut.values()) or cut["bright"][0].shape[1] > WIDEST:
            continue
        views = {name: found[0] for name, found in cut.items()}
        letters, probabilities = likeliest(teach(views["bright"]))
        far = divergence(teach(views["lit"]), letters, probabilities)
        made.append(Line(views, letters, probabilities, far, bool(page.outlines)))
        if len(made) == most:
            break
    return made


def bright(page: Page, rng: np.random.Generator) -> list[np.ndarray]:
    """The lines of a page whose text is known, as they are: crops (48, W, 3) uint8."""
    cut = [crops(page.rgb, jittered(outline, rng)) for outline in page.outlines]
    return [found[0] for found in cut if len(found) == 1 and found[0].shape[1] <= WIDEST_REMINDER]


def likeliest(seen: Probabilities) -> tuple[np.ndarray, np.ndarray]:
    """The KEPT likeliest letters of each step, and their probabilities."""
    letters = np.argpartition(seen, -KEPT, axis=1)[:, -KEPT:].astype(np.int32)
    return letters, np.take_along_axis(seen, letters, axis=1)


def divergence(seen: Probabilities, letters: np.ndarray, probabilities: np.ndarray) -> float:
    """KL divergence of what was seen from the likeliest letters, the mean over the steps, in nats."""
    found = np.take_along_axis(seen, letters, axis=1)
    logs = np.log(np.maximum(probabilities, 1e-6)) - np.log(np.maximum(found, 1e-6))
    return float((probabilities * logs).sum(axis=1).mean())


def save(path: Path, made: Sequence[Line]) -> None:
    """Write the lines of a page, side by side, whole or not at all."""
    arrays: dict[str, Any] = {name: np.concatenate([line.views[name] for line in made], axis=1) for name in VIEWS}
    fresh = path.with_suffix(".new.npz")
    np.savez(
        fresh,
        widths=np.array([line.width for line in made]),
        steps=np.array([len(line.letters) for line in made]),
        letters=np.concatenate([line.letters for line in made]),
        probabilities=np.concatenate([line.probabilities for line in made]).astype(np.float16),
        far=np.array([line.far for line in made]),
        written=np.array([line.written for line in made]),
        **arrays,
    )
    fresh.replace(path)


def load(path: Path) -> list[Line]:
    """The lines that `save` wrote. Raises DataError: the file is cut or broken."""
    try:
        with path.open("rb") as content, np.load(content) as file:
            arrays = {
                name: file[name] for name in (*VIEWS, "widths", "steps", "letters", "probabilities", "far", "written")
            }
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read as lines of a page: {error}") from None
    ends, steps = np.cumsum(arrays["widths"]), np.cumsum(arrays["steps"])
    made = []
    for place, (end, width, stop, count) in enumerate(zip(ends, arrays["widths"], steps, arrays["steps"], strict=True)):
        views = {name: arrays[name][:, end - width : end] for name in VIEWS}
        letters, likely = (arrays[name][stop - count : stop] for name in ("letters", "probabilities"))
        far, written = float(arrays["far"][place]), bool(arrays["written"][place])
        made.append(Line(views, letters, likely.astype(np.float32), far, written))
    return made
