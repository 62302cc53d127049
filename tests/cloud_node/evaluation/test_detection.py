from pathlib import Path

import pytest

from cloud_node.evaluation.detection import Outline, count, covered, read_outlines
from common.errors import SourceError
from common.frame import Region


def box(x: float, y: float, width: float = 10, height: float = 10) -> tuple[tuple[float, float], ...]:
    return ((x, y), (x + width, y), (x + width, y + height), (x, y + height))


def region(*place: float) -> Region:
    return Region(box(*place), 0.9)


def test_matches_are_counted_and_named() -> None:
    truth = [Outline(box(0, 0)), Outline(box(100, 0)), Outline(box(200, 0))]
    counts = count([region(201, 0), region(1, 0), region(50, 50)], truth)
    assert (counts.found, counts.right, counts.truth, counts.hits) == (3, 2, 3, (0, 2))


def test_an_iou_of_exactly_a_half_is_no_match() -> None:
    assert count([region(0, 0, 10, 5)], [Outline(box(0, 0))]).right == 0
    assert count([region(0, 0, 10, 5.1)], [Outline(box(0, 0))]).right == 1


def test_one_region_matches_one_outline_only() -> None:
    assert count([region(0, 0)], [Outline(box(0, 0)), Outline(box(0, 1))]).right == 1
    assert count([region(0, 0), region(0, 1)], [Outline(box(0, 0))]).right == 1


def test_what_is_found_on_uncounted_text_is_not_counted() -> None:
    truth = [Outline(box(0, 0, 100, 10), counts=False), Outline(box(200, 0))]
    counts = count([region(10, 0), region(95, 0), region(200, 0)], truth)
    assert (counts.found, counts.right, counts.truth) == (1 + 1, 1, 1)  # half of the second lies on it: more is needed
    assert counts.hits == (0,)


def test_covered_is_a_share_of_the_region() -> None:
    assert covered(region(0, 0), box(0, 0, 100, 100)) == 1
    assert covered(region(0, 0), box(7, 0)) == pytest.approx(0.3)


def test_an_image_without_counted_outlines_adds_false_finds() -> None:
    counts = count([region(0, 0)], [Outline(box(50, 50), counts=False)])
    assert (counts.found, counts.right, counts.truth) == (1, 0, 0)


def test_outlines_are_read_with_what_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "gt.txt"
    path.write_text("﻿0,0,10,0,10,10,0,10,TEXT, with a comma\n\n1,2,3,4,5,6,7,8,###\n", encoding="utf-8")
    first, second = read_outlines(path)
    assert first.counts and first.polygon[2] == (10, 10)
    assert not second.counts and second.polygon[0] == (1, 2)


@pytest.mark.parametrize("line", ["1,2,3", "a,0,10,0,10,10,0,10,x"])
def test_a_broken_line_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "gt.txt"
    path.write_text(f"0,0,10,0,10,10,0,10,ok\n{line}\n")
    with pytest.raises(SourceError, match=r"gt\.txt, line 2"):
        read_outlines(path)
