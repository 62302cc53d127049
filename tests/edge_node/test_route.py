"""The router with a clock of its own."""

import pytest

from common.frame import Route
from edge_node.route import AWAY_S, FIRST_PATIENCE_S, LEAST_PATIENCE_S, PROBE_S, RECENT, LocalMode, Router


def connected(deadline_s: float = 0.0, mode: LocalMode = LocalMode.AUTO) -> Router:
    router = Router(mode, deadline_s, 0.0)
    router.connection(True, 0.0)
    return router


def test_a_cloud_that_is_away_is_waited_for_a_little_and_then_not() -> None:
    router = Router(LocalMode.AUTO, 0.0, 100.0)
    router.connection(False, 100.0 + AWAY_S - 0.1)
    assert router.choose(100.0, room=False) is Route.CLOUD and not router.is_overdue(5.0)
    router.connection(False, 100.0 + AWAY_S)
    assert router.choose(102.0, room=False) is Route.EDGE and router.is_overdue(0.0)
    assert router.reason == "the cloud is away"
    router.connection(True, 110.0)
    assert router.choose(110.0, room=False) is Route.CLOUD and not router.is_overdue(0.5)
    assert router.reason == ""


def test_a_short_break_changes_nothing() -> None:
    router = connected()
    for second in range(10):
        router.connection(second % 2 == 0, float(second))
        assert router.route is Route.CLOUD


@pytest.mark.parametrize("mode", [LocalMode.OFF, LocalMode.ONLY])
def test_what_is_forced_stays(mode: LocalMode) -> None:
    router = Router(mode, 0.5, 0.0)
    there = router.route
    assert there is (Route.EDGE if mode is LocalMode.ONLY else Route.CLOUD)
    for step in (lambda: router.connection(False, 99.0), router.missed, router.missed, lambda: router.answered(9.0)):
        step()
        assert router.choose(100.0, room=True) is there and not router.is_overdue(1e9)


def test_without_a_deadline_patience_follows_what_is_usual() -> None:
    router = connected()
    assert not router.is_overdue(FIRST_PATIENCE_S - 0.1) and router.is_overdue(FIRST_PATIENCE_S)
    router.answered(0.1)
    assert not router.is_overdue(LEAST_PATIENCE_S - 0.1) and router.is_overdue(LEAST_PATIENCE_S)
    for _ in range(RECENT):
        router.answered(5.0)  # a slow machine: that is how it is here
    assert router.route is Route.CLOUD and not router.is_overdue(19.0) and router.is_overdue(20.0)


def test_results_that_stay_out_turn_it_and_any_result_turns_it_back() -> None:
    router = connected()
    router.missed()
    assert router.route is Route.CLOUD, "one may be lost"
    router.missed()
    assert router.choose(0.0, room=False) is Route.EDGE and router.reason == "results do not come"
    router.answered(60.0, missed=True)
    assert router.route is Route.CLOUD


def test_an_answer_in_between_makes_misses_no_row() -> None:
    router = connected(1.0)
    for _ in range(5):
        router.missed()
        router.answered(0.2)
    assert router.route is Route.CLOUD


def test_a_cloud_too_slow_for_the_deadline_is_probed_until_it_is_fast() -> None:
    router = connected(1.0)
    router.answered(0.3)
    assert router.route is Route.CLOUD
    router.answered(1.5)
    router.answered(1.5)
    assert router.route is Route.EDGE and "too slow" in router.reason
    assert router.choose(10.0, room=False) is Route.EDGE, "without room there is no probe"
    assert router.choose(10.0, room=True) is Route.CLOUD
    assert router.choose(10.0 + PROBE_S - 0.1, room=True) is Route.EDGE
    router.answered(1.4, missed=True)
    assert router.route is Route.EDGE
    assert router.choose(10.0 + PROBE_S, room=True) is Route.CLOUD
    router.answered(0.75)  # in time, but only just
    assert router.route is Route.EDGE
    router.answered(0.3)
    assert router.route is Route.CLOUD


def test_a_slow_cloud_that_connects_anew_has_to_show_that_it_is_fast() -> None:
    router = connected(1.0)
    router.missed()
    router.missed()
    for second in range(10):
        router.connection(second % 5 == 4, float(second))
        assert router.route is Route.EDGE
    assert router.choose(9.0, room=True) is Route.CLOUD
    router.answered(0.2)
    assert router.route is Route.CLOUD


def test_a_frame_is_taken_over_so_early_that_it_is_read_in_time() -> None:
    router = connected(1.0)
    for _ in range(40):
        router.lit(0.1)
        router.read(0.3)
    assert not router.is_overdue(0.55) and router.is_overdue(0.65)
    for _ in range(RECENT):
        router.answered(0.55)
    assert not router.is_overdue(0.65), "its result is just about to come"
    assert router.is_overdue(0.75), "but the deadline is near"


def test_a_deadline_shorter_than_a_reading_is_no_endless_wait() -> None:
    router = connected(0.1)
    for _ in range(40):
        router.read(5.0)
    assert router.is_overdue(0.05)
