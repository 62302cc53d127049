"""What it costs to say that a text known before is one found now."""

from dataclasses import replace

import numpy as np

from edge_node.tracking.boxes import PATCH, Box
from edge_node.tracking.motion import Motion
from edge_node.tracking.pairing import MOST, Expected, Seen, compare

BOX = Box(200.0, 100.0, (1.0, 0.0), 120.0, 20.0)
NO_LOOK = np.zeros((1, PATCH[0] * PATCH[1]), np.float32)


def patch(seed: int) -> np.ndarray:
    levels = np.random.default_rng(seed).normal(0, 1, PATCH[0] * PATCH[1])
    levels -= levels.mean()
    return (levels / np.linalg.norm(levels)).astype(np.float32)


def expected(now: np.ndarray, **changes: object) -> Expected:
    before = patch(1)
    one = Expected(BOX, 0.0, 0.0, BOX, before, now, float(before @ now), 0.95, 0.04, "", 0.0, whole=True, strict=False)
    return replace(one, **changes)  # type: ignore[arg-type]


def cost(one: Expected, box: Box, text: str = "") -> float:
    return float(compare([one], [Seen(box, text, 0.9)], NO_LOOK, NO_LOOK).costs[0, 0])


def test_what_is_still_there_has_not_moved_to_the_line_below() -> None:
    look, below = patch(7)[None], [Seen(replace(BOX, y=BOX.y + 22))]
    moved = compare([expected(patch(2), far=40.0)], below, look, look).costs[0, 0]
    stayed = compare([expected(patch(1), far=40.0)], below, look, look).costs[0, 0]
    assert moved < MOST < stayed


def test_where_something_hides_an_end_the_rest_is_compared() -> None:
    hidden = patch(1).reshape(PATCH[::-1]).copy()
    hidden[:, 16:] = 0.3
    hidden -= hidden.mean()
    hidden /= np.linalg.norm(hidden)
    shown = replace(BOX, x=BOX.x - 12, length=96.0)
    left = replace(BOX, x=BOX.x - 20, length=80.0)
    known = expected(hidden.reshape(-1))
    assert cost(known, left) < cost(expected(patch(2)), left) - 8
    assert compare([known], [Seen(left)], NO_LOOK, NO_LOOK).inside[0, 0]
    assert not compare([expected(patch(2))], [Seen(left)], NO_LOOK, NO_LOOK).inside[0, 0]
    assert cost(expected(patch(2)), shown) > MOST, "another sign in its place"


def test_the_text_of_what_was_not_seen_whole_is_a_part() -> None:
    now = patch(1)
    part, whole = (expected(now, text="XA 4P6", confidence=0.9, whole=whole) for whole in (False, True))
    assert cost(part, BOX, "XA 4P6 UYR") < cost(whole, BOX, "XA 4P6 UYR") - 5
    assert cost(part, BOX, "8L WRT 305") > MOST


def test_what_comes_back_where_it_was_rests_there() -> None:
    motion = Motion(100.0, 50.0, 0.0, 20.0)
    for k in range(1, 10):
        motion.see(100.0, 50.0, k / 10)
    motion.see(104.0, 52.0, 5.0)
    assert motion.expect(5.1)[:2] == (100.0, 50.0)
    motion.see(140.0, 52.0, 9.0)
    assert motion.expect(9.0)[:2] == (140.0, 52.0)
