"""The weights that were taught to read noise: they read noisy Latin lines, and nothing else otherwise than before."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from common.frame import Region
from common.text_crops import crops
from common.text_noise import NOISY, coloured_noise
from common.text_recognition import DARK, PLAIN, CTCRecognizer, Looks
from common.text_scripts import mostly_latin

LATIN = ("EXIT 42", "Platform 9", "12.50 RM", "henj/ zo", "0B6 KiHqFI", "26/11/2018", "a2X %:z /2&nB", "GREEN FARM")
OTHERS = (
    "γδψω λξφθ",
    "αβγδ κλμν",
    "☆ № 7 → ±",
    "出口東京駅",
    "赈鬢蚤檐蒔赌",
    "恭颉秬喜寘紮",
    "批廖葯",
    "若脉错藏鋳涅爽",
)
CHINESE = [path for path in map(Path, font_manager.findSystemFonts()) if "wqy" in path.name or "CJK" in path.name]
NOISE = 14.0  # levels


def page(texts: Sequence[str], noise: float = 0.0) -> tuple[np.ndarray, list[Region]]:
    """Texts, one below the other, with the coloured noise of a sensor."""
    image, regions = Image.new("RGB", (360, 44 * len(texts)), (245, 240, 230)), []
    for row, text in enumerate(texts):
        path = str(CHINESE[0]) if any(ord(char) > 0x3000 for char in text) else font_manager.findfont("DejaVu Sans")
        font, where = ImageFont.truetype(path, 22), (10, 44 * row + 8)
        ImageDraw.Draw(image).text(where, text, font=font, fill=(30, 30, 40))
        left, top, right, bottom = ImageDraw.Draw(image).textbbox(where, text, font=font)
        regions.append(Region(((left, top), (right, top), (right, bottom), (left, bottom)), 0.9))
    rgb = np.asarray(image) + np.random.default_rng(0).normal(0, noise, np.asarray(image).shape)
    return rgb.clip(0, 255).astype(np.uint8), regions


def drawable() -> list[str]:
    return [text for text in OTHERS if CHINESE or all(ord(char) < 0x3000 for char in text)]


@pytest.fixture(scope="module")
def plain() -> CTCRecognizer:
    made = CTCRecognizer(PLAIN, threads=1)
    made.load()
    return made


@pytest.fixture(scope="module")
def taught() -> CTCRecognizer:
    made = CTCRecognizer(DARK, threads=1)
    made.load()
    return made


def test_it_has_forgotten_nothing_that_is_bright(plain: CTCRecognizer, taught: CTCRecognizer) -> None:
    rgb, regions = page([*LATIN, *drawable()])
    assert taught.recognize(rgb, regions) == plain.recognize(rgb, regions)


def test_nor_noisy_lines_in_other_letters(plain: CTCRecognizer, taught: CTCRecognizer) -> None:
    texts = [text for text in drawable() if not mostly_latin(text)]
    rgb, regions = page(texts, 4)
    assert all(coloured_noise(crops(rgb, region.polygon)[0]) > NOISY for region in regions)
    same = [
        a.text == b.text for a, b in zip(taught.recognize(rgb, regions), plain.recognize(rgb, regions), strict=True)
    ]
    assert all(same)


def test_noisy_lines_are_read_as_it_was_taught(plain: CTCRecognizer, taught: CTCRecognizer) -> None:
    rgb, regions = page(LATIN, NOISE)
    spelled = [taught.spell(rgb, region.polygon) for region in regions]
    assert all(one.taught for one in spelled)
    assert all(one.letters != plain.spell(rgb, r.polygon).letters for one, r in zip(spelled, regions, strict=True))
    assert [one.text for one in spelled][:3] == list(LATIN[:3])
    known = taught.recognize(rgb, regions[:1])[0]
    assert known.text == "EXIT 42" and known.confidence > 0.5
    assert known.confidence != plain.recognize(rgb, regions[:1])[0].confidence


def test_the_second_network_is_loaded_once_it_is_needed() -> None:
    recognizer = CTCRecognizer(DARK, threads=1)
    noisy, regions = page(LATIN[:1], NOISE)
    recognizer.recognize(noisy, regions)
    assert recognizer._plain is None
    recognizer.recognize(page(LATIN[:1])[0], regions)
    assert recognizer._plain is not None


def test_what_is_read_again_is_read_by_the_same_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smoothed and in grey a noisy line looks like a clean one."""
    recognizer, asked = CTCRecognizer(DARK, threads=1), list[bool]()
    recognizer.load()
    original = recognizer.probabilities
    monkeypatch.setattr(recognizer, "probabilities", lambda crop, known: asked.append(known) or original(crop, known))
    rgb, regions = page(["PLATE B 104 XYZ"], 160)
    Looks(recognizer, rgb, lambda: rgb // 20, again=1).read([regions[0].polygon])
    assert asked == [True] * 3


@pytest.mark.parametrize(
    ("text", "latin"),
    [("", True), ("12.50 / 7", True), ("Größe Ł", True), ("ΑΒΓ", False), ("出口 EXIT", True), ("出口東京 EX", False)],
)
def test_which_text_is_latin(text: str, latin: bool) -> None:
    assert mostly_latin(text) is latin


def test_noise_is_told_by_its_colours() -> None:
    clean, noisy = (crops(rgb, regions[0].polygon)[0] for rgb, regions in (page(LATIN[:1]), page(LATIN[:1], 3)))
    assert coloured_noise(clean) < NOISY < coloured_noise(noisy)
    grey = np.repeat(noisy.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    assert coloured_noise(grey) == 0
