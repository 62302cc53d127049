"""Lines of text that are made within a second, without detector and enhancer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from cloud_node.training.recognizer.crops import Line, lines
from cloud_node.training.recognizer.pages import Page
from common.onnx_models import wheel_model
from common.text_recognition import PLAIN, CTCRecognizer

TEXTS = ("EXIT 42", "Platform", "12.50 RM", "TOTAL", "CASH", "26/11/2018")


def brightened(dark: np.ndarray) -> np.ndarray:
    return (dark / max(1.0, float(np.percentile(dark, 99))) * 240).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def base() -> Path:
    return wheel_model("rec", "the tests")


@pytest.fixture(scope="session")
def teacher() -> CTCRecognizer:
    made = CTCRecognizer(PLAIN, threads=1)
    made.load()
    return made


@pytest.fixture(scope="session")
def page() -> Page:
    image = Image.new("RGB", (200, 192), "white")
    font, outlines = ImageFont.load_default(22), []
    for row, text in enumerate(TEXTS):
        left, top, right, bottom = ImageDraw.Draw(image).textbbox((8, 32 * row + 4), text, font=font)
        ImageDraw.Draw(image).text((8, 32 * row + 4), text, font=font, fill=(30, 30, 40))
        outlines.append(((left, top), (right, top), (right, bottom), (left, bottom)))
    return Page("page", np.asarray(image), tuple(outlines))


@pytest.fixture(scope="session")
def made(page: Page, teacher: CTCRecognizer) -> list[Line]:
    rng = np.random.default_rng(3)
    return lines(page, rng, brightened, lambda rgb: [], teacher.probabilities, most=9)


@pytest.fixture(scope="session")
def receipts() -> Callable[[Path, Page, int], Path]:
    """receipts(folder, page, count): a data folder whose receipts_sroie is so many copies of a page, with truth."""

    def write(folder: Path, page: Page, count: int) -> Path:
        for kind in ("images", "gt"):
            (folder / "receipts_sroie" / kind).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(page.rgb).save(folder / "receipts_sroie" / "images" / f"{number:03d}.png")
            rows = zip(page.outlines, TEXTS, strict=True)
            truth = "\n".join(",".join(str(int(v)) for point in o for v in point) + f",{text}" for o, text in rows)
            (folder / "receipts_sroie" / "gt" / f"{number:03d}.txt").write_text(truth)
        return folder

    return write
