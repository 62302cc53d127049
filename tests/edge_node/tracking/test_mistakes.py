"""Signs that were once split or merged, each by the cause."""

import numpy as np
import pytest
from signs import WIDTH, Sign, Watched, background, picture, region_of

from common.frame import Region

SCENE = background()
CORNER = (200.0, 130.0)


def piece(region: Region, start: float, end: float, text: str = "") -> Region:
    """From `start` to `end` of its length."""
    (x0, y0), (x1, _), (_, y1), _ = region.polygon
    left, right = x0 + start * (x1 - x0), x0 + end * (x1 - x0)
    return Region(((left, y0), (right, y0), (right, y1), (left, y1)), region.score, text, 0.9 if text else 0.0)


def test_a_line_that_is_missed_is_not_the_one_below() -> None:
    watched, lines = Watched(), [Sign(text, 420, y, read=False) for text, y in (("HOTEL 12", 240), ("TOTAL 34", 266))]
    shown = [(0,), (0,), (1,), (1,), (0, 1), (0, 1)]
    ids: dict[int, set[str]] = {0: set(), 1: set()}
    for k, rows in enumerate(shown):
        watched.now_s = 1000 + k / 10
        found = watched.see(picture(SCENE, lines, 0, CORNER), [region_of(lines[row], 0, CORNER) for row in rows])
        for row, id in zip(rows, found, strict=True):
            ids[row].add(id)
    assert len(ids[0]) == len(ids[1]) == 1 and ids[0] != ids[1]


def test_something_hides_its_end() -> None:
    watched, sign = Watched(), Sign("B 123 XYZ", 420, 250, read=False)
    ids = set()
    for k in range(30):
        watched.now_s = 1000 + k / 10
        rgb, region = picture(SCENE, [sign], 0, CORNER), region_of(sign, 0, CORNER)
        if 12 <= k < 20:
            (x0, _), (x1, _), *_ = region.polygon
            rgb[60:200, round(x0 + 0.7 * (x1 - x0)) : round(x1) + 40] = (60, 20, 90)
            region = piece(region, 0.0, 0.7)
        ids |= set(watched.see(rgb, [region]))
    assert len(ids) == 1


@pytest.mark.parametrize("read", [True, False])
def test_a_sign_in_the_place_of_a_shorter_one_in_two_pieces(read: bool) -> None:
    watched, old, new = Watched(), Sign("TAXI", 420, 250, read=read), Sign("STATION NORTH", 420, 250, read=read)
    for k in range(40):
        watched.now_s = 1000 + k / 10
        sign = old if k < 15 else new
        region = region_of(sign, 0, CORNER)
        parts = [piece(region, 0, 0.5, "STATION" * read), piece(region, 0.6, 1, "NORTH" * read)]
        watched.see(picture(SCENE, [sign], 0, CORNER), parts if k > 15 and k % 4 == 0 else [region])
    watched.close()
    assert len(watched.told) == 2


def test_a_sign_that_comes_into_view_letter_by_letter() -> None:
    watched, sign = Watched(), Sign("KM 87 UVW", 530, 250)
    for k in range(30):
        watched.now_s = 1000 + k / 10
        camera = (min(-110.0 + 8 * k, 0.0) + 110, 130.0)
        region = region_of(sign, 0, camera)
        shown = float(np.clip((WIDTH - 1 - region.polygon[0][0]) / (region.polygon[1][0] - region.polygon[0][0]), 0, 1))
        letters = round(9 * shown)
        part = piece(region, 0, shown, sign.text[:letters])
        watched.see(picture(SCENE, [sign], 0, camera), [part] if letters >= 2 else [])
    watched.close()
    assert [sight.text for sight in watched.told.values()] == [sign.text]


def test_what_comes_back_where_it_was_after_long() -> None:
    watched, sign = Watched(), Sign("B 123 XYZ", 420, 250, read=False)
    rng, ids = np.random.default_rng(3), set()
    for k in (*range(15), *range(45, 60)):
        watched.now_s = 1000 + k / 10
        x, y = rng.normal(0, 2, 2) if k != 45 else (5.0, 3.0)
        moved = Sign(sign.text, sign.x + x, sign.y + y, read=False)
        ids |= set(watched.see(picture(SCENE, [sign], 0, CORNER), [region_of(moved, 0, CORNER)]))
    assert len(ids) == 1
