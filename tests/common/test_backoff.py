from common.backoff import Backoff


def test_delays_double_up_to_their_limit_and_begin_anew() -> None:
    longest = Backoff(0.5, 30, uniform=lambda low, high: high)
    assert [longest.next_s() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert longest.tries == 8
    longest.reset()
    assert [longest.next_s(), longest.next_s()] == [0.5, 1]


def test_they_differ_by_up_to_half() -> None:
    assert Backoff(1, 30, uniform=lambda low, high: low).next_s() == 0.5
    delays = {Backoff(1, 30).next_s() for _ in range(50)}
    assert len(delays) > 20 and 0.5 <= min(delays) < max(delays) <= 1


def test_whoever_was_asked_may_want_it_longer_or_shorter_this_time() -> None:
    longest = Backoff(0.5, 30, uniform=lambda low, high: high)
    assert [longest.next_s(least_s=60), longest.next_s(most_s=0.7), longest.next_s()] == [60, 0.7, 2]


def test_a_year_of_tries() -> None:
    one = Backoff(0.1, 5)
    one.tries = 10**9
    assert 2.5 <= one.next_s() <= 5
