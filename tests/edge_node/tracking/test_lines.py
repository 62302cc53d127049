"""Pieces of one line: which lie on it, which are splinters, and that nobody remembers them for ever."""

import gc
from dataclasses import replace

import numpy as np
import pytest
from signs import HEIGHT, WIDTH, Watched

from common.frame import FrameId, Priority, Region, Route
from edge_node.tracking.boxes import PATCH, Box
from edge_node.tracking.lines import find_lines, let_go
from edge_node.tracking.motion import Motion
from edge_node.tracking.track import EVIDENCE, EVIDENCE_IN_LINE, SPREAD, SURE, Track
from edge_node.tracking.view import View

BOX = Box(200.0, 100.0, (1.0, 0.0), 100.0, 20.0)
BESIDE = replace(BOX, x=310.0)  # 10 pixels after its end, half a height
VIEW = View(1.0, 1.0, "camera 0", FrameId("e", "s", 0), (), (0, 0), 0.9, Route.CLOUD, None)
GRAY = np.full((HEIGHT, WIDTH, 3), 70, np.uint8)


def look(seed: int) -> np.ndarray:
    levels = np.random.default_rng(seed).normal(0, 1, PATCH[0] * PATCH[1])
    levels -= levels.mean()
    return (levels / np.linalg.norm(levels)).astype(np.float32)


def track(box: Box = BOX, *, text: str = "", frames: int = 1, last: float = 0.0, score: float = 0.9) -> Track:
    motion = Motion(box.x, box.y, 0.0, box.height)
    made = Track(
        "t", motion, box, look(1), 0.0, last, 10**18, 10**18, VIEW, Priority.STANDARD, score * frames, frames=frames
    )
    made.vote.add(text, 0.9)
    return made


def region(x: float, wide: float, score: float, text: str = "", y: float = 100.0) -> Region:
    return Region(((x, y), (x + wide, y), (x + wide, y + 24), (x, y + 24)), score, text, 0.9 if text else 0.0)


def tracks_in_memory() -> int:
    gc.collect()
    return sum(type(one) is Track for one in gc.get_objects())


# --- on a line ---


@pytest.mark.parametrize(
    ("where", "joined"),
    [
        (BESIDE, True),
        (replace(BOX, x=330.0), False),  # 1.5 heights apart
        (replace(BESIDE, y=112.0), False),  # more than half a height below
        (replace(BESIDE, y=108.0), True),
        (replace(BESIDE, height=40.0), False),  # twice as high
        (Box(200.0, 160.0, (0.0, 1.0), 100.0, 20.0), False),  # runs down from its middle
    ],
)
def test_what_is_right_beside_another_is_in_its_line(where: Box, joined: bool) -> None:
    one, other = track(), track(where)
    find_lines([(one, BOX)], [(one, BOX), (other, where)], [])
    assert one.in_line is joined and (one.beside is other) is joined


def test_what_is_expected_only_makes_no_line_but_may_have_splinters() -> None:
    """Unseen, beside: it is not told apart by it. Unseen, on the same place: that may be a piece of it."""
    one, other = track(), track()
    find_lines([(one, BOX)], [(one, BOX)], [(other, BESIDE)])
    assert not one.in_line and one.beside is None
    find_lines([(one, BOX)], [(one, BOX)], [(other, replace(BOX, x=220.0))])
    assert not one.in_line and one.beside is other


def test_a_known_one_goes_before_a_new_one() -> None:
    one, known, new = track(), track(), track()
    left = replace(BOX, x=90.0)
    find_lines([(one, BOX), (new, left)], [(new, left), (one, BOX), (known, BESIDE)], [])
    assert one.beside is known and new.beside is one


def test_in_a_line_more_is_needed() -> None:
    one = track(frames=2)
    assert EVIDENCE < one.evidence < EVIDENCE_IN_LINE and one.established
    one.in_line = True
    assert not one.established


# --- splinters ---


@pytest.mark.parametrize(
    ("text", "frames", "again", "splinter"),
    [
        ("B 12", 1, True, True),
        ("B 12", 2, True, True),
        ("B 12", 3, True, False),
        ("B 12", 1, False, False),  # the line was not seen after it
        ("TAXI", 1, True, False),  # says something else
        ("NO", 1, True, True),  # too short to tell
        ("", 2, True, True),  # not read
    ],
)
def test_a_splinter(text: str, frames: int, again: bool, splinter: bool) -> None:
    one = track(text=text, frames=frames, last=1.0)
    one.beside = track(text="B 123 XYZ", frames=9, last=2.0 if again else 1.0)
    assert one.is_splinter is splinter
    one.beside = None
    assert not one.is_splinter


def test_a_splinter_of_what_a_splinter_lay_beside() -> None:
    line, piece, one = track(text="B 123 XYZ", last=5.0), track(text="B 12", last=1.0), track(text="3 XYZ", last=1.0)
    one.beside, piece.beside = piece, line
    assert one.is_splinter
    piece.ended = True
    let_go([piece], [one, line])
    assert one.beside is line and one.is_splinter and piece.beside is None


def test_what_ended_before_it_is_let_go() -> None:
    gone, one = track(last=1.0), track(last=1.5)
    one.beside, gone.beside, gone.ended = gone, one, True
    let_go([gone], [one])
    assert one.beside is None and gone.beside is None


def test_words_beside_others_that_pass_with_a_middling_score_are_told() -> None:
    """Four frames at 0.7 are there for sure: 2.8, less than a line needs, but no splinter."""
    watched = Watched()
    for k in range(8):
        watched.now_s = 1000 + k / 10
        words = [region(60, 120, 0.7, "NIGHT BUS"), region(190, 90, 0.7, "N 104")]
        watched.see(GRAY, words if k < 4 else [])
    assert not watched.told
    watched.close()
    assert {sight.text for sight in watched.told.values()} == {"NIGHT BUS", "N 104"}


def test_words_that_come_and_go_beside_a_line_are_not_all_remembered() -> None:
    """Each was found beside the one before: a chain that would hold them all."""
    watched, rng = Watched(timeout_s=0.5), np.random.default_rng(1)
    words = ["".join(chr(65 + letter) for letter in rng.integers(0, 26, 8)) for _ in range(60)]
    noise = np.asarray(rng.integers(0, 255, (len(words), 24, 100, 3)), np.uint8)
    before = tracks_in_memory()
    for k in range(len(words) - 1):
        watched.now_s, rgb = 1000 + k, GRAY.copy()
        shown = [region(60 + 110 * (word % 2), 100, 0.9, words[word]) for word in (k, k + 1)]
        for word in (k, k + 1):
            rgb[100:124, 60 + 110 * (word % 2) :][:, :100] = noise[word]
        watched.see(rgb, shown)
    assert len(watched.told) > 50
    assert tracks_in_memory() - before <= 6


# --- what is at its spot ---


def test_a_still_one_keeps_its_spot_and_learns_how_alike_it_is_to_itself() -> None:
    one = track()
    one.there, one.spot = look(2), BOX
    for k in range(1, 12):
        one.follow(replace(BOX, x=BOX.x + (-1) ** k), look(2), look(2), k / 10, part=False, cut=False)
    assert one.spot is BOX and one.look_at(replace(BOX, x=0.0), (5.0, 3.0)) == replace(BOX, x=205.0, y=103.0)
    assert one.sure > SURE and one.usual > 0.99 and one.spread < SPREAD / 4 and one.steady


def test_a_look_that_varies_spreads() -> None:
    one = track()
    one.there, one.spot = look(2), BOX
    for k in range(1, 12):
        now = look(2) + (0.8 * look(k) if k % 2 else 0)
        one.follow(BOX, look(2), now / np.linalg.norm(now), k / 10, part=False, cut=False)
    assert one.spread > SPREAD


def test_a_spot_that_it_does_not_cover_any_more_is_learnt_anew() -> None:
    one = track()
    one.there, one.spot = look(2), replace(BOX, y=BOX.y + 15)
    one.follow(BOX, look(2), look(2), 0.1, part=False, cut=False)
    assert one.spot is None and one.there is None and one.spread == SPREAD
