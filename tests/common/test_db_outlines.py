import cv2
import numpy as np
import pytest

from common.db_outlines import outlines


def drawn(*rectangles: tuple, size: tuple[int, int] = (160, 240), level: float = 0.9) -> np.ndarray:
    made = np.zeros(size, np.float32)
    for rectangle in rectangles:
        cv2.fillPoly(made, [np.round(cv2.boxPoints(rectangle)).astype(np.int32)], level)
    return made


def found(map_: np.ndarray, width: int = 240, height: int = 160, **more: float) -> list:
    return outlines(map_, width, height, **{"score_threshold": 0.5, "unclip_ratio": 1.3, **more})


def test_a_kernel_grows_by_area_over_length_on_every_side() -> None:
    [(box, score)] = found(drawn(((100, 60), (100, 20), 0)))
    grown = 100 * 20 * 1.3 / (2 * (100 + 20))
    assert np.abs(box - [(50 - grown, 50 - grown), (150 + grown, 50 - grown), (150 + grown, 70 + grown), (50 - grown, 70 + grown)]).max() < 1.5  # fmt: skip # noqa: E501
    assert score == pytest.approx(0.9, abs=0.01)


def test_outlines_are_of_the_image_not_of_the_map() -> None:
    once, [(twice, _)] = (
        found(drawn(((100, 60), (100, 20), 0)))[0][0],
        found(drawn(((100, 60), (100, 20), 0)), 480, 480),
    )
    assert np.abs(twice - once * (2, 3)).max() <= 2


def test_faint_small_and_outside() -> None:
    faint, speck, beyond = (
        drawn(((100, 60), (100, 20), 0), level=0.4),
        drawn(((50, 50), (2, 2), 0)),
        ((2, 4), (60, 20), 0),
    )
    assert found(faint) == [] and len(found(faint, score_threshold=0.3)) == 1
    assert found(speck) == [] and found(np.zeros((32, 32), np.float32)) == []
    [(box, _)] = found(drawn(beyond))
    assert box.min() == 0


@pytest.mark.parametrize("angle", [0, 7, 30, 45, 60, 89, -20])
def test_as_rapidocr_finds_them(angle: float) -> None:
    """The plain path, with polygons and their offsets in whole pixels: corners within two of its, in its order."""
    utils = pytest.importorskip("rapidocr.ch_ppocr_det.utils")
    plain = utils.DBPostProcess(thresh=0.3, box_thresh=0.5, unclip_ratio=1.3, use_dilation=False)
    map_ = drawn(((120, 80), (90, 22), angle), ((40, 130), (60, 12), 0), ((200, 30), (14, 50), 0))
    boxes, scores = plain(map_[None, None], (320, 480))
    made = found(map_, 480, 320)
    assert len(made) == len(boxes) == 3
    for (box, score), expected, expected_score in zip(made, boxes, scores, strict=True):
        assert np.abs(np.asarray(box) - expected).max() <= 4  # two of the map's pixels
        assert score == pytest.approx(expected_score, abs=0.01)
