"""Letters are compared and voted on as the textbooks say."""

import random
import string
from functools import cache

import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_node.tracking.texts import Vote, distance

LETTERS = st.text("AB1 é", max_size=70)


def plain(one: str, other: str) -> int:
    """Levenshtein's distance by his own table."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one):
        before, row = row, [i + 1]
        for j, wanted in enumerate(other):
            row.append(min(before[j] + (letter != wanted), before[j + 1] + 1, row[j] + 1))
    return row[-1]


@settings(max_examples=examples(150))
@given(LETTERS, LETTERS)
def test_the_distance_is_levenshteins(one: str, other: str) -> None:
    assert distance(one, other) * max(len(one), len(other), 1) == pytest.approx(plain(one, other))


def test_a_vote_is_better_than_each_of_its_readings() -> None:
    vote = Vote()
    for text in ("B 128 XYZ", "8 123 XYZ", "B 123 XY", "B 123 XVZ", "BB 123 XYZ"):
        vote.add(text, 0.5)
    assert vote.text == "B 123 XYZ"


def misread(truth: str, rng: random.Random, deleted: float, changed: float, inserted: float) -> str:
    letters = []
    for letter in truth:
        if rng.random() < inserted:
            letters.append(rng.choice(string.ascii_uppercase))
        if rng.random() >= deleted:
            letters.append(rng.choice(string.ascii_uppercase) if rng.random() < changed else letter)
    return "".join(letters)


@pytest.mark.parametrize(
    ("deleted", "changed", "inserted", "frames"),
    [(0.01, 0.01, 0.01, 50), (0.02, 0.05, 0.02, 20), (0.05, 0.05, 0.03, 30)],
)
def test_many_readings_with_errors_of_their_own_vote_for_the_truth(
    deleted: float, changed: float, inserted: float, frames: int
) -> None:
    rng, truth, right = random.Random(0), "KEEP 509 m AWAY FROM HERE", 0
    for _ in range(30):
        vote = Vote()
        for _ in range(frames):
            vote.add(misread(truth, rng, deleted, changed, inserted), 0.5)
        right += vote.text == truth
    assert right >= 29


@settings(max_examples=examples(100))
@given(st.lists(LETTERS.filter(bool), min_size=1, max_size=6), LETTERS)
def test_a_reading_is_lined_up_at_the_least_cost(before: list[str], text: str) -> None:
    vote = Vote()
    for one in before:
        vote.add(one, 0.7)
    path = vote._line_up(text)
    assert [place for place, _ in path if place >= 0] == list(range(len(vote._places)))
    assert "".join(letter for _, letter in path) == text
    spent = sum(1.0 if at < 0 else 1 - vote._places[at].get(letter, 0.0) / vote._total for at, letter in path)
    assert spent == pytest.approx(least(vote, text))


def least(vote: Vote, text: str) -> float:
    """By recursion over what is left of both."""

    @cache
    def rest(i: int, j: int) -> float:
        ways = []
        if i < len(vote._places):
            skip = 1 - vote._places[i].get("", 0.0) / vote._total
            ways.append(rest(i + 1, j) + skip)
            if j < len(text):
                ways.append(rest(i + 1, j + 1) + 1 - vote._places[i].get(text[j], 0.0) / vote._total)
        if j < len(text):
            ways.append(rest(i, j + 1) + 1)
        return min(ways, default=0.0)

    return rest(0, 0)


def test_letters_that_were_read_once_are_forgotten() -> None:
    rng, vote = random.Random(0), Vote()
    for _ in range(2000):
        vote.add(misread("B 123 XYZ", rng, 0, 0.5, 0), 0.5)
    assert vote.text == "B 123 XYZ" and all(len(place) < 100 for place in vote._places)


def test_sure_readings_outvote_many_unsure_ones() -> None:
    vote = Vote()
    for text, confidence in (("CAFE", 0.95), ("CAPE", 0.3), ("CAPE", 0.3), ("CAPE", 0.3)):
        vote.add(text, confidence)
    assert vote.text == "CAFE"


def test_confidence_grows_with_agreement_and_falls_with_doubt() -> None:
    vote = Vote()
    vote.add("EXIT", 0.6)
    one = vote.result()[1]
    vote.add("EXIT", 0.6)
    two = vote.result()[1]
    vote.add("EXIF", 0.9)
    assert 0.59 < one < two < 1 and vote.result()[1] < two


def test_a_text_that_changes_is_followed() -> None:
    vote = Vote()
    for _ in range(300):
        vote.add("1 MIN", 0.9)
    for _ in range(80):
        vote.add("0 MIN", 0.9)
    assert vote.text == "0 MIN"


@settings(max_examples=examples(60))
@given(st.lists(st.tuples(st.text("ABC", max_size=300), st.floats(0, 1)), max_size=12))
def test_whatever_is_read_the_vote_is_bounded(readings: list[tuple[str, float]]) -> None:
    vote = Vote()
    for text, confidence in readings:
        vote.add(text, confidence)
    text, confidence = vote.result()
    assert len(text) <= 256 and 0 <= confidence <= 1
    assert bool(text) <= any(text for text, _ in readings)


@given(st.text("ABC", min_size=1, max_size=20), st.integers(1, 5))
def test_readings_that_agree_are_the_vote(text: str, times: int) -> None:
    vote = Vote()
    for _ in range(times):
        vote.add(text, 0.7)
    assert vote.text == text
