from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from cloud_node.scheduler import Scheduler, Ticket

MS = 1_000_000


def make(max_pixels: int = 100, max_frames: int = 4, max_wait_ms: int = 1_000) -> Scheduler[str]:
    return Scheduler(max_pixels, max_frames, max_wait_ms * MS)


def ticket(job: str, edge: str = "a", priority: int = 2, at_ms: int = 0, **more: object) -> Ticket[str]:
    fields = {"bucket": "small", "pixels": 10, **more}
    return Ticket(edge=edge, priority=priority, arrived_ns=at_ms * MS, job=job, **fields)


def names(tickets: list[Ticket[str]]) -> list[str]:
    return [ticket.job for ticket in tickets]


def test_nothing_waits() -> None:
    selection = make().select(0)
    assert selection.batch == [] and selection.expired == []


def test_the_most_urgent_goes_first_and_fills_with_the_next() -> None:
    scheduler = make(max_frames=2)
    for job, priority in (("c", 3), ("b", 2), ("a", 1)):
        scheduler.submit(ticket(job, priority=priority))
    assert names(scheduler.select(0).batch) == ["a", "b"]
    assert names(scheduler.select(0).batch) == ["c"]


def test_edges_of_one_priority_take_turns() -> None:
    scheduler = make(max_frames=1)
    for number in range(3):
        scheduler.submit(ticket(f"loud{number}", edge="loud"))
    scheduler.submit(ticket("quiet", edge="quiet"))
    order = [names(scheduler.select(0).batch)[0] for _ in range(4)]
    assert order == ["loud0", "quiet", "loud1", "loud2"]


def test_a_batch_holds_one_bucket() -> None:
    scheduler = make()
    scheduler.submit(ticket("s1", edge="a"))
    scheduler.submit(ticket("l1", edge="b", bucket="large"))
    scheduler.submit(ticket("s2", edge="c"))
    assert names(scheduler.select(0).batch) == ["s1", "s2"]
    assert names(scheduler.select(0).batch) == ["l1"]


def test_a_large_frame_of_another_bucket_does_not_end_the_batch() -> None:
    scheduler = make(max_pixels=25)
    for edge, bucket, pixels in (("a", "small", 10), ("b", "large", 20), ("c", "small", 10)):
        scheduler.submit(ticket(edge, edge=edge, bucket=bucket, pixels=pixels))
    assert names(scheduler.select(0).batch) == ["a", "c"]


def test_pixels_bound_the_batch_but_one_large_frame_goes_alone() -> None:
    scheduler = make(max_pixels=25)
    for number in range(3):
        scheduler.submit(ticket(str(number)))
    assert names(scheduler.select(0).batch) == ["0", "1"]
    huge = make(max_pixels=25)
    huge.submit(ticket("huge", pixels=1_000))
    assert names(huge.select(0).batch) == ["huge"]


def test_expired_frames_are_told_and_never_batched() -> None:
    scheduler = make()
    scheduler.submit(ticket("late", expires_ns=5 * MS))
    scheduler.submit(ticket("never"))
    selection = scheduler.select(5 * MS)
    assert (names(selection.batch), names(selection.expired)) == (["never"], ["late"])


def test_a_waiting_frame_is_not_starved_and_essential_waits_for_one_batch_at_most() -> None:
    scheduler = make(max_frames=1, max_wait_ms=100)
    scheduler.submit(ticket("old", edge="slow", priority=3))
    scheduler.submit(ticket("old2", edge="slow2", priority=3))
    order = []
    for number in range(5):
        scheduler.submit(ticket(f"e{number}", priority=1, at_ms=150))
        order += names(scheduler.select(150 * MS).batch)
    assert order == ["old", "e0", "old2", "e1", "e2"]


def test_withdraw() -> None:
    scheduler = make()
    for edge in "aba":
        scheduler.submit(ticket(edge, edge=edge))
    assert names(scheduler.withdraw(lambda waiting: waiting.edge == "a")) == ["a", "a"]
    assert len(scheduler) == 1


arrivals = st.lists(
    st.tuples(
        st.sampled_from("abcd"),  # edge
        st.integers(1, 3),  # priority
        st.sampled_from(["s", "m"]),  # bucket
        st.integers(0, 3_000),  # arrival, ms
        st.sampled_from([0, 0, 0, 500]),  # deadline, ms
    ),
    max_size=60,
)


@given(arrivals, st.integers(1, 5), st.integers(1, 60))
def test_every_frame_leaves_once_and_no_bound_is_broken(frames: list, max_frames: int, max_pixels: int) -> None:
    scheduler = make(max_pixels, max_frames, max_wait_ms=400)
    submitted, left, now = Counter(), Counter(), 0
    frames = sorted(enumerate(frames), key=lambda item: item[1][3])
    while frames or len(scheduler):
        while frames and frames[0][1][3] <= now:
            number, (edge, priority, bucket, at_ms, deadline) = frames.pop(0)
            job = f"{number}"
            expires = (at_ms + deadline) * MS if deadline else 0
            scheduler.submit(ticket(job, edge, priority, at_ms, bucket=bucket, expires_ns=expires))
            submitted[job] += 1
        selection = scheduler.select(now * MS)
        assert len(selection.batch) <= max_frames
        assert len({waiting.bucket for waiting in selection.batch}) <= 1
        assert len(selection.batch) == 1 or sum(waiting.pixels for waiting in selection.batch) <= max_pixels
        assert all(not waiting.expires_ns or waiting.expires_ns > now * MS for waiting in selection.batch)
        assert selection.batch or not len(scheduler), "an idle device takes what waits"
        left.update(names(selection.batch) + names(selection.expired))
        now += 50 if selection.batch else (frames[0][1][3] - now if frames else 1)
    assert left == submitted


@given(st.integers(2, 6), st.integers(1, 20))
def test_equal_edges_share_evenly(edges: int, rounds: int) -> None:
    scheduler = make(max_frames=1)
    for edge in range(edges):
        for number in range(rounds * (1 + edge)):  # whatever each one sends
            scheduler.submit(ticket(f"{number}", edge=str(edge)))
    served = Counter(scheduler.select(0).batch[0].edge for _ in range(edges * rounds))
    assert set(served.values()) == {rounds}
