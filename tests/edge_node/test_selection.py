import numpy as np

from common.pixels import RawImage
from edge_node.selection import Selection


def frame(level: int) -> RawImage:
    return RawImage.from_rgb(np.full((64, 64, 3), level, np.uint8))


def test_each_third_frame() -> None:
    selection = Selection(every=3)
    assert [selection.is_due() for _ in range(7)] == [True, False, False, True, False, False, True]
    assert selection.skipped == {"between each N-th": 4}


def test_without_on_change_everything_is_new() -> None:
    selection = Selection()
    assert all(selection.is_due() and selection.is_new(frame(10)) for _ in range(5)) and not selection.skipped


def test_what_shows_nothing_new_is_left_out_until_it_is_time() -> None:
    times = iter([0.0, 1.0, 5.0, 9.9, 10.0, 11.0, 20.0, 21.0])
    selection = Selection(on_change=True, still_s=10, clock=lambda: next(times))
    assert selection.is_new(frame(50)), "the first"
    assert not any(selection.is_new(frame(50)) for _ in range(3))
    assert selection.is_new(frame(50)), "ten seconds are over"
    assert selection.is_new(frame(90))
    assert not selection.is_new(frame(90)), "nine seconds after the last one taken"
    assert selection.is_new(frame(90))
    assert selection.skipped == {"nothing new": 4}


def test_a_slow_change_adds_up() -> None:
    selection = Selection(on_change=True, still_s=1e9)
    assert sum(selection.is_new(frame(level)) for level in range(50, 150)) > 5
