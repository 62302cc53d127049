from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from common.errors import ImageError, SettingsError, WeightsError
from common.frame import Region
from common.onnx_models import wheel_model
from common.text_crops import HEIGHT, MOST_WIDTH, crops
from common.text_recognition import MOST_LETTERS, CTCRecognizer, cleaned, decode


@pytest.fixture(scope="module")
def recognizer() -> CTCRecognizer:
    made = CTCRecognizer(threads=1)
    made.load()
    return made


def drawn(
    text: str, size: int = 40, *, turned: int = 0, mirrored: bool = False, font: str = ""
) -> tuple[np.ndarray, Region]:
    """White on dark blue, turned anticlockwise by degrees about its middle; and where it stands."""
    used = ImageFont.truetype(font, size) if font else ImageFont.load_default(size)
    left, top, right, bottom = used.getbbox(text)
    wide, high = int(right - left) + 8, int(bottom - top) + 8
    label = Image.new("RGB", (wide, high), (20, 30, 60))
    ImageDraw.Draw(label).text((4 - left, 4 - top), text, fill=(240, 240, 235), font=used)
    if mirrored:
        label = label.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    side = max(wide, high) + 40
    image = Image.new("RGB", (side, side), (20, 30, 60))
    image.paste(label, ((side - wide) // 2, (side - high) // 2))
    angle = np.radians(turned)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = np.array([[-wide, -high], [wide, -high], [wide, high], [-wide, high]]) / 2
    middle = side / 2
    image = image.rotate(turned, Image.Resampling.BICUBIC, fillcolor=(20, 30, 60))
    if turned in (90, -90):  # as a detector orders them: from the top left
        corners, turn = np.roll(corners, 1 if turned == -90 else -1, axis=0), turn
    polygon = tuple((float(x), float(y)) for x, y in corners @ turn.T + middle)
    return np.asarray(image), Region(polygon, 0.9)


@pytest.mark.parametrize("text", ["EXIT 12", "Platform 7", "B-742 KX"])
@pytest.mark.parametrize("turned", [0, 17, -30])
def test_reads_what_is_written(recognizer: CTCRecognizer, text: str, turned: int) -> None:
    rgb, region = drawn(text, turned=turned)
    [read] = recognizer.recognize(rgb, [region])
    assert read.text == text
    assert read.confidence > 0.5
    assert (read.polygon, read.score) == (region.polygon, region.score)


@pytest.mark.parametrize("turned", [90, -90])
def test_text_that_runs_up_or_down(recognizer: CTCRecognizer, turned: int) -> None:
    rgb, region = drawn("STATION", turned=turned)
    assert recognizer.recognize(rgb, [region])[0].text == "STATION"


def test_what_cannot_be_read_is_not_trusted(recognizer: CTCRecognizer) -> None:
    speckle = np.random.default_rng(0).integers(0, 40, (60, 200, 3), dtype=np.uint8)
    frame = Region(((0, 0), (200, 0), (200, 60), (0, 60)), 0.6)
    noise = recognizer.recognize(speckle, [frame])[0]
    mirrored = recognizer.recognize(*_one(drawn("GREEN FARM 52", mirrored=True)))[0]
    right = recognizer.recognize(*_one(drawn("GREEN FARM 52")))[0]
    small, there = drawn("a small line of words", 40)
    tiny = np.asarray(Image.fromarray(small).resize((small.shape[1] // 9, small.shape[0] // 9), Image.Resampling.BOX))
    shrunk = Region(tuple((x / 9, y / 9) for x, y in there.polygon), 0.9)
    unreadable = recognizer.recognize(tiny, [shrunk])[0]
    assert noise.confidence < 0.2 and mirrored.confidence < 0.2
    assert unreadable.confidence < 0.5 or unreadable.text == "a small line of words"
    assert right.text == "GREEN FARM 52" and right.confidence > 0.5


@pytest.mark.parametrize(
    "text", ["\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd", "\u0532\u0561\u0580\u0565\u0582 \u0571\u0565\u0566"]
)
def test_scripts_that_the_model_does_not_know_are_not_trusted(recognizer: CTCRecognizer, text: str) -> None:
    font_manager = pytest.importorskip("matplotlib.font_manager")  # its DejaVu Sans has Hebrew and Armenian
    read = recognizer.recognize(*_one(drawn(text, font=font_manager.findfont("DejaVu Sans"))))[0]
    known = recognizer.recognize(*_one(drawn("SHALOM 12", font=font_manager.findfont("DejaVu Sans"))))[0]
    assert read.confidence < 0.3 and known.text == "SHALOM 12" and known.confidence > 0.5


def _one(drawing: tuple[np.ndarray, Region]) -> tuple[np.ndarray, list[Region]]:
    return drawing[0], [drawing[1]]


def test_regions_keep_their_order_and_odd_ones_have_no_text(recognizer: CTCRecognizer) -> None:
    rgb, region = drawn("ORDER")
    speck = Region(((1, 1), (3, 1), (3, 2), (1, 2)), 0.5)
    flat = Region(((5, 5), (5, 5), (5, 5), (5, 5)), 0.5)
    outside = Region(((-900, -90), (-800, -90), (-800, -60), (-900, -60)), 0.5)
    read = recognizer.recognize(rgb, [speck, region, flat, outside])
    assert [one.text for one in read][:3] == ["", "ORDER", ""]
    assert read[0].confidence == read[2].confidence == 0
    assert read[3].confidence < 0.3


def test_crops_are_of_one_height_and_never_too_wide() -> None:
    rgb = np.zeros((100, 4000, 3), np.uint8)
    [long] = crops(rgb, ((0, 0), (4000, 0), (4000, 20), (0, 20)))
    assert long.shape == (HEIGHT, MOST_WIDTH, 3)
    [high] = crops(np.zeros((2000, 2600, 3), np.uint8), ((0, 0), (2600, 0), (2600, 2000), (0, 2000)))
    assert high.shape[0] == HEIGHT
    assert len(crops(rgb, ((0, 0), (20, 0), (20, 90), (0, 90)))) == 2


def test_a_crop_is_upright_whatever_the_outline() -> None:
    """The left half is red and the right half blue, in a slanted frame and in an outline of eight points."""
    image = Image.new("RGB", (300, 300))
    draw = ImageDraw.Draw(image)
    a, b, c, d = np.array([[60.0, 120], [240, 60], [250, 110], [70, 170]])
    draw.polygon([tuple(p) for p in (a, (a + b) / 2, (c + d) / 2, d)], fill=(255, 0, 0))
    draw.polygon([tuple(p) for p in ((a + b) / 2, b, c, (c + d) / 2)], fill=(0, 0, 255))
    rgb = np.asarray(image)
    eight = [tuple(p) for p in (a, (a + b) / 2, b, (b + c) / 2, c, (c + d) / 2, d, (d + a) / 2)]
    for polygon in ([tuple(p) for p in (a, b, c, d)], eight):
        [crop] = crops(rgb, polygon)
        width = crop.shape[1]
        assert crop[24, width // 4, 0] > 200 and crop[24, 3 * width // 4, 2] > 200


def test_best_path_decoding() -> None:
    letters = ["", "a", "b", " "]
    path = [0, 1, 1, 0, 1, 2, 3, 3, 2, 0]
    probabilities = np.full((len(path), 4), 0.1, np.float32)
    for t, index in enumerate(path):
        probabilities[t, index] = 0.7
    spelled = decode(probabilities, letters)
    assert spelled.text == "aab b"
    assert spelled.letters == pytest.approx([0.7] * 4)
    assert decode(probabilities[:1], letters).text == ""


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("\uff34\uff2f\uff34\uff21\uff2c\u3000\uff11\uff12", "TOTAL 12"),
        ("a\u202eb\u200d\x00\x1b[31mc\x7f", "ab[31mc"),
        ("  two\n\twords\u2028here ", "two words here"),
        ("e\u0301", "\u00e9"),
        ("\ud800x\ue000", "x"),
        ("x" * 1000, "x" * MOST_LETTERS),
    ],
)
def test_text_of_strangers_is_cleaned(text: str, clean: str) -> None:
    assert cleaned(text) == clean


def test_what_is_no_image_or_no_model(recognizer: CTCRecognizer, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"\(H, W, 3\)"):
        recognizer.recognize(np.zeros((4, 4), np.uint8), [])
    with pytest.raises(SettingsError, match="no recognition model"):
        CTCRecognizer(tmp_path / "none.onnx")
    with pytest.raises(SettingsError, match="no recognition model nnn"):
        CTCRecognizer("n" * 300)
    with pytest.raises(SettingsError, match="threads -1"):
        CTCRecognizer(threads=-1)
    with pytest.raises(WeightsError, match="is no recogniser"):
        CTCRecognizer(wheel_model("det", "this test"), threads=1).load()


def test_a_likely_space_between_letters_is_one() -> None:
    letters = ["", "a", "b", " "]
    steps = [1, 0, 2, 0, 1]
    probabilities = np.full((len(steps), 4), 0.02, np.float32)
    for t, index in enumerate(steps):
        probabilities[t, index] = 0.9
    probabilities[1, 3] = 0.3
    spelled = decode(probabilities, letters)
    assert spelled.text == "a ba" and len(spelled.letters) == 3
    probabilities[4, 3] = 0.3  # after the last letter
    assert decode(probabilities, letters).text == "a ba"


def in_the_dark() -> tuple[np.ndarray, np.ndarray, Region]:
    """A line that noise has nearly drowned, the same without noise in little light, and where it stands."""
    page = Image.new("L", (220, 60), 235)
    ImageDraw.Draw(page).text((20, 16), "PLATE B 104 XYZ", fill=30, font=ImageFont.load_default(20))
    clean = np.repeat(np.asarray(page)[:, :, None], 3, 2)
    noise = np.random.default_rng(0).normal(0, 120, clean.shape)
    where = ((16.0, 14.0), (196.0, 14.0), (196.0, 42.0), (16.0, 42.0))
    return (clean + noise).clip(0, 255).astype(np.uint8), clean // 20, Region(where, 0.9)


def test_what_is_in_doubt_is_read_again_with_the_dark_frame_beside_it() -> None:
    lit, dark, region = in_the_dark()
    [once] = CTCRecognizer(threads=1).recognize(lit, [region], lambda: dark)
    [again] = CTCRecognizer(threads=1, again=1).recognize(lit, [region], lambda: dark)
    assert "PLATE B 104" not in once.text
    assert again.text.startswith("PLATE B 104 XY") and again.confidence > once.confidence


def test_so_many_lines_are_read_again_and_no_more() -> None:
    lit, dark, region = in_the_dark()
    asked: list[int] = []

    def original() -> np.ndarray:
        asked.append(1)
        return dark

    read = CTCRecognizer(threads=1, again=2).recognize(lit, [region] * 3, original)
    assert read[0] == read[1] != read[2]
    assert len(asked) == 1


def test_without_a_dark_frame_of_that_size_a_text_stays() -> None:
    lit, dark, region = in_the_dark()
    recognizer = CTCRecognizer(threads=1, again=2)
    plain = recognizer.recognize(lit, [region, region])
    for other in (None, dark[:-2]):
        assert recognizer.recognize(lit, [region, region], lambda other=other: other) == plain  # type: ignore[misc]


def test_what_is_sure_is_read_once() -> None:
    rgb, region = drawn("EXIT 12")
    asked: list[int] = []
    CTCRecognizer(threads=1, again=9).recognize(rgb, [region], lambda: asked.append(1))
    assert not asked


def test_the_lines_that_promise_most_are_read_again_not_the_first() -> None:
    """Boxes on nothing are no line to read again, and the lines nearest to being sure come first."""
    lit, dark, region = in_the_dark()
    empty = replace(region, polygon=((2.0, 1.0), (40.0, 1.0), (40.0, 9.0), (2.0, 9.0)))
    flat = lit.copy()
    flat[:12] = 120
    plain = CTCRecognizer(threads=1).recognize(flat, [empty, region])
    assert plain[0].text == "" and plain[1].text
    read = CTCRecognizer(threads=1, again=1).recognize(flat, [empty, region], lambda: dark)
    assert read[0] == plain[0] and read[1].text != plain[1].text


def test_a_dark_frame_that_cannot_be_made_loses_no_text(caplog: pytest.LogCaptureFixture) -> None:
    lit, _, region = in_the_dark()
    plain = CTCRecognizer(threads=1).recognize(lit, [region, region])

    def original() -> np.ndarray:
        raise MemoryError("no room")

    assert CTCRecognizer(threads=1, again=2).recognize(lit, [region, region], original) == plain
    assert len(caplog.records) == 1 and "read again" in caplog.text


class Scripted(CTCRecognizer):
    """Spells what it is given, look by look."""

    def __init__(self, *looks: np.ndarray) -> None:
        super().__init__(threads=1, again=1)
        self.looks = list(looks)

    def load(self) -> None:
        self._letters = ["", "A", "B", " "]

    def probabilities(self, crop: np.ndarray, taught: bool = False) -> np.ndarray:
        return self.looks.pop(0)


def steps(*probable: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(probable, np.float32)


UNSURE = steps((0.2, 0.8, 0, 0), (1, 0, 0, 0), (0.2, 0, 0.8, 0))
NOTHING = steps(*[(1, 0, 0, 0)] * 3)
LESS = steps((0.45, 0.3, 0.25, 0), (1, 0, 0, 0), (0.9, 0, 0.1, 0))
SURE = steps((0, 1, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0))


@pytest.mark.parametrize(
    ("again", "text"),
    [((NOTHING, NOTHING), "AB"), ((SURE, SURE), "AA"), ((LESS, LESS), "AB"), ((UNSURE, UNSURE), "AB")],
)
def test_the_second_look_counts_unless_it_sees_nothing_or_is_much_less_sure(again: tuple, text: str) -> None:
    rgb, region = drawn("AB")
    [read] = Scripted(UNSURE, *again).recognize(rgb, [region], lambda: rgb)
    assert read.text == text
