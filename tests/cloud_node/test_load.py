import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_node.load import KEPT, RETRY_MS, WINDOW_WAIT_MS, Load, retry_after_ms, window


def test_nothing_waits_before_anything_was_measured() -> None:
    load = Load()
    assert load.ns_per_pixel == 0 and load.wait_ms(10**9, 1) == 0
    load.on_batch(0, 5, 1)
    load.on_batch(5, 0, 1)
    assert load.ns_per_pixel == 0, "an empty batch says nothing"


def test_waits_follow_the_pace_and_the_devices() -> None:
    load = Load()
    load.on_batch(1_000, 50_000, 4)
    assert load.wait_ms(2_000_000, 1) == pytest.approx(100)
    assert load.wait_ms(2_000_000, 4) == pytest.approx(25)
    assert load.wait_ms(2_000_000, 0) == pytest.approx(100), "a device that is lost may come back"


def test_a_change_of_pace_shows_after_some_batches_and_one_outlier_does_not() -> None:
    load = Load()
    for _ in range(100):
        load.on_batch(1_000, 10_000, 1)
    load.on_batch(1_000, 50_000, 1)
    assert load.ns_per_pixel < 15
    for _ in range(30):
        load.on_batch(1_000, 50_000, 1)
    assert load.ns_per_pixel == pytest.approx(50, rel=0.05)


def test_a_small_batch_counts_for_little() -> None:
    load = Load()
    load.on_batch(1_000_000, 10_000_000, 16)
    load.on_batch(100, 100_000, 1)  # a hundred times as long for each pixel
    expected = (KEPT * 10_000_000 + 100_000) / (KEPT * 1_000_000 + 100)
    assert load.ns_per_pixel == pytest.approx(expected) and load.ns_per_pixel < 10.2


@given(st.integers(1, 64), st.floats(0, 1e9), st.floats(0, 1e9))
def test_windows_shrink_as_waits_grow_and_never_close(most: int, wait_ms: float, more_ms: float) -> None:
    assert 1 <= window(most, wait_ms + more_ms) <= window(most, wait_ms) <= most
    assert window(most, WINDOW_WAIT_MS) == most
    assert window(most, WINDOW_WAIT_MS * (most + 1)) == 1


@given(st.floats(0, 1e12), st.floats(0, 1))
def test_when_to_come_again_is_bounded_spread_and_within_the_wait(wait_ms: float, chance: float) -> None:
    least, most = RETRY_MS
    assert least <= retry_after_ms(wait_ms, chance) <= most
    assert retry_after_ms(wait_ms, chance) <= max(wait_ms, 2 * least)
    assert retry_after_ms(wait_ms, 0) <= retry_after_ms(wait_ms, chance) <= retry_after_ms(wait_ms, 1)
