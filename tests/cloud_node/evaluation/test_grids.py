from pathlib import Path

import numpy as np
from PIL import Image

from cloud_node.evaluation.cases import Picture
from cloud_node.evaluation.detection import Outline
from cloud_node.evaluation.grids import ACROSS, TILE, Grids, detail, lines, whole


def test_tiles_show_the_whole_and_a_detail_at_the_text() -> None:
    photo = np.zeros((900, 1300, 3), np.uint8)
    photo[700:720, 1100:1140] = 255
    text = Outline(((1100, 700), (1140, 700), (1140, 720), (1100, 720)))
    assert whole(photo).size == (TILE, round(900 * TILE / 1300))
    near = np.asarray(detail(photo, Picture(photo, truth=(text,))))
    assert near.shape == (TILE, TILE, 3) and (near == 255).all(axis=2).sum() == 20 * 40
    assert np.asarray(detail(photo, Picture(photo))).max() == 0


def test_small_pictures_fit() -> None:
    small = np.full((16, 20, 3), 9, np.uint8)
    assert detail(small, Picture(small)).size == (20, 16)
    assert whole(small).width == TILE


def test_lines_wrap() -> None:
    tile = Image.new("RGB", (TILE, 100))
    one, two = (lines({str(i): tile for i in range(n)}) for n in (ACROSS, ACROSS + 1))
    assert one.width == two.width and two.height == 2 * one.height


def test_grids_are_written_for_the_first_pictures(tmp_path: Path) -> None:
    grids = Grids(1)
    picture = Picture(np.full((40, 60, 3), 10, np.uint8))
    for place in range(3):
        for row in ("raw", "ours"):
            grids.keep("receipts 8-20x", place, row, picture, picture.low)
    written = grids.write(tmp_path)
    assert [path.name for path in written] == ["receipts-8-20x-whole.png", "receipts-8-20x-detail.png"]
    with Image.open(written[0]) as sheet:
        assert sheet.width == 2 * (TILE + 4) and sheet.height < 2 * TILE
