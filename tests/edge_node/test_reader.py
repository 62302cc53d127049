import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from common.errors import ImageError
from common.text_detection import create_detector
from edge_node.reader import Reader


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
