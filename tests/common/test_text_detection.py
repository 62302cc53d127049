import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from common.errors import ImageError, SettingsError
from common.polygons import match
from common.text_detection import DBNet, create_detector

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

WORDS = {"PLATFORM 7": (40, 40), "EXIT": (380, 150), "Open 24 hours": (90, 260)}


@pytest.fixture(scope="module")
def dbnet() -> DBNet:
    return DBNet(limit_side=320, threads=1)


def sign(width: int = 600, height: int = 360) -> tuple[np.ndarray, list[list[tuple[float, float]]]]:
    """White words on dark blue, and the boxes they were drawn in."""
    image = Image.new("RGB", (width, height), (20, 30, 60))
    draw, font, boxes = ImageDraw.Draw(image), ImageFont.load_default(36), []
    for word, at in WORDS.items():
        draw.text(at, word, fill=(250, 250, 245), font=font)
        left, top, right, bottom = draw.textbbox(at, word, font=font)
        boxes.append([(left, top), (right, top), (right, bottom), (left, bottom)])
    return np.asarray(image), boxes


def area2(polygon) -> float:
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(polygon, [*polygon[1:], polygon[0]], strict=True))


def test_finds_the_words_where_they_are(dbnet: DBNet) -> None:
    rgb, boxes = sign()
    regions = dbnet.detect(rgb)
    assert sorted(j for _, j in match(regions, boxes)) == [0, 1, 2]
    assert len(regions) == 3
    assert [region.polygon[0][1] for region in regions] == sorted(r.polygon[0][1] for r in regions)
    for region in regions:
        assert 0.5 <= region.score <= 1
        assert len(region.polygon) == 4
        assert area2(region.polygon) > 0  # clockwise, as y grows downwards


def test_each_score_belongs_to_its_box(dbnet: DBNet) -> None:
    rgb, boxes = sign()
    scores = {}
    for box in boxes:
        (left, top), _, (right, bottom), _ = box
        alone = np.full_like(rgb, (20, 30, 60))
        alone[int(top) - 4 : int(bottom) + 4, int(left) - 4 : int(right) + 4] = rgb[
            int(top) - 4 : int(bottom) + 4, int(left) - 4 : int(right) + 4
        ]
        scores[tuple(box)] = dbnet.detect(alone)[0].score
    together = dbnet.detect(rgb)
    for i, j in match(together, boxes):
        assert together[i].score == pytest.approx(scores[tuple(boxes[j])], abs=0.03)


def test_outlines_stay_inside_the_image(dbnet: DBNet) -> None:
    image = Image.new("RGB", (300, 120), (10, 10, 10))
    ImageDraw.Draw(image).text(
        (-30, 70), "CUT OFF HERE AND THERE", fill=(255, 255, 255), font=ImageFont.load_default(56)
    )
    regions = dbnet.detect(np.asarray(image))
    assert regions
    for x, y in (point for region in regions for point in region.polygon):
        assert 0 <= x <= 300 and 0 <= y <= 120


@pytest.mark.parametrize("level", [0, 8, 20])
def test_nothing_is_found_in_the_noise_of_the_dark(dbnet: DBNet, level: int) -> None:
    noise = np.random.default_rng(level).normal(level, 8, (400, 600, 3))
    assert dbnet.detect(np.clip(noise, 0, 255).astype(np.uint8)) == ()


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (3, 900), (1200, 2)])
def test_tiny_and_thin_images(dbnet: DBNet, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for region in dbnet.detect(image):
        assert all(0 <= x <= size[1] and 0 <= y <= size[0] for x, y in region.polygon)


def test_eight_k() -> None:
    rgb, boxes = sign()
    big = np.asarray(Image.fromarray(rgb).resize((7680, 4608)))
    regions = DBNet(limit_side=320, max_side=640).detect(big)
    scaled = [[(x * 12.8, y * 12.8) for x, y in box] for box in boxes]
    assert len(match(regions, scaled)) == 3


def test_from_many_threads_while_loading() -> None:
    detector, rgb = DBNet(limit_side=160, max_side=320), sign()[0]
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(len(detector.detect(rgb)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(set(found)) == 1


def test_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    create_detector("dbnet", limit_side=64, threads=1).detect(np.zeros((64, 64, 3), np.uint8))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), float), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_image(dbnet: DBNet, image: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"\(H, W, 3\)"):
        dbnet.detect(image)


def test_an_unknown_detector_lists_the_known() -> None:
    with pytest.raises(SettingsError, match="'yolo'; choose one of: dbnet"):
        create_detector("yolo")


@pytest.mark.parametrize(
    "settings", [{"limit_side": 8}, {"score_threshold": 1.5}, {"unclip_ratio": 0}, {"threads": -1}]
)
def test_settings_out_of_range(settings: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(settings))):
        create_detector("dbnet", **settings)


def test_real_receipts() -> None:
    folder = SHARED_DATA / "receipts_sroie"
    if not folder.is_dir():
        pytest.skip("the shared photographs are not here")
    detector, matched, boxes = DBNet(), 0, 0
    for path in sorted((folder / "images").glob("*.jpg"))[:2]:
        lines = (folder / "gt" / f"{path.stem}.txt").read_text().splitlines()
        numbers = [[float(n) for n in line.split(",")[:8]] for line in lines]
        truth = [list(zip(row[::2], row[1::2], strict=True)) for row in numbers]
        found = detector.detect(np.asarray(Image.open(path).convert("RGB")))
        matched += len(match(found, truth))
        boxes += len(found) + len(truth)
    assert 2 * matched / boxes > 0.8  # 0.87 with rapidocr 3.10
