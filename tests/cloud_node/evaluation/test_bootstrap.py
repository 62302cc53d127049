import numpy as np
import pytest

from cloud_node.evaluation.bootstrap import by_group, difference, estimate, hmean, mean, precision, recall, share_closed


def values(*numbers: float) -> np.ndarray:
    return np.array([[number, 1.0] for number in numbers])


def test_statistics_of_sums() -> None:
    sums = np.array([10.0, 5.0, 20.0])  # found, right, truth
    assert (precision(sums), recall(sums), hmean(sums)) == pytest.approx((0.5, 0.25, 1 / 3))
    assert hmean(np.zeros(3)) == 0
    assert np.isnan(mean(np.zeros(2)))


def test_the_interval_is_about_two_standard_errors() -> None:
    numbers = np.random.default_rng(0).normal(5, 2, 400)
    one = estimate(values(*numbers), mean)
    assert one.value == pytest.approx(numbers.mean())
    assert (one.high - one.low) / 2 == pytest.approx(1.96 * numbers.std() / 20, rel=0.1)
    assert one == estimate(values(*numbers), mean)


def test_counts_are_summed_before_the_ratio() -> None:
    rows = np.array([[10.0, 10.0, 10.0], [1.0, 0.0, 1.0]])
    assert estimate(rows, hmean).value == pytest.approx(20 / 22)


def test_a_small_steady_gain_is_told_from_chance_only_when_paired() -> None:
    numbers = np.random.default_rng(0).normal(20, 4, 50)
    steady = difference(values(*(numbers + 0.3)), values(*numbers), mean)
    assert steady.value == pytest.approx(0.3) and steady.above_zero
    shuffled = difference(values(*(numbers[::-1] + 0.3)), values(*numbers), mean)
    assert shuffled.value == pytest.approx(0.3) and not shuffled.above_zero


def test_share_of_the_gap() -> None:
    raw, bright = np.array([[10.0, 2.0, 10.0]] * 5), np.array([[10.0, 10.0, 10.0]] * 5)
    closed = share_closed(np.array([[10.0, 8.0, 10.0]] * 5), raw, bright, hmean)
    assert closed.value == pytest.approx(0.75)
    assert (closed.low, closed.high) == pytest.approx((0.75, 0.75))
    assert np.isnan(share_closed(raw, bright, bright, hmean).value)


def test_images_that_differ_or_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="same images"):
        difference(values(1, 2), values(1), mean)
    with pytest.raises(ValueError, match="no images"):
        estimate(np.empty((0, 2)), mean)


def test_values_that_are_missing_do_not_count() -> None:
    assert estimate(np.array([[3.0, 1.0], [0.0, 0.0], [5.0, 1.0]]), mean).value == 4


def test_groups_are_drawn_as_one() -> None:
    scenes = np.random.default_rng(0).normal(20, 4, 60)
    twice = values(*np.repeat(scenes, 2))
    grouped = estimate(by_group(twice, [str(i // 2) for i in range(120)]), mean)
    alone, split = estimate(values(*scenes), mean), estimate(twice, mean)
    assert (grouped.value, grouped.low, grouped.high) == pytest.approx((alone.value, alone.low, alone.high))
    assert split.high - split.low < 0.8 * (grouped.high - grouped.low)  # a copy is no evidence


def test_groups_of_one_change_nothing_and_keep_their_order() -> None:
    rows = values(3, 1, 2)
    np.testing.assert_array_equal(by_group(rows, ["c", "a", "b"]), rows)
    np.testing.assert_array_equal(by_group(rows, ["b", "a", "b"]), [[5, 2], [1, 1]])
