import pytest

from edge_node.cloud_list import (
    CONNECT_TIMEOUT_S,
    LONGEST_DELAY_S,
    LONGEST_REFUSED_DELAY_S,
    PATIENT_TIMEOUT_S,
    CloudList,
)


def test_every_node_is_tried_before_anyone_waits() -> None:
    clouds = CloudList(["a", "b", "c"])
    tried, waits = [], []
    for _ in range(6):
        tried.append(clouds.current)
        waits.append(clouds.ended())
    assert tried == ["a", "b", "c", "a", "b", "c"]
    assert [wait > 0 for wait in waits] == [False, False, True, False, False, True]


def test_waits_grow_to_a_bound_and_differ() -> None:
    waits = [CloudList(["a"]).ended() for _ in range(50)]
    assert len(set(waits)) > 10 and max(waits) < 0.3
    clouds = CloudList(["a"])
    assert LONGEST_DELAY_S * 0.5 <= [clouds.ended() for _ in range(20)][-1] <= LONGEST_DELAY_S
    clouds = CloudList(["a"])
    assert LONGEST_REFUSED_DELAY_S * 0.5 <= [clouds.ended(refused=True) for _ in range(20)][-1]


def test_a_link_that_is_back_is_found_within_3_s() -> None:
    """TCP repeats its first packet after 1 s, and a try that just began lets at most that pass; then comes the wait."""
    assert CONNECT_TIMEOUT_S <= 2.0 and 1.0 + LONGEST_DELAY_S < 3.0


def test_the_node_that_served_is_tried_once_more() -> None:
    clouds = CloudList(["a", "b"])
    clouds.ended()
    assert clouds.current == "b" and clouds.broke() < 0.2 and clouds.current == "b"
    clouds.served()
    assert clouds.ended() == 0.0 and clouds.current == "a"


def test_waits_are_short_again_once_a_node_served() -> None:
    clouds = CloudList(["a"])
    for _ in range(20):
        clouds.ended()
    clouds.served()
    assert clouds.ended() < 0.3


def timeouts(round_trip_s: float) -> list[float]:
    clouds, found = CloudList(["a"]), []
    for _ in range(12):
        found.append(clouds.connect_timeout_s(round_trip_s))
        clouds.ended()
    return found


def test_it_has_patience_until_it_knows_the_link() -> None:
    assert timeouts(0.0).count(PATIENT_TIMEOUT_S) == 3
    assert set(timeouts(0.06)) == {CONNECT_TIMEOUT_S}
    assert min(timeouts(0.6)) == 3.0


def test_no_node() -> None:
    with pytest.raises(ValueError):
        CloudList([])
