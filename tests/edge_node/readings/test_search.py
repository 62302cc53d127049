"""Searching what is kept: what is found, in which order, and that nothing in a text is syntax."""

import sqlite3
import threading
from pathlib import Path

import pytest
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import ReadingsError
from edge_node.readings import Store, search_all, stores_in
from edge_node.readings import schema as schemas
from edge_node.readings.fold import words
from edge_node.readings.rows import row_of
from edge_node.readings.writer import Writer

START_NS, HOUR, DAY = 1_790_000_000 * 10**9, 3600 * 10**9, 86_400 * 10**9


def texts(folder: Path, text: str, **more) -> list[str]:
    with Store(folder) as store:
        return [found.text for found in store.search(text, **more)]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("exit", ["Exit 12", "EXIT"]),
        ("EXIT 12", ["Exit 12"]),
        ("12 exit", ["Exit 12"]),
        ("king", ["NOPARKING", "no parking!"]),
        ("no", ["NOPARKING", "no parking!"]),
        ("ng", []),  # two letters: only where a word begins
        ("p", ["no parking!"]),
        ("strasse", ["Hauptstraße"]),
        ("HAUPTSTRASSE", ["Hauptstraße"]),
        ("出口", ["非常出口"]),
        ("常", ["非常出口"]),
        ("ab-12", ["B-AB 1234"]),
        ("none such", []),
        ("?!", []),
    ],
)
def test_what_is_found(keep, wanted: str, found: list[str]) -> None:
    folder = keep("EXIT", "no parking!", "Hauptstraße", "非常出口", "B-AB 1234", "NOPARKING", "Exit 12", "")
    assert texts(folder, wanted) == found


def test_the_newest_first_and_not_more_than_asked(keep) -> None:
    folder = keep(*(f"sign {n}" for n in range(30)))
    assert texts(folder, "sign", limit=3) == ["sign 29", "sign 28", "sign 27"]
    assert texts(folder, "", limit=2) == ["sign 29", "sign 28"]
    assert texts(folder, "sign", limit=0) == []


def test_all_that_is_known_comes_back(keep, make_sight) -> None:
    sight = make_sight(3, "Café No 5", name="street\udce9.jpg", frames=7, ended=False)
    [found] = Store(keep(sight)).search("cafe 5")
    assert found.id == sight.id and found.text == sight.text and found.best == sight.best and found.frames == 7
    assert (found.first_unix_ns, found.last_unix_ns) == (sight.first_unix_ns, sight.last_unix_ns)
    assert (found.polygon, found.size, found.ended) == (sight.polygon, sight.size, False)
    assert found.name == "street\\udce9.jpg" and found.crop is None
    assert found.spans == ((0, 4), (8, 9))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("exit", ["EXIT", "EX1T", "EXT"]),
        ("corner", ["corner", "comer"]),
        ("B AB 1018", ["B-AB 1018", "8-A8 lOI8"]),
        ("cat", ["cat", "c4t"]),  # three letters: only what looks the same
        ("restaurant", ["restaurant", "restaurent", "Seerestaurent", "rcstauant"]),
        ("parking", ["NOPARKlNG"]),
    ],
)
def test_reading_errors_are_found_after_what_is_right(keep, wanted: str, found: list[str]) -> None:
    folder = keep(
        "cot", "c4t", "cat", "EXT", "EX1T", "EXIT", "comer", "corner", "8-A8 lOI8", "B-AB 1018", "NOPARKlNG",
        "rcstauant", "Seerestaurent", "restaurent", "restaurant", "rest", "exact",
    )  # fmt: skip
    assert texts(folder, wanted, fuzzy=True) == found
    costs = [one.cost for one in Store(folder).search(wanted, fuzzy=True)]
    assert costs == sorted(costs)


def test_the_likest_come_first_however_many_there_are(keep) -> None:
    folder = keep("EXIT", "EX1T", *["EXAT"] * 500)
    assert texts(folder, "exit", fuzzy=True, limit=3) == ["EXIT", "EX1T", "EXAT"]


def test_a_time_has_what_was_in_sight_at_any_of_it(keep, make_sight) -> None:
    permanent = make_sight(0, "permanent sign", last_unix_ns=START_NS + 9 * DAY)
    an_hour = make_sight(1, "hour sign", first_unix_ns=START_NS + DAY, last_unix_ns=START_NS + DAY + HOUR)
    shorts = [make_sight(n, f"sign {n}", first_unix_ns=START_NS + n * HOUR) for n in range(2, 40)]
    folder = keep(permanent, an_hour, *shorts)
    at = START_NS + DAY + HOUR // 2
    for wanted in ("sign", ""):
        assert texts(folder, wanted, since=at, until=at + HOUR) == ["sign 25", "hour sign", "permanent sign"]
        assert texts(folder, wanted, since=at + HOUR, until=at + HOUR) == ["permanent sign"]
        assert texts(folder, wanted, until=START_NS - 1) == []
        assert texts(folder, wanted, since=START_NS + 10 * DAY) == []
        assert len(texts(folder, wanted, since=0)) == 40
    assert texts(folder, "sagn", fuzzy=True, since=at, until=at + HOUR) == ["sign 25", "hour sign", "permanent sign"]


def test_one_camera_of_several(keep, make_sight) -> None:
    folder = keep(make_sight(0, "exit", name="Tür 1"), make_sight(1, "exit", name="gate 2"), make_sight(2, "exit"))
    assert [one.name for one in Store(folder).search("exit", camera="tur")] == ["Tür 1"]
    assert len(Store(folder).search("exit", camera="GATE")) == 3  # the edge is called that


HOSTILE = [
    '" OR "x',
    "NEAR(a b)",
    "a* -b",
    "'; DROP TABLE sights; --",
    "{col}:x",
    "^exit",
    "\0",
    "%_%",
    "\udce9",
    "(((((",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_a_text_is_syntax(keep, text: str) -> None:
    folder = keep(text, "plain")
    for fuzzy in (False, True):
        for wanted in (text, f"{text} plain"):
            assert all(isinstance(found, str) for found in texts(folder, wanted, fuzzy=fuzzy))
    assert set(texts(folder, "")) >= {"plain"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=examples(30))
@given(kept=st.lists(st.text(max_size=12), min_size=1, max_size=5), data=st.data())
def test_what_was_kept_is_found(tmp_path_factory, make_sight, kept: list[str], data) -> None:
    folder = tmp_path_factory.mktemp("any")
    writer = Writer(folder / "readings.db")
    writer.put([row_of(make_sight(n, text)) for n, text in enumerate(kept)])
    writer.close()
    with Store(folder) as store:
        for found in store.search(""):
            if words(found.text):
                assert found.id in {one.id for one in store.search(found.text)}
                assert found.id in {one.id for one in store.search(found.text, fuzzy=True)}


def test_a_search_goes_on_while_the_node_writes(keep, make_sight) -> None:
    folder = keep("sign 0")
    store, writer, failures = Store(folder), Writer(folder / "readings.db"), []

    def look() -> None:
        try:
            for _ in range(50):
                assert store.search("sign", fuzzy=True)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(1, 60):
        writer.put([row_of(make_sight(number, f"sign {number}"))])
    for thread in threads:
        thread.join()
    assert not failures and len(store.search("sign", limit=100)) == 60
    writer.close()
    store.close()


def test_several_databases_as_one(tmp_path: Path, make_sight) -> None:
    for number, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        writer = Writer(tmp_path / name / "readings.db")
        writer.put([row_of(make_sight(n, f"exit {name}{n}")) for n in range(number, 4, 2)])
        writer.close()
    found = search_all(stores_in(tmp_path), "exit", limit=3)
    assert [one.text for one in found] == ["exit b3", "exit a2", "exit b1"]


def test_clear_words_where_there_is_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(ReadingsError, match="no readings are kept in"):
        Store(tmp_path).search("x")
    with pytest.raises(ReadingsError, match="no readings are kept in"):
        stores_in(tmp_path)
    (tmp_path / "readings.db").write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(ReadingsError, match="not a database"):
        Store(tmp_path).search("x")


def test_a_text_that_is_too_long(keep) -> None:
    folder = keep("x" * 5000, "word " * 60)
    assert len(texts(folder, "x" * 256)) == 1
    assert len(texts(folder, " ".join(f"{'word'}" for _ in range(50)), fuzzy=True)) == 1
    with pytest.raises(ReadingsError, match="at most 256"):
        texts(folder, "x" * 257)


def test_a_newer_database_is_not_read(keep) -> None:
    folder = keep("exit")
    with sqlite3.connect(folder / "readings.db") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(ReadingsError, match="newer Lamplight .schema 99"):
        texts(folder, "exit")


def test_the_same_is_found_without_trigrams(keep, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ("EXIT", "EX1T", "no parking", "出口", "B-AB 1234")
    asked = [(text, fuzzy) for text in ("exit", "king", "no", "口", "ab 12", "zzz", "") for fuzzy in (False, True)]
    (folder := keep(*kept))
    expected = [texts(folder, text, fuzzy=fuzzy) for text, fuzzy in asked]
    (folder / "readings.db").unlink()
    monkeypatch.setattr(schemas, "has_trigrams", lambda: False)  # as in an SQLite before 3.34
    folder = keep(*kept)
    assert [texts(folder, text, fuzzy=fuzzy) for text, fuzzy in asked] == expected


def test_a_database_with_trigrams_where_there_are_none(keep, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = keep("exit")
    monkeypatch.setattr(schemas, "has_trigrams", lambda: False)
    with pytest.raises(ReadingsError, match="needs an SQLite with FTS5"):
        texts(folder, "exit")
