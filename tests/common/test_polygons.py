import pytest

from common.frame import Region
from common.polygons import iou, is_whole_frame, match


def box(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def test_whole_frame() -> None:
    assert is_whole_frame(box(0, 0, 599, 399), 600, 400)
    assert is_whole_frame(box(12, 8, 590, 395), 600, 400)
    assert not is_whole_frame(box(0, 0, 599, 300), 600, 400)  # a banner over three quarters
    assert not is_whole_frame(box(40, 10, 560, 390), 600, 400)  # a page with a margin
    assert not is_whole_frame(box(0, 180, 599, 220), 600, 400)


def test_iou() -> None:
    square = box(0, 0, 2, 2)
    assert iou(square, square) == pytest.approx(1)
    assert iou(square, box(1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert iou(square, box(5, 5, 6, 6)) == 0
    assert iou(square, [(1, 0), (2, 1), (1, 2), (0, 1)]) == pytest.approx(0.5)  # a diamond in it
    assert iou(square, list(reversed(square))) == pytest.approx(1)
    assert iou(square, [(0, 0), (2, 0), (2, 0), (0, 0)]) == 0  # no area
    assert iou(Region(tuple(square), 0.9), square) == pytest.approx(1)


def test_match_uses_each_region_once() -> None:
    truth = [box(0, 0, 10, 10), box(20, 0, 30, 10), box(40, 0, 50, 10)]
    found = [box(21, 0, 31, 10), box(0, 0, 10, 9), box(0, 1, 10, 10), box(46, 0, 56, 10)]
    assert match(found, truth) == [(1, 0), (0, 1)]
    assert match(found, truth, threshold=0.2) == [(1, 0), (0, 1), (3, 2)]
    assert match([], truth) == match(found, []) == []
