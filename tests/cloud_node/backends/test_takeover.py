import threading
from collections.abc import Callable

import pytest

from cloud_node.backends.takeover import Takeover


def plain(text: str) -> str:
    return f"plain {text}"


def building(fast: Callable[[str], str]) -> Callable[[str], Callable[[str], str]]:
    return lambda text: fast


def test_the_plain_way_serves_until_the_fast_one_is_built() -> None:
    go = threading.Event()

    def build(text: str) -> Callable[[str], str]:
        assert go.wait(60) and threading.current_thread() is not threading.main_thread()
        return str.upper

    ways = Takeover("test", plain, build, after=2)
    assert [ways(1, "a") for _ in range(5)] == ["plain a"] * 5 and not ways.taken_over
    go.set()
    ways.wait()
    assert ways(1, "a") == "A" and ways(2, "a") == "plain a" and ways.taken_over == [1]


def test_what_cannot_be_built_is_told_once_and_stays_plain(caplog: pytest.LogCaptureFixture) -> None:
    def build(text: str) -> Callable[[str], str]:
        raise RuntimeError("no compiler\nand a page of reasons")

    ways = Takeover("test", plain, build, after=1)
    for key in (1, 2, 1, 2):
        assert ways(key, "a") == "plain a"
        ways.wait()
    assert [record.message for record in caplog.records] == [
        "test: no fast path for 1, the plain one serves: no compiler"
    ]


def test_adoption_is_on_the_calling_thread_and_may_refuse(caplog: pytest.LogCaptureFixture) -> None:
    def adopt(fast: Callable[[str], str], text: str) -> Callable[[str], str]:
        assert threading.current_thread() is threading.main_thread()
        if text == "b":
            raise RuntimeError("it differs")
        return lambda text: fast(text) * 2

    ways = Takeover("test", plain, building(str.upper), adopt=adopt, after=1)
    for key in ("a", "b"):
        assert ways(key, key) == f"plain {key}"
        ways.wait()
    assert (ways("a", "a"), ways("b", "b")) == ("AA", "plain b")
    assert ways.taken_over == ["a"] and "it differs" in caplog.text


def test_shapes_beyond_the_limit_are_not_built() -> None:
    ways = Takeover("test", plain, building(str.upper), after=1, limit=2)
    for key in range(4):
        ways(key, "a")
        ways.wait()
    assert [ways(key, "a") for key in range(4)] == ["A", "A", "plain a", "plain a"]


def test_at_once_the_first_call_waits() -> None:
    ways = Takeover("test", plain, building(str.upper), after=9)
    with ways.at_once():
        assert [ways(key, "a") for key in (1, 2, 1)] == ["A"] * 3
    assert ways(3, "a") == "plain a"
