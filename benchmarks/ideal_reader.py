"""How many words the light itself would let one read: an observer that knows everything but the letters.

    python benchmarks/ideal_reader.py --data DATA [--limit 10]      # receipts_sroie under DATA

For each held-out receipt in the evaluation's dark, one frame: the electrons of its paper, the energy of a letter's
strokes over the noise (E/N), and the words that an ideal observer reads. It has the sensor's numbers, before they are
demosaiced, rounded to 8 bits and compressed, knows typeface, size and place of each letter, and chooses the likeliest
of 40 by matching templates (Geisler, Psychological Review 96, 1989): no reader can do better there. How many letters it
gets at an E/N is simulated with letters of Liberation Mono; a word is right if all of its letters are. Ink is what is
darker than paper by more than 15 %.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from reading_scenes import receipts_parser

from cloud_node.evaluation.cases import DARKNESS, read_image, thinned
from cloud_node.evaluation.darkness import (
    BLACK,
    TUKEY_SHAPE,
    WHITE,
    conditions,
    mosaic,
    sensor_noise,
    tukey_lambda,
)  # fmt: skip
from cloud_node.evaluation.detection import Outline, read_outlines
from cloud_node.training import pools
from cloud_node.training.darkness import to_linear

FONT = "/usr/share/fonts/truetype/liberation/LiberationMono-Regular.ttf"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:-/"
HIGH, DRAWN = 14, 64  # pixels of a capital in the simulation, which hardly matters; of the font that it is drawn from
ENERGIES = 2.0 ** np.arange(0, 10, 0.5)
TRIALS = 4000
INK, PAPER = 0.15, 85  # darker by so much of the paper; percentile of a line's pixels that paper has


def letters_right(font: Path) -> np.ndarray:
    """The share of letters that are told right at each of ENERGIES, (20,)."""
    face, rng = ImageFont.truetype(str(font), DRAWN), np.random.default_rng(0)
    templates = np.array([_template(face, letter).ravel() for letter in LETTERS])
    energy = (templates**2).sum(1)
    shares = []
    for wanted in ENERGIES:
        true = rng.integers(0, len(LETTERS), TRIALS)
        noise = rng.normal(0, np.sqrt(energy.mean() / wanted), (TRIALS, templates.shape[1]))
        distances = energy - 2 * (templates[true] + noise) @ templates.T
        shares.append((distances.argmin(1) == true).mean())
    return np.array(shares)


def _template(face: ImageFont.FreeTypeFont, letter: str) -> np.ndarray:
    image = Image.new("L", (DRAWN, DRAWN * 3 // 2))
    ImageDraw.Draw(image).text((8, 8), letter, font=face, fill=255)
    scale = HIGH / (0.66 * DRAWN)  # a capital's share of the size
    return cv2.resize(np.asarray(image, np.float32) / 255, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def letter_energy(electrons: np.ndarray, outline: Outline, noise: float) -> float:
    """E/N of a letter of a line, the mean over its letters. electrons: (H, W) of the mosaic; noise: variance besides
    that of the photons, in electrons."""
    corners = np.array(outline.polygon)
    (x0, y0), (x1, y1) = np.maximum(np.floor(corners.min(0)), 0).astype(int), np.ceil(corners.max(0)).astype(int)
    energy = 0.0
    for row, column in np.ndindex(2, 2):  # each colour of the mosaic has a paper of its own
        part = electrons[y0 + row : y1 : 2, x0 + column : x1 : 2]
        if part.size:
            paper = np.percentile(part, PAPER)
            ink = np.where(part < (1 - INK) * paper, paper - part, 0)
            energy += float((ink**2).sum() / (paper + noise))
    return energy / len("".join(outline.text.split()))


def words_right(energies: Sequence[float], truth: Sequence[Outline], shares: np.ndarray) -> np.ndarray:
    """How likely each word is read, of lines whose letters have these energies."""
    known = np.interp(np.log(np.maximum(energies, 1e-3)), np.log(ENERGIES), shares)
    return np.array([p ** len(word) for p, line in zip(known, truth, strict=True) for word in line.text.split()])


def main() -> None:
    parser = receipts_parser(__doc__)
    parser.add_argument("--font", type=Path, default=Path(FONT), help="of the letters (default: %(default)s)")
    given: argparse.Namespace = parser.parse_args()
    if not given.font.is_file():
        parser.error(f"--font {given.font}: there is no such file; name a TrueType file of typewriter letters")
    shares = letters_right(given.font)
    spread = float(tukey_lambda((10**6,), TUKEY_SHAPE, np.random.default_rng(0)).std())
    paths = pools.files(given.data, "receipts_sroie")[1]
    for name, ratio in DARKNESS.items():
        every = []
        for seed, path in thinned(list(enumerate(paths)), given.limit):
            rng = np.random.default_rng(seed)
            dimming, gains, log_gain = conditions(rng, ratio)
            gain = np.exp(log_gain)
            read, row = (scale / gain for scale in sensor_noise(rng, log_gain))
            light = to_linear(read_image(path) / np.float32(255)) / np.float32(dimming)
            electrons = mosaic(light / gains) * ((WHITE - BLACK) / gain)
            truth = [one for one in read_outlines(path.parent.parent / "gt" / f"{path.stem}.txt") if one.text.strip()]
            truth = [one for one in truth if one.counts]
            energies = [letter_energy(electrons, one, (read * spread) ** 2 + row**2) for one in truth]
            words = words_right(energies, truth, shares)
            every.append(words.mean())
            print(
                f"{name}, {path.name}: {dimming:.0f} times, paper {np.percentile(electrons, 90):.1f} electrons, "
                f"E/N of a letter {np.median(energies):.0f}, words {words.mean():.3f} of {len(words)}"
            )
        print(f"{name}: {np.mean(every):.3f} of the words, the mean over {len(every)} receipts\n")


if __name__ == "__main__":
    main()
