"""Words are found in spite of reading errors, and expressions cannot hang."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SettingsError
from edge_node.alerts.patterns import Expression, matching, pattern, patterns
from edge_node.alerts.words import fold, within


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("exit", "EXIT"),
        ("exit", "Fire EX1T, keep clear"),
        ("EXIT", "EXlT"),
        ("exit", "EXIT/SORTIE"),
        ("EXIT", "E X I T"),
        ("café", "CAFE"),
        ("Straße", "STRASSE"),
        ("no parking", "N0 PARKNG"),
        ("no parking", "NOPARKING"),
        ("bill", "8ILL"),
        ("sold", "50LD"),
        ("B-XY 123", "8 XY|23"),
        ("emergency exit", "EMERGNCY EXlTT"),
        ("выход", "ВЫХОД"),
        ("出口", "出口 →"),
    ],
)
def test_a_word_is_found_as_it_may_have_been_read(word: str, text: str) -> None:
    assert [found.text for found in matching([pattern(word)], text)[0]] == [word]


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("exit", ""),
        ("exit", "exits"),  # a short word is itself or not
        ("exit", "EDIT"),
        ("fall", "FAIL"),  # a capital I is no small l
        ("HALL", "HAIL"),
        ("12345", "12346"),  # another number is no reading error
        ("AB 12345", "AB 12346"),
        ("parking", "barring"),
        ("emergency", "emerge now"),
        ("exit", "ex it is not".replace("ex it", "ex xx it")),
    ],
)
def test_another_word_is_not(word: str, text: str) -> None:
    assert matching([pattern(word)], text) == ([], True)


@given(st.text(alphabet="abcdefg", min_size=1, max_size=8), st.text(alphabet="abcdefg", max_size=8), st.integers(0, 3))
def test_the_edit_distance_is_the_shortest_way(a: str, b: str, edits: int) -> None:
    def distance(a: str, b: str) -> int:
        if not a or not b:
            return len(a) + len(b)
        if a[0] == b[0]:
            return distance(a[1:], b[1:])
        return 1 + min(distance(a[1:], b), distance(a, b[1:]), distance(a[1:], b[1:]))

    if len(a) + len(b) <= 10:
        assert within(a, b, edits) == (distance(a, b) <= edits)


@given(st.text(max_size=40), st.text(min_size=1, max_size=8))
def test_any_text_can_be_looked_at_and_a_word_is_found_in_itself(text: str, word: str) -> None:
    fold(text)
    if "".join(fold(word, sought=True)) and not word.startswith("/"):
        assert matching([pattern(word)], word)[0]


def test_expressions_are_taken_to_the_letter() -> None:
    plate, loud = pattern(r"/\bB-[A-Z]{1,2} ?\d{1,4}\b/"), pattern("/danger|gefahr/i")
    assert matching([plate, loud], "Gefahr! B-XY 123") == ([plate, loud], True)
    assert matching([plate, loud], "b-xy 123, dang3r") == ([], True)
    assert pattern("a/b").text == "a/b" and matching([pattern("a/b")], "A B")[0]  # a word


def test_an_expression_that_backtracks_without_end_is_stopped_and_rests(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    hungry = Expression("/^(a|aa)+$/", clock=lambda: now[0])
    text = "a" * 80 + "!"
    assert matching([hungry], text) == ([], True) and "takes too long on a text and rests" in caplog.text
    assert matching([hungry], "aaa") == ([], False)
    now[0] = 11.0
    assert matching([hungry], "aaa") == ([hungry], True)


@pytest.mark.parametrize("text", ["/(/", "/[a/i", "/a*/", "//", "...", " "])
def test_what_cannot_be_looked_for_is_an_error_that_names_it(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^--alert: "):
        patterns([text], None)


def test_a_file_has_one_a_line(tmp_path: Path) -> None:
    file = tmp_path / "words"
    file.write_text("\ufeff# places\n\n  exit \n/a,b/\r\nexit\n", encoding="utf-8")
    assert [one.text for one in patterns(["stop"], file)] == ["stop", "exit", "/a,b/"]
    file.write_text("exit\n/(/\n")
    with pytest.raises(SettingsError, match=r"words:2: .* is no regular expression"):
        patterns([], file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="UTF-8"):
        patterns([], file)
    with pytest.raises(SettingsError, match="No such file"):
        patterns([], tmp_path / "none")
