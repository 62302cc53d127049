"""Letters are compared and voted on as the textbooks say."""

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


@settings(max_examples=150, deadline=None)
@given(LETTERS, LETTERS)
def test_the_distance_is_levenshteins(one: str, other: str) -> None:
    assert distance(one, other) * max(len(one), len(other), 1) == plain(one, other)


def test_a_vote_is_better_than_each_of_its_readings() -> None:
    vote = Vote()
    for text in ("B 128 XYZ", "8 123 XYZ", "B 123 XY", "B 123 XVZ", "BB 123 XYZ"):
        vote.add(text, 0.5)
    assert vote.text == "B 123 XYZ"


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


@settings(max_examples=60, deadline=None)
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
