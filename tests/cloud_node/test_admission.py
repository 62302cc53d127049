import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hand_edges import rules, ticket

from cloud_node.admission import REMEMBERED, Admission, Refusal, check_image
from cloud_node.jobs import Encoding, Job
from cloud_node.load import Load
from cloud_node.policy import Policy
from cloud_node.room import MOST_VICTIMS
from cloud_node.scheduler import Scheduler, Ticket
from cloud_node.settings import CloudSettings, Limits, Window
from cloud_node.streams import Streams
from common import packing
from common.errors import CorruptImage, FrameTooLarge, ImageError, Overloaded, TransportError
from common.frame import Frame, FrameId, Priority, Result
from common.packing import ImageFormat
from common.pixels import PixelFormat, RawImage
from common.telemetry import Timeline
from lamplight.v1 import enhancement_pb2 as pb

PACKED = packing.pack(RawImage(np.zeros(20 * 10, np.uint8), 20, 10, PixelFormat.GRAY8))
SIZE = len(PACKED.payload)
PIXELS = 200
MS = 1_000_000
ESSENTIAL, STANDARD, SECONDARY = Priority


class Desk:
    """An admission over a real scheduler; a device takes 1 ms for a frame once `measured`."""

    def __init__(self, policy: Policy | None = None, **limits: int) -> None:
        self.devices, self.woken, self.credited = 1, 0, 0
        settings = CloudSettings(limits=Limits(**limits), window=Window(window_frames=8))
        self.scheduler: Scheduler[Job] = Scheduler(1, 1, 10**15)
        self.load, self.streams = Load(), Streams(settings.window, 10)
        self.admission = Admission(
            settings,
            policy or Policy(),
            self.scheduler,
            self.load,
            self.streams,
            ticket=ticket,
            devices=lambda: self.devices,
            wake=self._wake,
        )

    def _wake(self) -> None:
        self.woken += 1

    def _credit(self) -> None:
        self.credited += 1

    def measured(self) -> "Desk":
        self.load.on_batch(PIXELS, MS, 1)
        return self

    def job(self, sequence: int = 0, priority: Priority = STANDARD, edge: str = "cam", deadline_ms: int = 0) -> Job:
        frame = Frame(FrameId(edge, "s", sequence), PACKED, 0, priority, deadline_ms=deadline_ms)
        return Job(frame, Encoding(ImageFormat.JPEG), Timeline({}), release=self._credit)

    def admit(self, job: Job, now_ns: int = 0) -> Refusal | None:
        return self.admission.admit(job, 20, 10, now_ns)

    def send(self, count: int, priority: Priority = STANDARD, edge: str = "cam") -> list[Refusal | None]:
        return [self.admit(self.job(number, priority, edge)) for number in range(count)]


def test_an_admitted_job_waits_and_its_release_frees_what_it_holds_once() -> None:
    desk = Desk()
    job = desk.job(deadline_ms=500)
    assert desk.admit(job) is None
    assert (len(desk.scheduler), desk.woken, desk.admission.queued_bytes) == (1, 1, SIZE)
    [waiting] = desk.scheduler.preview(0)
    assert waiting.job is job and waiting.expires_ns == job.arrived_ns + 500 * MS
    job.release()
    job.release()
    assert (desk.credited, desk.admission.queued_bytes) == (1, 0)


def test_the_share_of_the_policy_goes_with_the_job() -> None:
    desk = Desk(rules(cam={"share": 3.0}))
    first, other = desk.job(edge="cam"), desk.job(edge="other")
    assert desk.admit(first) is None and desk.admit(other) is None
    assert (first.share, other.share) == (3.0, 1.0)


@pytest.mark.parametrize("claimed", Priority)
@pytest.mark.parametrize("highest", Priority)
def test_a_frame_goes_on_under_the_priority_that_its_edge_may_have(claimed: Priority, highest: Priority) -> None:
    desk = Desk(rules(cam={"highest": highest}))
    job = desk.job(priority=claimed)
    assert desk.admit(job) is None
    expected = max(claimed, highest)
    assert job.frame.priority is expected and desk.scheduler.preview(0)[0].priority == expected


def test_frames_per_second_with_a_burst_of_one_second() -> None:
    desk = Desk(rules(cam={"frames_per_s": 4.0}))
    refusals = [desk.admit(desk.job(number), now_ns=7) for number in range(6)]
    assert [refusal is None for refusal in refusals] == [True] * 4 + [False] * 2
    refusal = refusals[-1]
    assert refusal is not None and refusal.reason == pb.REJECT_REASON_LIMIT and "4 frames/s" in refusal.detail
    assert refusal.retry_after_ms == 250
    again = 7 + refusal.retry_after_ms * MS
    assert desk.admit(desk.job(7), now_ns=again - 2 * MS) is not None
    assert desk.admit(desk.job(7), now_ns=again) is None, "that is when it may come again"
    assert desk.admit(desk.job(8), now_ns=again) is not None
    assert [refusal is None for refusal in desk.send(3, edge="other")] == [True] * 3, "another edge has no limit"


def test_less_than_a_frame_per_second() -> None:
    desk = Desk(rules(cam={"frames_per_s": 0.1}))
    assert desk.admit(desk.job(), now_ns=0) is None
    refusal = desk.admit(desk.job(1), now_ns=4_000 * MS)
    assert refusal is not None and refusal.retry_after_ms == 6_000
    assert desk.admit(desk.job(1), now_ns=10_000 * MS) is None
    never = Desk(rules(cam={"frames_per_s": 1e-308}))
    refusal = [never.admit(never.job()) for _ in range(2)][1]
    assert refusal is not None and refusal.retry_after_ms == 2**31


def test_a_limit_that_comes_later_does_not_count_what_was_before_it() -> None:
    desk = Desk()
    desk.send(100)
    desk.admission.set_policy(rules(cam={"frames_per_s": 2.0}))
    assert desk.admit(desk.job(), now_ns=500 * MS) is None
    desk.admission.set_policy(Policy())
    assert desk.send(50) == [None] * 50


def test_bytes_that_wait_but_a_lone_frame_may_be_larger() -> None:
    desk = Desk(rules(cam={"bytes_in_flight": SIZE * 5 // 2}, tiny={"bytes_in_flight": 1}))
    jobs = [desk.job(number) for number in range(3)]
    refusals = [desk.admit(job) for job in jobs]
    assert refusals[:2] == [None, None]
    assert refusals[2] is not None and refusals[2].reason == pb.REJECT_REASON_LIMIT and refusals[2].retry_after_ms
    jobs[0].release()
    assert desk.admit(jobs[2]) is None
    assert [refusal is None for refusal in desk.send(2, edge="tiny")] == [True, False]


def test_pixels() -> None:
    desk = Desk(rules(cam={"max_pixels": PIXELS}, tiny={"max_pixels": PIXELS - 1}))
    assert desk.admit(desk.job()) is None
    refusal = desk.admit(desk.job(edge="tiny"))
    assert refusal is not None and refusal.reason == pb.REJECT_REASON_TOO_LARGE and not refusal.retry_after_ms
    assert "200 pixels" in refusal.detail and "199" in refusal.detail


def test_the_queue_is_bounded_in_frames_and_bytes() -> None:
    desk = Desk(max_queued=3)
    refusals = desk.send(4)
    assert refusals[:3] == [None] * 3
    assert refusals[3] is not None and refusals[3].reason == pb.REJECT_REASON_OVERLOADED
    assert "3 frames wait" in refusals[3].detail and refusals[3].retry_after_ms > 0
    full = Desk(max_queued_mib=1)
    full.admission.queued_bytes = 2**20 - SIZE
    assert [refusal is None for refusal in full.send(2)] == [True, False]


def test_a_frame_that_would_wait_past_its_deadline_is_refused_at_once() -> None:
    desk = Desk().measured()
    assert desk.send(10) == [None] * 10
    assert desk.admission.wait_ms(STANDARD) == pytest.approx(10)
    late = desk.admit(desk.job(deadline_ms=9))
    assert late is not None and late.reason == pb.REJECT_REASON_OVERLOADED and late.retry_after_ms > 0
    assert "10 ms, and has 9 ms" in late.detail
    assert desk.admit(desk.job(deadline_ms=11)) is None
    assert desk.admit(desk.job(priority=ESSENTIAL, deadline_ms=1)) is None, "nothing waits before it"
    desk.devices = 4
    assert desk.admit(desk.job(deadline_ms=9)) is None, "four devices share the work"


def test_nothing_is_shed_before_anything_was_measured() -> None:
    desk = Desk(shed_after_ms=1)
    assert desk.send(100) == [None] * 100
    assert desk.admit(desk.job(deadline_ms=1)) is None


def test_a_long_queue_sheds_the_least_urgent_and_refuses_its_like() -> None:
    desk = Desk(shed_after_ms=5).measured()
    assert [refusal is None for refusal in desk.send(10, SECONDARY)] == [True] * 6 + [False] * 4
    assert desk.send(6, STANDARD) == [None] * 6, "each takes the place of a secondary frame"
    assert desk.admission.sacrificed == 6 and desk.credited == 6
    assert [waiting.priority for waiting in drained(desk)] == [STANDARD] * 6
    never = Desk(shed_after_ms=0).measured()
    assert never.send(100, SECONDARY) == [None] * 100


def test_nothing_is_sacrificed_for_a_frame_that_finds_no_room_all_the_same() -> None:
    desk = Desk(max_queued_mib=1)
    big = [
        desk.job(number, priority, edge) for number, (priority, edge) in enumerate([(STANDARD, "a"), (SECONDARY, "b")])
    ]
    for job, mebibytes in zip(big, (0.9, 0.05), strict=True):
        job.frame = replace(job.frame, image=replace(PACKED, payload=bytes(int(mebibytes * 2**20))))
        assert desk.admit(job) is None
    late = desk.job(2, STANDARD, "c")
    late.frame = replace(late.frame, image=replace(PACKED, payload=bytes(2**19)))
    refusal = desk.admit(late)
    assert refusal is not None and refusal.reason == pb.REJECT_REASON_OVERLOADED
    assert desk.admission.sacrificed == 0 and {waiting.job for waiting in drained(desk)} == set(big)


@pytest.mark.parametrize("limits", [{"max_queued": 4}, {"shed_after_ms": 3}], ids=["frames", "wait"])
def test_a_full_queue_is_shared_by_edges_however_late_they_come(limits: dict[str, int]) -> None:
    desk = Desk(**limits).measured()
    assert desk.send(4, edge="loud") == [None] * 4
    late = desk.send(4, edge="late")
    assert [refusal is None for refusal in late] == [True, True, False, False]
    assert late[2] is not None and late[2].reason == pb.REJECT_REASON_OVERLOADED and late[2].retry_after_ms > 0
    refusals = desk.send(3, SECONDARY, "bulk") + desk.send(1, STANDARD, "loud")
    assert None not in refusals
    assert [(each.edge, each.job.frame.id.sequence) for each in drained(desk)] == [
        ("loud", 0), ("late", 0), ("loud", 1), ("late", 1),
    ]  # fmt: skip
    assert desk.admission.sacrificed == 2 and desk.credited == 2, "the newest of the loud one"


def test_a_queue_far_over_its_bound_costs_little_for_each_frame_that_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk(shed_after_ms=4 * MOST_VICTIMS).measured()
    assert desk.send(MOST_VICTIMS, edge="loud") == [None] * MOST_VICTIMS
    assert desk.send(3 * MOST_VICTIMS, SECONDARY, "loud") == [None] * (3 * MOST_VICTIMS)
    desk.load.on_batch(PIXELS, 10**4 * MS, 1)  # far slower from now on
    looked_at = list[Priority]()

    def noted(victims: Callable[..., Iterator[Ticket[Job]]], *asked: object) -> Iterator[Ticket[Job]]:
        for victim in victims(*asked):
            looked_at.append(Priority(victim.priority))
            yield victim

    for name in ("less_urgent", "rivals"):
        monkeypatch.setattr(desk.scheduler, name, partial(noted, getattr(desk.scheduler, name)))
    assert None not in desk.send(1, SECONDARY, "late") and not looked_at, "more urgent ones fill it alone"
    assert None not in desk.send(1, STANDARD, "late") and desk.admission.sacrificed == 0
    assert set(looked_at) == {STANDARD} and len(looked_at) <= MOST_VICTIMS, "for what is less urgent is too little"
    assert desk.send(1, ESSENTIAL, "late") == [None], "less urgent frames go, however many"
    assert desk.admission.sacrificed == 4 * MOST_VICTIMS


def test_a_large_frame_takes_the_place_of_as_many_small_ones_as_it_is_worth() -> None:
    desk = Desk(max_queued_mib=1).measured()

    def job(size: int, edge: str, sequence: int) -> Job:
        made = desk.job(sequence, edge=edge)
        made.frame = replace(made.frame, image=replace(PACKED, payload=bytes(size)))
        return made

    small = 2**20 // (4 * MOST_VICTIMS)
    assert [desk.admit(job(small, "loud", number)) for number in range(4 * MOST_VICTIMS)] == [None] * 4 * MOST_VICTIMS
    assert desk.admit(job(2 * MOST_VICTIMS * small, "late", 0)) is None
    assert desk.admission.sacrificed == 2 * MOST_VICTIMS


def test_a_large_frame_looks_no_longer_where_all_that_had_more_is_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(max_queued_mib=1).measured()
    small, looked_at = 2**20 // (8 * MOST_VICTIMS), list[object]()

    def job(size: int, edge: str, sequence: int) -> Job:
        made = desk.job(sequence, edge=edge)
        made.frame = replace(made.frame, image=replace(PACKED, payload=bytes(size)))
        return made

    for number in range(4 * MOST_VICTIMS):
        assert desk.admit(job(small, "loud", number)) is None
        assert desk.admit(job(small, f"quiet-{number}", 0)) is None
    rivals = desk.scheduler.rivals
    monkeypatch.setattr(
        desk.scheduler, "rivals", lambda asks: map(lambda one: looked_at.append(one) or one, rivals(asks))
    )
    large = 2**19 + small
    assert desk.admit(job(large, "late", 0)) is not None and desk.admission.sacrificed == 0
    assert len(looked_at) <= MOST_VICTIMS + 1
    assert desk.admit(job(large - 8 * small, "late", 1)) is None, "of all but the last few there is enough"
    assert {one.edge for one in looked_at} == {"loud"} and desk.admission.sacrificed > MOST_VICTIMS


def test_an_essential_frame_goes_for_no_lesser_one() -> None:
    desk = Desk(max_queued=2)
    assert desk.send(2, ESSENTIAL, "loud") == [None] * 2
    assert None not in desk.send(2, STANDARD, "late") and desk.admission.sacrificed == 0
    assert desk.send(1, ESSENTIAL, "late") == [None], "but for another edge's"


def drained(desk: Desk) -> list:
    taken = []
    while batch := desk.scheduler.select(0).batch:
        taken += batch
    return taken


async def test_a_sacrificed_frame_is_told_to_its_edge_once_and_may_come_again() -> None:
    desk = Desk(max_queued=1)
    stream = await desk.streams.join("bulk", "s")
    session = stream.session
    assert not session.seen(5, 0) and desk.admit(victim := desk.job(5, SECONDARY, "bulk")) is None
    session.holding[5] = 0
    assert desk.admit(desk.job(1, ESSENTIAL)) is None
    message = await stream.next()
    assert message is not None and message.rejected.reason == pb.REJECT_REASON_OVERLOADED
    assert (message.rejected.sequence, message.rejected.attempt) == (5, 0) and message.rejected.retry_after_ms > 0
    assert not session.holding and not session.seen(5, 0), "the same attempt may come again"
    victim.release()
    assert desk.credited == 1 and desk.admission.queued_bytes == SIZE
    stream.end()
    assert await stream.next() is None, "nothing else was said"


async def test_a_unary_job_that_is_given_back_fails_for_its_caller() -> None:
    desk = Desk(max_queued=1)
    reply: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    victim = desk.job(0, SECONDARY)
    victim.reply = reply
    assert desk.admit(victim) is None and desk.admit(desk.job(1)) is None
    with pytest.raises(Overloaded, match="more urgent .*try again in"):
        await reply
    other = desk.job(2)
    other.reply = asyncio.get_running_loop().create_future()
    desk.admission.give_back(other, "the device is lost")
    desk.admission.give_back(other, "said twice")
    with pytest.raises(TransportError, match="the device is lost: try again in 1[0-9]{3} ms"):
        await other.reply


def test_a_frame_that_nobody_waits_for_leaves_the_queue() -> None:
    desk = Desk()
    jobs = [desk.job(number) for number in range(3)]
    assert [desk.admit(job) for job in jobs] == [None] * 3
    desk.admission.withdraw(jobs[1])
    desk.admission.withdraw(jobs[1])
    assert [waiting.job for waiting in drained(desk)] == [jobs[0], jobs[2]]
    assert desk.admission.queued_bytes == 2 * SIZE and desk.credited == 1


def test_without_a_device_frames_are_sent_elsewhere() -> None:
    desk = Desk()
    desk.devices = 0
    refusal = desk.admit(desk.job())
    assert refusal is not None and refusal.reason == pb.REJECT_REASON_DEVICE and refusal.retry_after_ms > 0
    assert isinstance(refusal.error(), TransportError)


def test_a_refused_frame_costs_its_edge_nothing() -> None:
    desk = Desk(rules(cam={"frames_per_s": 1.0, "bytes_in_flight": SIZE}), max_queued=1)
    assert desk.admit(desk.job(edge="other")) is None
    for _ in range(3):
        refusal = desk.admit(desk.job())
        assert refusal is not None and refusal.reason == pb.REJECT_REASON_OVERLOADED
    drained(desk)
    assert desk.admit(desk.job()) is None


def test_refusals_as_errors_of_a_unary_call() -> None:
    assert isinstance(Refusal(pb.REJECT_REASON_TOO_LARGE, "x").error(), ImageError)
    assert isinstance(Refusal(pb.REJECT_REASON_LIMIT, "x", 5).error(), Overloaded)


def test_windows_shrink_for_those_who_would_wait() -> None:
    desk = Desk(rules(low={"highest": SECONDARY})).measured()
    assert desk.admission.window("cam", SECONDARY) == 8
    desk.load.on_batch(PIXELS, 1_000 * MS, 1)  # now some 500 ms for a frame
    desk.send(6, SECONDARY)
    assert desk.admission.window("cam", SECONDARY) == 2 and desk.admission.window("cam", ESSENTIAL) == 8
    assert desk.admission.window("low", ESSENTIAL) == 2, "what it claims does not count"


def test_what_is_known_of_edges_that_left_is_forgotten() -> None:
    desk = Desk(rules(slow={"frames_per_s": 0.001}))
    assert desk.admit(desk.job(edge="slow"), 0) is None
    drained(desk)[0].job.release()
    for number in range(3 * REMEMBERED):
        job = desk.job(edge=f"edge{number}")
        assert desk.admit(job, number) is None
        job.release()
    assert len(desk.admission._uses) <= REMEMBERED + 1
    assert desk.admit(desk.job(edge="slow"), 5_000 * MS) is not None, "but not a limit that still holds"


def test_images_are_checked_before_memory_is_taken() -> None:
    check_image(PACKED, Limits())
    with pytest.raises(FrameTooLarge, match="200 pixels, the limit is 199"):
        check_image(PACKED, Limits(max_pixels=199))
    with pytest.raises(FrameTooLarge, match="bytes, the limit is 3"):
        check_image(PACKED, Limits(max_frame_bytes=3))
    claimed = packing.PackedImage(21, 10, *[getattr(PACKED, name) for name in PACKED.__slots__[2:]])
    with pytest.raises(CorruptImage, match="claims 200 bytes, expected 210"):
        check_image(claimed, Limits())
