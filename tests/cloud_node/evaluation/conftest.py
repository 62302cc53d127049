"""A small data folder of made-up pictures, laid out like the real pools."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from cloud_node.training.pools import SICE_EVALUATION_FROM


def page(text: str, size: tuple[int, int] = (320, 240)) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """White paper with one line of text, and the line's box."""
    image = Image.new("RGB", size, (235, 235, 230))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(34)
    draw.text((40, 90), text, (20, 20, 25), font)
    left, top, right, bottom = draw.textbbox((40, 90), text, font)
    return image, (int(left), int(top), int(right), int(bottom))


def write_photo(folder: Path, name: str, text: str) -> None:
    image, (left, top, right, bottom) = page(text)
    for part in ("images", "gt"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    image.save(folder / "images" / f"{name}.jpg", quality=95)
    corners = (left, top, right, top, right, bottom, left, bottom)
    (folder / "gt" / f"{name}.txt").write_text(",".join(map(str, corners)) + f",{text}\n")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for i in range(33):
        write_photo(folder / "receipts_sroie", f"{i:03}", f"TOTAL {i}.50")
    plates = folder / "plates_ro"
    names = ("dayride_type1_001_1200", "dayride_type1_001_1300", "dayride_type1_002_40")
    for name in names:
        write_photo(plates, name, "B 77 ABC")
    with (plates / "luminance.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "dark"), *((f"{name}.jpg", int("1200" in name)) for name in names)])
    scene = folder / "scene_text" / "icdar2015_10"
    (scene / "imgs" / "test").mkdir(parents=True)
    image, (left, top, right, bottom) = page("EXIT")
    for i in (1, 2, 3):
        image.save(scene / "imgs" / "test" / f"img_{i}.jpg")
    outline = {"polygon": [left, top, right, top, right, bottom, left, bottom], "ignore": False}
    smudge = {"polygon": [0, 0, 9, 0, 9, 9, 0, 9], "ignore": True}
    entries = [{"img_path": f"imgs/test/img_{i}.jpg", "instances": [outline, smudge]} for i in (1, 2, 3)]
    (scene / "textdet_test.json").write_text(json.dumps({"data_list": entries}))
    write_pairs(folder / "sice512")
    (folder / "dicm").mkdir()
    page("night")[0].point(lambda level: level // 6).save(folder / "dicm" / "01.jpg")
    return folder


def write_pairs(folder: Path) -> None:
    """Three pairs, two of them of evaluation scenes."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for scene in (10, SICE_EVALUATION_FROM + 1, SICE_EVALUATION_FROM + 20):
        normal = np.kron(rng.integers(30, 250, (12, 12, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        Image.fromarray(normal).save(folder / "images" / f"{scene + 1}.jpg")
        Image.fromarray(normal // 5).save(folder / "images" / f"{scene}.jpg")
        rows.append((f"{scene}.jpg", f"{scene + 1}.jpg", scene))
    with (folder / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("low", "normal", "scene"), *rows])
