from cloud_node.restarts import RestartLimit


def test_waits_double_and_the_device_is_given_up_after_the_last() -> None:
    limit = RestartLimit(most=3, within_s=600, first_delay_s=1)
    assert [limit.delay_s([10.0 * n for n in range(past)], 100) for past in range(4)] == [1, 2, 4, None]


def test_restarts_long_ago_do_not_count() -> None:
    limit = RestartLimit(most=2, within_s=600, first_delay_s=0.5)
    assert limit.delay_s([0, 1], 500) is None
    assert limit.delay_s([0, 1], 600.5) == 1
    assert limit.delay_s([0, 1], 1_000) == 0.5


def test_no_restart_at_all() -> None:
    assert RestartLimit(most=0).delay_s([], 0) is None
