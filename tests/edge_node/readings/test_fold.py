import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.readings import distance, fold, formats, query, when, writer


@pytest.mark.parametrize("module", [distance, fold, formats, query, when, writer])
def test_the_examples(module) -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("STRASSE straße", ["strasse", "strasse"]),
        ("Ünïcödé Cafe\u0301", ["unicode", "cafe"]),
        ("B-AB·1234", ["b", "ab", "1234"]),
        ("非常出口 exit", ["非", "常", "出", "口", "exit"]),
        ("ПРОДУКТЫ ﬁsh ½", ["продукты", "fish", "1", "2"]),
        ("¡…! \0\u202e", []),
    ],
)
def test_words_of_any_script(text: str, words: list[str]) -> None:
    assert fold.words(text) == words
    assert fold.folded(text).split() == words


@given(st.text(max_size=40), st.text(min_size=1, max_size=3))
def test_spans_are_of_the_text_and_apart(text: str, wanted: str) -> None:
    marked = fold.spans(text, [fold.needle(word) for word in fold.words(wanted)])
    edges = [edge for span in marked for edge in span]
    assert edges == sorted(set(edges)) and all(0 <= edge <= len(text) for edge in edges)


def test_spans_where_letters_fold_to_several() -> None:
    text = "Große Straße, Café"
    assert [text[a:b] for a, b in fold.spans(text, ["strasse", "  cafe  ", "oss"])] == ["oß", "Straße", "Café"]


@given(st.text("abc", max_size=9), st.text("abc", max_size=9))
def test_the_fast_distance_is_the_plain_one(a: str, b: str) -> None:
    def plain(free: bool) -> int:
        row = [0 if free else j for j in range(len(b) + 1)]
        for i, x in enumerate(a, 1):
            new = [i]
            for j, y in enumerate(b, 1):
                new.append(min(row[j] + 1, new[-1] + 1, row[j - 1] + (x != y)))
            row = new
        return min(row) if free else row[-1]

    assert distance.near(a, b) == plain(False)
    assert distance.near(a, b, within=True) == plain(True)


@pytest.mark.parametrize(
    ("wanted", "seen", "most"),
    [("hello", "he11o", 0.4), ("5018", "sol8", 0.6), ("born", "bom", 0.2), ("wvv", "vvw", 0.4), ("exit", "axit", 1.0)],
)
def test_what_a_reader_confuses_costs_little(wanted: str, seen: str, most: float) -> None:
    assert 0 < distance.cost(wanted, seen) <= most + 1e-9
    assert distance.cost(wanted, seen) == pytest.approx(distance.cost(seen, wanted), abs=1e-9)
