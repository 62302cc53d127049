import random
from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SettingsError
from common.frame import Priority
from common.settings import load
from edge_node.load import LoadSettings
from edge_node.load.flights import Backlog, Flight
from edge_node.load.schedule import priorities, schedule
from edge_node.load.settings import Arrivals, Traffic


def settings(**changed: object) -> LoadSettings:
    return LoadSettings(source="photos", **{"fps": 10.0, "duration_s": 50.0, "warm_up_s": 0.0} | changed)


def test_fixed_arrivals_keep_their_distance_and_edges_do_not_beat_in_step() -> None:
    times = [arrival.due_s for arrival in schedule(settings(), 3)]
    assert len(times) == 500
    assert all(0.0999 < later - earlier < 0.1001 for earlier, later in zip(times, times[1:], strict=False))
    firsts = {next(schedule(settings(), edge)).due_s for edge in range(20)}
    assert len(firsts) == 20 and all(0 <= first < 0.1 for first in firsts)


def test_poisson_arrivals_come_by_chance_at_the_rate_that_was_asked_for() -> None:
    asked = settings(duration_s=400.0, traffic=Traffic(arrivals=Arrivals.POISSON))
    times = [arrival.due_s for arrival in schedule(asked, 0)]
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    assert times == sorted(times) and times[-1] < 400
    assert 3_700 < len(times) < 4_300  # 4,000, and five standard deviations of 63
    short = sum(gap < 0.1 for gap in gaps) / len(gaps)
    assert 0.59 < short < 0.67  # 1 - 1/e of an exponential lie below its mean


def test_the_same_seed_gives_the_same_arrivals_and_another_gives_others() -> None:
    def first(seed: int, edge: int) -> list:
        return list(islice(schedule(settings(traffic=Traffic(arrivals=Arrivals.POISSON, seed=seed)), edge), 50))

    assert first(1, 0) == first(1, 0)
    assert first(1, 0) != first(2, 0)
    assert first(1, 0) != first(1, 1)


@given(st.tuples(*[st.floats(0, 100)] * 3).filter(lambda weights: sum(weights) > 1), st.integers(0, 1000))
def test_the_mix_is_exact_in_the_long_run(weights: tuple[float, float, float], seed: int) -> None:
    chosen = Counter(islice(priorities(weights, random.Random(seed)), 1_000))
    for priority, weight in zip(Priority, weights, strict=True):
        assert abs(chosen[priority] - 1_000 * weight / sum(weights)) <= 3
        if weight == 0:
            assert chosen[priority] == 0


def flight(sequence: int, priority: Priority = Priority.STANDARD) -> Flight:
    return Flight(sequence, priority, due_s=0.0, row=sequence)


def test_a_backlog_gives_the_most_urgent_and_oldest_and_drops_the_least_urgent_and_newest() -> None:
    backlog = Backlog(3)
    for each in (
        flight(0, Priority.SECONDARY),
        flight(1),
        flight(2, Priority.SECONDARY),
        flight(3, Priority.ESSENTIAL),
    ):
        backlog.push(each)
    dropped = backlog.drop()
    assert dropped is not None and dropped.sequence == 2
    assert backlog.drop() is None
    assert [backlog.pop().sequence for _ in range(len(backlog))] == [3, 1, 0]


def test_a_backlog_lets_go_of_what_is_not_wanted() -> None:
    backlog = Backlog(9)
    for sequence in range(9):
        backlog.push(flight(sequence, Priority(1 + sequence % 3)))
    backlog.keep(lambda flight: flight.sequence % 2 == 0)
    assert [backlog.pop().sequence for _ in range(len(backlog))] == [0, 6, 4, 2, 8]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "say what to send"),
        (["--edges", "0"], "--edges 0: at least 1"),
        (["--fps", "nan"], "--fps nan"),
        (["--priority-mix", "1:2"], "as 10:60:30"),
        (["--priority-mix", "0:0:0"], "as 10:60:30"),
        (["--priority-mix", "1:-1:1"], "as 10:60:30"),
        (["--size", "640"], "as 640x360"),
        (["--processes", "9"], "one for each of the 8 edges"),
        (["--result-format", "png"], "png is not offered"),
        (["--name", "a.b"], "A-Z a-z 0-9"),
        (["--arrivals", "bursts"], "one of fixed, poisson"),
    ],
)
def test_settings_that_cannot_be(arguments: list[str], words: str) -> None:
    source = ["--source", "photos"] if arguments else []
    with pytest.raises(SettingsError, match=words):
        load(LoadSettings, [*source, *arguments], {}, prog="load")


def test_settings_from_flags() -> None:
    flags = "--source p --edges 64 --fps 10 --priority-mix 10:60:30 --duration 5 --warm-up 1 --arrivals poisson --retry"
    given = load(LoadSettings, flags.split(), {}, prog="load")
    assert (given.weights, given.end_s, given.traffic.retry) == ((10, 60, 30), 6.0, True)
    assert given.traffic.arrivals is Arrivals.POISSON
