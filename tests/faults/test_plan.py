"""Plans of faults."""

from itertools import combinations

from plan import KINDS, plan

MEMBERS = ["nats-1", "nats-2", "nats-3", "cloud-1", "cloud-2", "edge-1", "edge-2", "edge-3"]


def test_a_seed_makes_one_plan() -> None:
    assert plan(7, 600, 100, MEMBERS) == plan(7, 600, 100, MEMBERS) != plan(8, 600, 100, MEMBERS)


def test_faults_fit_their_member_and_time_and_one_member_has_one_at_a_time() -> None:
    faults = plan(7, 600, 100, MEMBERS)
    assert len(faults) == 100
    assert all(fault.kind in KINDS[fault.member.partition("-")[0]] for fault in faults)
    assert all(0 <= fault.start_s < fault.end_s <= 600 for fault in faults)
    for one, other in combinations(faults, 2):
        apart = one.end_s < other.start_s or other.end_s < one.start_s
        assert apart or one.member != other.member


def test_a_long_run_has_a_link_cut_for_a_minute_and_every_kind() -> None:
    faults = plan(7, 600, 100, MEMBERS)
    assert any(fault.kind == "cut" and fault.end_s - fault.start_s >= 60 for fault in faults)
    assert {fault.kind for fault in faults} == {kind for kinds in KINDS.values() for kind in kinds}


def test_few_members_get_as_many_faults_as_fit() -> None:
    faults = plan(1, 20, 40, ["edge-1"])
    assert 0 < len(faults) < 40
