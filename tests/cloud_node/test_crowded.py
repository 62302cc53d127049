"""Who goes for a frame that finds the queue full: as a plain walk through all that is lesser would say."""

from typing import Any

from examples import examples
from hand_edges import rules, ticket
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_node import room as module
from cloud_node.admission import Admission, Refusal
from cloud_node.jobs import Encoding, Job
from cloud_node.load import Load
from cloud_node.scheduler import Scheduler, Ticket
from cloud_node.settings import CloudSettings, Limits
from cloud_node.streams import Streams
from common.frame import Frame, FrameId, Priority
from common.packing import Filter, ImageFormat, PackedImage
from common.pixels import ColorMatrix, ColorRange, PixelFormat
from common.telemetry import Timeline
from lamplight.v1 import enhancement_pb2 as pb

MS = 1_000_000
KIB = 1024
SHARES = {"a": 1.0, "b": 2.0, "c": 0.5, "d": 1.0}
MOST_VICTIMS = 3


class Plain(Admission):
    """Gives up one frame after another until there is room, and looks at the end whether there is."""

    def _crowded(self, ticket: Ticket[Job]) -> Refusal | None:
        frames, queued_bytes = len(self.scheduler), self.queued_bytes
        pixels = self.scheduler.pixels_ahead(max(Priority))
        victims, rivals = self.scheduler.less_urgent(ticket.priority), None
        go: list[Ticket[Job]] = []
        equals = equal_bytes = 0
        while self._no_room(frames, queued_bytes, pixels, ticket.bytes):
            victim = next(victims, None)
            if victim is None and rivals is None:
                victims = rivals = self.scheduler.rivals(ticket)
                victim = next(victims, None)
            equals += rivals is not None
            if victim is None or (equals > MOST_VICTIMS and equal_bytes >= ticket.bytes):
                return Refusal(pb.REJECT_REASON_OVERLOADED, "")
            equal_bytes += victim.bytes if rivals is not None else 0
            go.append(victim)
            frames, queued_bytes, pixels = frames - 1, queued_bytes - victim.bytes, pixels - victim.pixels
        for victim in go:
            self.scheduler.remove(victim)
            self.sacrificed += 1
            self.give_back(victim.job, "")
        return None

    def _no_room(self, frames: int, queued_bytes: int, pixels: int, size: int) -> bool:
        limits = self.settings.limits
        return (
            frames >= limits.max_queued
            or (queued_bytes > 0 and queued_bytes + size > limits.max_queued_mib * 2**20)
            or 0 < limits.shed_after_ms < self.load.wait_ms(pixels, 1)
        )


class Desk:
    """A queue and who may join it."""

    def __init__(self, kind: type[Admission], limits: Limits) -> None:
        self.given_back: list[tuple[str, int]] = []
        self.taken: list[Job] = []  # on their way to a device, their bytes still counted
        config = CloudSettings(limits=limits)
        self.scheduler: Scheduler[Job] = Scheduler(4, 2, 1_000 * MS)
        self.load = Load()
        self.load.on_batch(1, MS, 1)
        self.admission = kind(
            config,
            rules(**{edge: {"share": share} for edge, share in SHARES.items()}),
            self.scheduler,
            self.load,
            Streams(config.window, 10),
            ticket=ticket,
            devices=lambda: 1,
            wake=lambda: None,
        )
        self.admission.give_back = self._given_back  # type: ignore[method-assign]

    def _given_back(self, job: Job, *why: Any) -> None:
        job.release()
        self.given_back.append((job.frame.id.edge, job.frame.id.sequence))

    def do(self, number: int, step: tuple[Any, ...]) -> Any:
        now_ns = number * MS
        match step:
            case ("send", edge, priority, pixels, kib, deadline_ms):
                image = PackedImage(
                    pixels, 1, PixelFormat.GRAY8, ColorRange.FULL, ColorMatrix.BT601, Filter.NONE, bytes(kib * KIB)
                )
                frame = Frame(FrameId(edge, "s", number), image, 0, priority, deadline_ms=deadline_ms)
                job = Job(frame, Encoding(ImageFormat.JPEG), Timeline({}), arrived_ns=now_ns)
                job.share = SHARES[edge]
                refusal = self.admission.admit(job, pixels, 1, now_ns)
                return None if refusal is None else refusal.reason
            case ("serve", released):
                chosen = self.scheduler.select(now_ns)
                self.taken += [each.job for each in chosen.batch + chosen.expired]
                while released and self.taken:
                    self.taken.pop(0).release()
                return [each.job.frame.id for each in chosen.batch]
            case ("look", ahead_ms):  # what has expired is out of the queue, and counted until it is told
                self.scheduler.preview(now_ns + ahead_ms * MS)
            case ("pace", ms):
                return self.load.on_batch(10, 10 * ms * MS, 1)
            case ("leave", edge):
                for gone in self.scheduler.withdraw(lambda waiting: waiting.edge == edge):
                    gone.job.release()
        return None

    def state(self) -> tuple[Any, ...]:
        levels = self.scheduler._levels.items()
        return (
            [(each.edge, each.job.frame.id.sequence) for each in self.scheduler._waiting],
            self.given_back,
            self.admission.queued_bytes,
            self.admission.sacrificed,
            {(number, name): (edge.had, edge.came) for number, level in levels for name, edge in level._edges.items()},
        )


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("send"),
            st.sampled_from("abcd"),
            st.sampled_from(Priority),
            st.integers(1, 5),  # pixels, of which one takes a millisecond at first
            st.sampled_from([1, 200, 300, 900]),  # KiB
            st.sampled_from([0, 0, 100]),  # its deadline
        ),
        st.tuples(st.just("serve"), st.booleans()),
        st.tuples(st.just("look"), st.sampled_from([0, 100])),
        st.tuples(st.just("pace"), st.sampled_from([1, 30])),
        st.tuples(st.just("leave"), st.sampled_from("abcd")),
    ),
    min_size=10,
    max_size=60,
)
limits = st.builds(
    Limits, max_queued=st.integers(1, 12), max_queued_mib=st.integers(1, 3), shed_after_ms=st.sampled_from([0, 10, 30])
)


@settings(max_examples=examples(400), deadline=None)
@given(limits, steps)
def test_the_same_frames_go_and_the_same_are_refused_as_by_a_plain_walk(bounds: Limits, played: list[tuple]) -> None:
    before, module.MOST_VICTIMS = module.MOST_VICTIMS, MOST_VICTIMS
    try:
        desk, plain = Desk(Admission, bounds), Desk(Plain, bounds)
        for number, step in enumerate(played):
            assert desk.do(number, step) == plain.do(number, step)
            assert desk.state() == plain.state()
    finally:
        module.MOST_VICTIMS = before
