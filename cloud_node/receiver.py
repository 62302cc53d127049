"""Reads one edge's stream: puts parts together, checks frames, hands them to admission and answers."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from cloud_node.admission import Admission, Refusal, check_image
from cloud_node.jobs import Encoding, Job
from cloud_node.parts import PartAssembler, Unfinished
from cloud_node.policy import Policy
from cloud_node.settings import CloudSettings
from cloud_node.streams import EdgeStream
from common import logs, wire
from common.errors import FrameTooLarge, ImageError, Overloaded, StreamRefused
from common.frame import Frame
from common.telemetry import Timeline
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import frame_pb2

log = logging.getLogger(__name__)

FRAME_FIELDS_BYTES = 4 * 1024  # what a serialised frame has beside its payload
HELD_WINDOWS = 4  # windows of frames that one session may have on a node, over all its streams
PART_IDLE_S = 60.0  # a frame that stops in the middle for so long is given up, and the stream with it
SHORT_MS, LONG_MS = 100, 1_000  # to come again


@dataclass(frozen=True, slots=True)
class Terms:
    """How an edge's frames are done."""

    policy: Policy  # by which this was settled
    preset: str
    encoding: Encoding


class Receiver:
    """One edge's stream, from Opened to its end.

    `terms` settles them anew when the policy changed, and raises StreamRefused; `draining` says why the node
    takes no frames, or ""; `unfinished` is for all streams of the node.
    """

    def __init__(
        self,
        stream: EdgeStream,
        settings: CloudSettings,
        admission: Admission,
        terms: Callable[[], Terms],
        draining: Callable[[], str],
        unfinished: Unfinished,
    ) -> None:
        self.stream, self.settings, self.admission = stream, settings, admission
        self._settle_terms, self._draining = terms, draining
        self._terms = terms()
        self._held_limit = HELD_WINDOWS * settings.window.window_frames
        self._parts = PartAssembler(
            settings.limits.max_frame_bytes + FRAME_FIELDS_BYTES,
            settings.window.window_frames,
            settings.window.window_bytes,
            unfinished,
            self._given_up,
        )
        self._check: asyncio.TimerHandle | None = None

    async def run(self, context: grpc.aio.ServicerContext) -> None:
        """Until the edge closes, or the node ends the stream."""
        stream = self.stream
        try:
            while self._take(await context.read()):  # no name here keeps a frame while the stream is idle
                pass
        except Exception as error:
            # What cannot be decoded arrives here as an error of gRPC's; the edge opens a new stream.
            log.warning("edge %s: its stream cannot be read: %s", stream.session.edge, error)
            stream.end(f"a message could not be read: {error}")
        finally:
            stream.end()
            self._parts.clear()
            if self._check is not None:
                self._check.cancel()

    def _take(self, message: pb.EdgeMessage) -> bool:
        """Whether to read on."""
        stream = self.stream
        stream.heard.set()
        if message is grpc.aio.EOF or stream.ended:
            return False
        match message.WhichOneof("message"):
            case "frame":
                self._frame(message.frame)
            case "part":
                self._part(message.part)
            case "alive":
                stream.send(credit=pb.Credit())  # heard
            case "close":
                return False
            case None if message.ByteSize():
                pass  # of a newer edge: docs/upgrades.md
            case other:
                stream.end(f"message {other!r} is not expected here")
        return not stream.ended

    def _part(self, part: frame_pb2.FramePart) -> None:
        """A part that does not fit ends the stream, since what the edge thinks is in flight is lost with it."""
        try:
            whole = self._parts.add(part.sequence, part.attempt, part.index, part.count, part.total_bytes, part.data)
            frame = None if whole is None else frame_pb2.Frame.FromString(whole)
        except Overloaded as error:
            self.stream.reject(part.sequence, part.attempt, pb.REJECT_REASON_OVERLOADED, str(error), LONG_MS)
            return self.stream.end(str(error))
        except (ValueError, DecodeError, FrameTooLarge) as error:
            large = isinstance(error, FrameTooLarge)
            reason = pb.REJECT_REASON_TOO_LARGE if large else pb.REJECT_REASON_MALFORMED
            self.stream.reject(part.sequence, part.attempt, reason, str(error))
            return self.stream.end(f"frame {part.sequence} does not come together: {error}")
        if frame is not None:
            self._frame(frame)
        elif self._check is None:
            self._check_later()

    def _given_up(self, key: tuple[int, int], reason: str) -> None:
        """A frame of this stream made room for another edge's. Its parts may still come, so the stream ends too."""
        detail = f"frame {key[0]} was given up before it was whole: {reason}"
        log.warning("edge %s: %s", self.stream.session.edge, detail)
        self._parts.clear()
        self.stream.reject(*key, pb.REJECT_REASON_OVERLOADED, detail, LONG_MS)
        self.stream.end(detail)

    def _check_later(self) -> None:
        self._check = asyncio.get_running_loop().call_later(PART_IDLE_S, self._check_parts)

    def _check_parts(self) -> None:
        self._check = None
        if (idle := self._parts.idle(PART_IDLE_S)) is not None:
            detail = f"frame {idle[0]} stopped in the middle: no part of it came for {PART_IDLE_S:g} s"
            self._parts.clear()
            self.stream.reject(*idle, pb.REJECT_REASON_MALFORMED, detail, SHORT_MS)
            self.stream.end(detail)
        elif len(self._parts):
            self._check_later()

    def _frame(self, message: frame_pb2.Frame) -> None:
        stream, session = self.stream, self.stream.session
        sequence, attempt, frame = message.sequence, message.attempt, self._decoded(message)
        # Not from the message where that can be helped: it makes a copy each time.
        size = len(frame.image.payload if isinstance(frame, Frame) else message.image.payload)
        within = stream.charge(size)
        if sequence in session.holding:  # sent again, though its result is still to come
            session.holding[sequence] = max(attempt, session.holding[sequence])
            refusal = None
        elif session.seen(sequence, attempt):
            refusal = Refusal(pb.REJECT_REASON_DUPLICATE, "it was accepted before")
        else:
            refusal = frame if isinstance(frame, Refusal) else self._admit(frame, size, within)
            if refusal is None:
                session.holding[sequence] = attempt
                return stream.send(accepted=pb.Accepted(sequence=sequence, attempt=attempt))
            session.forget(sequence)
        if refusal is None:
            stream.send(accepted=pb.Accepted(sequence=sequence, attempt=attempt))
        else:
            stream.reject(sequence, attempt, refusal.reason, refusal.detail, refusal.retry_after_ms)
        stream.release(size, stream.account.window_frames)

    def _decoded(self, message: frame_pb2.Frame) -> Frame | Refusal:
        """The frame, every claim of its image checked."""
        try:
            frame = wire.frame_from_proto(message, self.stream.session.edge, self.stream.session.session)
            check_image(frame.image, self.settings.limits)
            return frame
        except FrameTooLarge as error:
            return Refusal(pb.REJECT_REASON_TOO_LARGE, str(error))
        except ImageError as error:
            return Refusal(pb.REJECT_REASON_MALFORMED, str(error))

    def _admit(self, frame: Frame, size: int, within: bool) -> Refusal | None:
        arrived_unix_ns, arrived_ns = time.time_ns(), time.perf_counter_ns()
        stream, admission = self.stream, self.admission
        if draining := self._draining():
            return Refusal(pb.REJECT_REASON_DRAINING, draining, LONG_MS)
        if not within:
            return Refusal(pb.REJECT_REASON_WINDOW, "sent beyond the window: wait for credit", SHORT_MS)
        if len(stream.session.holding) >= self._held_limit:
            return Refusal(pb.REJECT_REASON_OVERLOADED, "too many of its frames are on this node", LONG_MS)
        if self._terms.policy is not admission.policy:
            try:
                self._terms = self._settle_terms()
            except StreamRefused as error:
                stream.end(str(error))
                return Refusal(pb.REJECT_REASON_LIMIT, str(error), LONG_MS)

        edge, priority = stream.session.edge, frame.priority

        def release() -> None:  # knows nothing of the job, which would keep its payload until the next collection
            stream.release(size, admission.window(edge, priority))

        job = Job(
            frame,
            self._terms.encoding,
            Timeline(frame.trace),
            self._terms.preset,
            release=release,
            arrived_unix_ns=arrived_unix_ns,
        )
        logs.remember(frame.id, frame.trace)
        refusal = admission.admit(job, frame.image.width, frame.image.height, job.arrived_ns)
        spent_ns = time.perf_counter_ns() - arrived_ns
        if refusal is None:
            job.timeline.add("ingress", arrived_unix_ns, spent_ns, (), bytes=size)
        else:
            job.timeline.add("ingress", arrived_unix_ns, spent_ns, (), bytes=size, refused=refusal.detail)
            job.timeline.end(refusal.detail, {"lamplight.edge": edge, "lamplight.priority": priority.name.lower()})
        return refusal
