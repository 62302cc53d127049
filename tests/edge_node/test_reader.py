from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from common.errors import ImageError, SettingsError
from common.onnx_models import wheel_model
from common.text_detection import create_detector
from common.text_recognition import CTCRecognizer
from edge_node.reader import Reader, create_reader
from edge_node.settings import Reading


def test_reads_what_is_written() -> None:
    image = Image.new("RGB", (400, 120), (12, 12, 16))
    ImageDraw.Draw(image).text((40, 30), "NIGHT BUS", fill=(230, 230, 220), font=ImageFont.load_default(44))
    (region,) = Reader(create_detector("dbnet", limit_side=128, threads=1)).read(np.asarray(image))
    assert region.score > 0.5
    xs = [x for x, _ in region.polygon]
    assert 20 < min(xs) < 60 and 200 < max(xs) < 320


def test_loading_ahead_changes_nothing_but_the_time() -> None:
    reader = Reader(create_detector("dbnet", limit_side=64, threads=1))
    reader.load()
    assert reader.read(np.zeros((64, 64, 3), np.uint8)) == ()


def test_without_a_detector_nothing_is_found() -> None:
    Reader(None).load()
    assert Reader(None).read(np.full((40, 40, 3), 200, np.uint8)) == ()


def test_what_is_no_image_is_an_error() -> None:
    with pytest.raises(ImageError):
        Reader(create_detector("dbnet", limit_side=64)).read(np.zeros((4, 4), np.uint8))


def page(lines: dict[str, int]) -> np.ndarray:
    """Words below each other in their sizes, light on dark."""
    image, top = Image.new("RGB", (640, sum(lines.values()) * 2 + 40), (12, 12, 16)), 20
    for text, size in lines.items():
        ImageDraw.Draw(image).text((30, top), text, fill=(230, 230, 220), font=ImageFont.load_default(size))
        top += 2 * size
    return np.asarray(image)


def test_says_what_it_reads_by_settings() -> None:
    reader = create_reader(Reading(detector_threads=1, detector_side=256))
    reader.load()
    read = reader.read(page({"EXIT 12": 40, "Platform 7": 30}))
    assert [region.text for region in read] == ["EXIT 12", "Platform 7"]
    assert all(0.5 < region.confidence <= 1 for region in read)


def test_of_many_regions_the_largest_are_read_and_the_others_stay(caplog: pytest.LogCaptureFixture) -> None:
    detector = create_detector("dbnet", limit_side=256, threads=1)
    reader = Reader(detector, CTCRecognizer(threads=1), most=2)
    rgb = page({"small print": 16, "LARGE": 44, "tiny words": 16, "BIG SIGN": 40})
    for _ in range(2):
        read = reader.read(rgb)
    assert [region.text for region in read] == ["", "LARGE", "", "BIG SIGN"]
    assert [region.polygon for region in read] == [region.polygon for region in detector.detect(rgb)]
    assert reader.left_out == 4
    assert [record.getMessage() for record in caplog.records] == [
        "a frame has 4 text regions: only the 2 with the largest text are read, in this frame and in others like it "
        "(--recognize-most)"
    ]


def test_recognition_off() -> None:
    reader = create_reader(Reading(detector_threads=1, detector_side=256, recognize=False))
    [region] = reader.read(page({"EXIT 12": 40}))
    assert (region.text, region.confidence) == ("", 0.0)
    assert create_reader(Reading(detector="none")).read(page({"EXIT 12": 40})) == ()


def test_detectors_by_name_and_model_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--detector-model FILE"):
        create_reader(Reading(detector="east"))
    with pytest.raises(SettingsError, match="no model file"):
        create_reader(Reading(detector_model=tmp_path / "none.onnx"))
    with pytest.raises(SettingsError, match="choose one of: dbnet, east"):
        create_reader(Reading(detector="yolo"))
    own = create_reader(Reading(detector_model=wheel_model("det", "this test"), detector_side=256, recognize=False))
    assert len(own.read(page({"EXIT 12": 40}))) == 1
