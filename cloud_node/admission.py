"""Who may send what, and what happens when more comes than the devices can do."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil

from cloud_node import load as loads
from cloud_node.jobs import Job
from cloud_node.load import Load
from cloud_node.policy import EdgePolicy, Policy
from cloud_node.room import Room
from cloud_node.scheduler import Scheduler, Ticket
from cloud_node.settings import CloudSettings, Limits
from cloud_node.streams import Streams
from common import packing
from common.errors import FrameTooLarge, ImageError, LamplightError, Overloaded, TransportError
from common.frame import Priority
from common.packing import PackedImage
from lamplight.v1 import enhancement_pb2 as pb

SHORT_MS = 100  # to come again when nothing better is known
MOST_MS = 2**31  # that the wire holds
NO_DEVICE_MS = 2_000
REMEMBERED = 1_024  # edges whose use is kept before those that sent nothing lately are looked for


def check_image(image: PackedImage, limits: Limits) -> None:
    """Check every claim of a packed image before memory is taken for it.

    Raises:
        FrameTooLarge: for more pixels or bytes than the limits.
        ImageError: when size, format and payload do not hold together.
    """
    if len(image.payload) > limits.max_frame_bytes:
        raise FrameTooLarge(len(image.payload), limits.max_frame_bytes, "bytes")
    packing.check(image, max_pixels=limits.max_pixels)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a frame is not taken."""

    reason: int  # a RejectReason
    detail: str
    retry_after_ms: int = 0  # 0 = sending it again does not help

    def error(self) -> LamplightError:
        """The same for a unary call."""
        again = f": try again in {self.retry_after_ms} ms" if self.retry_after_ms else ""
        if self.reason in (pb.REJECT_REASON_OVERLOADED, pb.REJECT_REASON_LIMIT):
            return Overloaded(self.detail + again)
        if self.reason == pb.REJECT_REASON_TOO_LARGE:
            return ImageError(self.detail)
        return TransportError(self.detail + again)


@dataclass(slots=True)
class _Use:
    """What one edge took of its limits."""

    tokens: float
    at_ns: int
    bytes: int = 0  # of frames that wait for a device
    pixels: int = 0  # of these

    def fill(self, rule: EdgePolicy, now_ns: int) -> None:
        """Let the time since the last frame count."""
        earned = (now_ns - self.at_ns) * rule.frames_per_s / 1e9 if rule.frames_per_s else _burst(rule)
        self.tokens = min(_burst(rule), self.tokens + earned)
        self.at_ns = now_ns


class Admission:
    """Takes frames in, or says why not.

    - Limits of the edge's policy: pixels, bytes that wait, frames per second (with a burst of one second).
    - A frame that is expected to wait past its deadline is refused at once.
    - Single pictures of one caller, which no window bounds, wait within its bytes, within the pixels of that many of
      the largest frames, and within half of `shed_after_ms`: they alone never have others sent away. A lone one may.
    - When the queue is full, or longer than `shed_after_ms`, less urgent frames are given back to make room, then
      some of edges that have had more than the new one's, by their shares (`room.py`); a frame that does not find
      enough is refused, and none goes for it. So edges share alike what is served, however many they are.

    A frame goes on under the policy's `highest` priority if it claims more: through the queue, the spool and NATS.
    Its result comes on the subject of that priority, which the edge fetches as well.

    Args:
        ticket: (job, width, height, expires_ns) as the scheduler takes it.
        devices: how many devices work now; with none, frames are sent elsewhere.
        wake: called when a frame was queued.
    """

    def __init__(
        self,
        settings: CloudSettings,
        policy: Policy,
        scheduler: Scheduler[Job],
        load: Load,
        streams: Streams,
        *,
        ticket: Callable[[Job, int, int, int], Ticket[Job]],
        devices: Callable[[], int],
        wake: Callable[[], None],
    ) -> None:
        self.settings, self.scheduler, self.load, self.streams = settings, scheduler, load, streams
        self.policy = policy
        self.queued_bytes = 0  # of all frames that wait
        self.sacrificed = 0  # frames given back for others
        self._ticket, self._devices, self._wake = ticket, devices, wake
        self._room = Room(settings.limits, scheduler, load, devices)
        self._rules: dict[str, EdgePolicy] = {}
        self._uses: dict[str, _Use] = {}
        self._remembered = REMEMBERED

    def set_policy(self, policy: Policy) -> None:
        """From now on; frames that wait keep their place."""
        self.policy = policy
        self._rules.clear()

    def rule(self, edge: str) -> EdgePolicy:
        """The policy's words on one edge."""
        if len(self._rules) > 2 * self.settings.limits.max_edges:
            self._rules.clear()
        found = self._rules.get(edge)
        if found is None:
            found = self._rules[edge] = self.policy.of(edge)
        return found

    def wait_ms(self, priority: int) -> float:
        """How long a frame of this priority would wait now, as far as is known."""
        return self.load.wait_ms(self.scheduler.pixels_ahead(priority), self._devices())

    def window(self, edge: str, priority: Priority) -> int:
        """Frames that an edge which sends this priority should have out."""
        wait_ms = self.wait_ms(max(priority, self.rule(edge).highest))
        return loads.window(self.settings.window.window_frames, wait_ms)

    def admit(self, job: Job, width: int, height: int, now_ns: int) -> Refusal | None:
        """Queue a job of `width` x `height` pixels at `now_ns` (monotonic), or say why not.

        From then on `job.release` frees what the job holds here, once however often it is called.
        """
        edge, size = job.frame.id.edge, job.packed_bytes
        rule = self.rule(edge)
        use = self._use(edge, rule, now_ns)
        priority = max(job.frame.priority, rule.highest)
        pixels = width * height
        refusal = _beyond(rule, use, pixels, size)
        if job.reply is not None:
            refusal = refusal or self._hoarded(use, pixels, size)
        refusal = refusal or self._hopeless(priority, job.frame.deadline_ms)
        if refusal is not None:
            return refusal
        if priority != job.frame.priority:
            job.frame = replace(job.frame, priority=priority)
        job.share = rule.share
        expires_ns = job.arrived_ns + job.frame.deadline_ms * 1_000_000 if job.frame.deadline_ms else 0
        ticket = self._ticket(job, width, height, expires_ns)
        refusal = self._crowded(ticket)
        if refusal is not None:
            return refusal
        self._charge(job, use, size, pixels)
        if rule.frames_per_s:
            use.tokens -= 1
        self.scheduler.submit(ticket)
        self._wake()
        return None

    def give_back(
        self, job: Job, detail: str, reason: int = pb.REJECT_REASON_DEVICE, retry_after_ms: int | None = None
    ) -> None:
        """An admitted job will not be worked on: its edge, or caller, may send it again, by default in 1 to 2 s."""
        job.release()
        again_ms = self._retry_ms(NO_DEVICE_MS) if retry_after_ms is None else retry_after_ms
        if job.reply is None:
            id, attempt = job.frame.id, job.frame.attempt
            self.streams.give_back(id.edge, id.session, id.sequence, attempt, reason, detail, again_ms)
        elif not job.reply.done():
            job.reply.set_exception(Refusal(reason, detail, again_ms).error())

    def withdraw(self, job: Job) -> None:
        """Nobody waits for this job any more."""
        for ticket in self.scheduler.withdraw(lambda ticket: ticket.job is job):
            ticket.job.release()

    def _use(self, edge: str, rule: EdgePolicy, now_ns: int) -> _Use:
        """The edge's account, its tokens up to date."""
        use = self._uses.get(edge)
        if use is None:
            if len(self._uses) >= self._remembered:
                self._forget(now_ns)
            use = self._uses[edge] = _Use(_burst(rule), now_ns)
        use.fill(rule, now_ns)
        return use

    def _forget(self, now_ns: int) -> None:
        """Drop accounts that are as good as new."""
        for edge, use in list(self._uses.items()):
            rule = self.rule(edge)
            use.fill(rule, now_ns)
            if not use.bytes and use.tokens >= _burst(rule):
                del self._uses[edge]
        self._remembered = max(REMEMBERED, 2 * len(self._uses))

    def _charge(self, job: Job, use: _Use, size: int, pixels: int) -> None:
        credit, held = job.release, True

        def release() -> None:
            nonlocal held
            if held:
                held = False
                self.queued_bytes -= size
                use.bytes -= size
                use.pixels -= pixels
                credit()

        self.queued_bytes += size
        use.bytes += size
        use.pixels += pixels
        job.release = release

    def _hoarded(self, use: _Use, pixels: int, size: int) -> Refusal | None:
        """Whether single pictures of one caller take what is for all."""
        window, limits = self.settings.window, self.settings.limits
        wait_ms = self.load.wait_ms(use.pixels + pixels, self._devices())
        if use.bytes and (
            use.bytes + size > window.window_bytes
            or use.pixels + pixels > window.window_frames * limits.max_pixels
            or 0 < limits.shed_after_ms < 2 * wait_ms
        ):
            detail = f"pictures of this caller wait already, {use.bytes:,} bytes and {use.pixels:,} pixels"
            return Refusal(pb.REJECT_REASON_LIMIT, detail, self._retry_ms(wait_ms))
        return None

    def _hopeless(self, priority: Priority, deadline_ms: int) -> Refusal | None:
        """Whether it could not be served in time."""
        if not self._devices():
            return Refusal(pb.REJECT_REASON_DEVICE, "no device of this node works", self._retry_ms(NO_DEVICE_MS))
        wait_ms = self.wait_ms(priority)
        if 0 < deadline_ms < wait_ms:
            detail = f"it would wait for about {wait_ms:,.0f} ms, and has {deadline_ms:,} ms"
            return Refusal(pb.REJECT_REASON_OVERLOADED, detail, self._retry_ms(wait_ms - deadline_ms))
        return None

    def _crowded(self, ticket: Ticket[Job]) -> Refusal | None:
        """Make room for a frame by giving others back, or say why there is none."""
        go, full = self._room.victims(ticket, self.queued_bytes)
        if full and not go:
            return Refusal(pb.REJECT_REASON_OVERLOADED, full, self._retry_ms(self.wait_ms(ticket.priority)))
        for victim in go:
            self.scheduler.remove(victim)
            self.sacrificed += 1
            who = "more urgent frames need" if victim.priority > ticket.priority else "an edge that had less needs"
            again_ms = self._retry_ms(self.wait_ms(victim.priority))
            self.give_back(victim.job, f"{who} its place", pb.REJECT_REASON_OVERLOADED, again_ms)
        return None

    def _retry_ms(self, wait_ms: float) -> int:
        return loads.retry_after_ms(wait_ms, random.random())


def _burst(rule: EdgePolicy) -> float:
    return max(1.0, rule.frames_per_s)


def _beyond(rule: EdgePolicy, use: _Use, pixels: int, size: int) -> Refusal | None:
    """What the policy does not allow this edge."""
    if 0 < rule.max_pixels < pixels:
        detail = f"{pixels:,} pixels, this edge may send {rule.max_pixels:,}: send a smaller frame"
        return Refusal(pb.REJECT_REASON_TOO_LARGE, detail)
    if use.bytes and 0 < rule.bytes_in_flight < use.bytes + size:
        detail = f"{use.bytes:,} bytes of this edge wait, with this frame more than its {rule.bytes_in_flight:,}"
        return Refusal(pb.REJECT_REASON_LIMIT, detail, SHORT_MS)
    if rule.frames_per_s and use.tokens < 1 - 1e-9:
        detail = f"this edge may send {rule.frames_per_s:g} frames/s"
        again_ms = min((1 - use.tokens) / rule.frames_per_s * 1_000, MOST_MS)
        return Refusal(pb.REJECT_REASON_LIMIT, detail, ceil(again_ms))
    return None
