"""The gRPC stream to one of the cloud nodes: opens, sends within the window, opens again when it breaks."""

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from heapq import heappop, heappush

import grpc
import grpc.aio

from common import wire
from common.channel import IDLE_PING_S, connect, explained
from common.errors import CloudUnavailable, FrameTooLarge, StreamRefused
from common.frame import Frame, Priority
from common.identity import Identity
from edge_node.cloud_list import CloudList
from edge_node.link import Key, LinkMeter
from edge_node.sockets import URGENT_COMES_S, URGENT_THROUGH_S, BbrProbe, new_mark, tune_for_slow_link
from edge_node.window import Window
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import enhancement_pb2_grpc, frame_pb2

log = logging.getLogger(__name__)

OPEN_TIMEOUT_S = 15.0
WATCH_S = 0.25
EXPECTED_S = 0.05  # what the socket holds keeps the link busy for as long
WAITED_S = 0.005  # a write that takes longer waited for the link
SERVED_S = 2.0  # a stream that lasted so long did serve
REFUSED = (
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
)


class Uplink:
    """One edge's stream, to whichever node of a list serves it.

    `opening()` makes the Open message; the callbacks run in the event loop and must not block:
    `on_opened(Opened)`, `on_rejected(Rejected)`.

    Args:
        address: HOST:PORT of a cloud node, or several with commas.
        part_bytes: larger frames travel in parts, of this size at most; on a slow link of less.
        identity: of an enrolled edge. One that is replaced is shown from the next stream on, which is opened at once.
    """

    def __init__(
        self,
        address: str,
        *,
        opening: Callable[[], pb.Open],
        on_opened: Callable[[pb.Opened], None],
        on_rejected: Callable[[pb.Rejected], None],
        part_bytes: int,
        connect_timeout_s: float = 0.0,
        identity: Identity | None = None,
    ) -> None:
        self.clouds = CloudList(address.split(","))
        self.part_bytes, self.connect_timeout_s = part_bytes, connect_timeout_s
        self._identity, self._shown = identity, identity and identity.bundle
        self.meter = LinkMeter()
        self.window = Window(self.meter.frames_ahead)
        self.connected = False
        self.opened = 0  # streams so far
        self._limits: pb.Opened | None = None
        self._opening, self._on_opened, self._on_rejected = opening, on_opened, on_rejected
        self._queue: list[tuple[int, int, Key, Iterator[pb.EdgeMessage], asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._queued = asyncio.Event()
        self.closed = asyncio.Event()  # after `close`: the stream ended in good order
        self._closing = False
        self._call: grpc.aio.StreamStreamCall | None = None
        self._controls: list[pb.EdgeMessage] = []
        self._stalled = ""  # why we gave the stream up
        self._sent_away = False  # by the cloud node, in good order
        self._progress_s = self._said_s = self._heard_s = self._asked_s = 0.0  # monotonic
        self._mark = new_mark()
        self._tuned, self._probe = False, BbrProbe(self._mark)
        self._urgent: set[Key] = set()  # essential frames on the link
        self._expected_s = 0.0  # monotonic: until then one more is waited for
        self._writing = self._owed = False  # now; something is to come of what was written
        self._accepts = False  # a node said Accepted once: from then on none may leave it out

    @property
    def address(self) -> str:
        """Of the cloud node in use, or tried."""
        return self.clouds.current

    async def reserve(self, frame: Frame) -> None:
        """Wait until the window has room for the frame, and use it.

        Raises:
            FrameTooLarge: the cloud node takes no frame of this size.
        """
        size, pixels = len(frame.image.payload), frame.image.width * frame.image.height
        await self.window.take(size, frame.priority, _key(frame))
        if self._limits is not None and (pixels > self._limits.max_pixels or size > self._limits.max_frame_bytes):
            await self.release(frame)
            if pixels > self._limits.max_pixels:
                raise FrameTooLarge(pixels, self._limits.max_pixels)
            raise FrameTooLarge(size, self._limits.max_frame_bytes, "bytes")

    async def release(self, frame: Frame) -> None:
        """Give back what `reserve` took: the frame will not be sent."""
        await self.window.arrived(_key(frame))
        await self.window.credit(1, len(frame.image.payload))

    def expect(self) -> None:
        """An essential frame is about to come: on a slow link what is less urgent waits for it, for 50 ms at most."""
        if self._tuned:
            self._expected_s = time.monotonic() + EXPECTED_S

    async def send(self, frame: Frame) -> None:
        """Send a frame that has its place in the window: waits until its last byte was handed to gRPC.

        Raises:
            CloudUnavailable: the stream broke meanwhile; the frame has to be sent again.
        """
        if not self.connected:
            raise CloudUnavailable("the stream broke before the frame was sent")
        if frame.priority is Priority.ESSENTIAL:
            self._urgent.add(_key(frame))
            self._expected_s = 0.0
            self._put_off_probe(URGENT_COMES_S)
        done = asyncio.get_running_loop().create_future()
        messages = messages_of(wire.frame_to_proto(frame), self._part_bytes)
        heappush(self._queue, (frame.priority, next(self._order), _key(frame), messages, done))
        self._queued.set()
        await done

    async def run(self) -> None:
        """Keep a stream open until `close`.

        Raises:
            StreamRefused: every cloud node refused, before any served.
            CloudUnavailable: none answered within `connect_timeout_s`.
        """
        away_since, said, refusing, served_once = time.monotonic(), "", set[str](), False
        while not self._closing:
            opened_s, refused, where = 0.0, False, self.address
            try:
                async with contextlib.aclosing(self._stream()) as stream:
                    async for _ in stream:
                        opened_s, away_since, said, served_once = time.monotonic(), 0.0, "", True
                reason = "the stream ended"
            except grpc.aio.AioRpcError as error:
                reason = explained(error, self._identity)
                refused = error.code() is not grpc.StatusCode.UNAVAILABLE
                if not served_once and error.code() in REFUSED:  # no wait will change it
                    refusing.add(where)
                    if refusing >= set(self.clouds.addresses):
                        raise StreamRefused(f"cloud node {where}: {reason}") from None
            except TimeoutError as error:
                reason = str(error) or "no answer"
            except asyncio.CancelledError:
                current = asyncio.current_task()
                if current is not None and current.cancelling():
                    raise
                if not self._stalled:
                    continue  # `renew` cancelled the call, not this task
                reason = self._stalled
            finally:
                await self._broken()
            if self._closing:
                break
            away_since = away_since or time.monotonic()
            if self.connect_timeout_s and time.monotonic() - away_since >= self.connect_timeout_s:
                raise CloudUnavailable(
                    f"no cloud node at {self.clouds} ({reason}): start one with `python -m cloud_node`, "
                    "or name another with --cloud"
                )
            if reason != said and not self._sent_away:  # one line for each reason, not for each try
                said = reason
                log.warning("no cloud node at %s (%s): trying again", where, reason)
            served = bool(opened_s) and time.monotonic() - opened_s >= SERVED_S
            if served:
                self.clouds.served()
            await asyncio.sleep(self.clouds.broke() if served and not self._stalled else self.clouds.ended(refused))
        self.closed.set()

    def renew(self) -> None:
        """Open the stream anew, so that the cloud node makes what is missing for this edge."""
        if self._call is not None:
            self._call.cancel()

    def close(self) -> None:
        """No more frames: end the stream in good order."""
        self._closing = True
        self._queued.set()

    async def _stream(self) -> AsyncGenerator[None, None]:
        """One stream from open to end; yields once it is open."""
        self._stalled, self._sent_away = "", False
        self._shown = self._identity and self._identity.bundle
        async with connect(self.address, self._identity, keepalive_timeout_ms=self._mark) as channel:
            call = enhancement_pb2_grpc.EnhancementStub(channel).Stream()
            message = await self._open(call)
            if message is grpc.aio.EOF:  # closed without a word; a refusal would have raised
                return
            opened = message.opened
            self._limits, self.connected, self._tuned = opened, True, False
            self.opened += 1
            self._progress_s = self._said_s = self._heard_s = time.monotonic()
            self._asked_s, self._writing, self._owed = 0.0, False, False
            await self.window.reset(opened.window_frames, opened.window_bytes)
            log.warning("connected to %s: %s", self.address, opened.model[: wire.MAX_NAME])
            self._on_opened(opened)
            yield
            self._call = call
            tasks = [asyncio.create_task(self._write(call)), asyncio.create_task(self._watch(call))]
            try:
                while (message := await call.read()) is not grpc.aio.EOF:
                    await self._received(message)
            finally:
                call.cancel()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _open(self, call: grpc.aio.StreamStreamCall) -> pb.CloudMessage:
        """Say Open; returns the answer. Raises TimeoutError with what did not come in time."""
        limit_s = self.clouds.connect_timeout_s(self.meter.round_trip_s)
        try:
            async with asyncio.timeout(limit_s):
                await call.write(pb.EdgeMessage(open=self._opening()))
            limit_s, asked_s = OPEN_TIMEOUT_S, time.monotonic()
            async with asyncio.timeout(limit_s):
                message = await call.read()
        except TimeoutError:
            raise TimeoutError(f"no answer within {limit_s:g} s") from None
        self.meter.restart()
        self.meter.answered(time.monotonic() - asked_s)
        return message

    async def _watch(self, call: grpc.aio.StreamStreamCall) -> None:
        """Give up a stream that makes no progress; keep one alive that has nothing to say."""
        before_s = time.monotonic()
        while True:
            await asyncio.sleep(WATCH_S)
            now = time.monotonic()
            self._probe.lift(now)
            if now - before_s > 1.0:  # it was us who were held up
                self._progress_s += now - before_s
            before_s = now
            if self._identity is not None and self._identity.bundle is not self._shown:
                return self.renew()
            self._owed = bool(self._writing or (self._accepts and (self._asked_s or self.meter.in_flight)))
            if self._owed:
                limit_s = self.meter.stall_s()
                if now - self._progress_s >= limit_s:
                    self._stalled = f"no progress for {limit_s:.0f} s"
                    call.cancel()
                    return
            elif not self._asked_s and now - min(self._said_s, self._heard_s) >= IDLE_PING_S:
                self._asked_s = self._progress_s = now
                self._control(pb.EdgeMessage(alive=pb.Alive()))

    def _control(self, message: pb.EdgeMessage) -> None:
        self._controls.append(message)
        self._queued.set()

    async def _received(self, message: pb.CloudMessage) -> None:
        self._progress_s = self._heard_s = time.monotonic()
        match message.WhichOneof("message"):
            case "credit" if self._asked_s and not (message.credit.frames or message.credit.bytes):
                self.meter.answered(self._heard_s - self._asked_s)
                self._asked_s = 0.0
            case "accepted":
                await self._arrived((message.accepted.sequence, message.accepted.attempt))
            case "credit" if self.connected:
                await self.window.credit(message.credit.frames, message.credit.bytes)
            case "rejected":
                await self._arrived((message.rejected.sequence, message.rejected.attempt))
                self._on_rejected(message.rejected)
            case "go_away":
                log.warning("cloud node %s: %s", self.address, message.go_away.reason[: wire.MAX_REASON])
                self._sent_away = True
                self.connected = False  # what is out still comes back; new frames wait for the next stream
                await self.window.reset(0, 0)
            case "probe":
                self._control(pb.EdgeMessage(alive=pb.Alive()))

    async def _arrived(self, key: Key) -> None:
        self._accepts = True
        self.meter.arrived(key, self._heard_s)
        if self.meter.slow and not self._tuned:
            self._tuned = True
            tune_for_slow_link(self._mark)
        if key in self._urgent:
            self._urgent.discard(key)
            if not self._urgent:
                self._put_off_probe(URGENT_THROUGH_S)
        await self.window.arrived(key)

    def _put_off_probe(self, after_s: float) -> None:
        if self._tuned:
            try:
                self._probe.put_off(self.meter.rate, time.monotonic(), after_s)
            except Exception as error:  # the link works without
                log.debug("BBR's probe is not put off: %s", error)

    async def _write(self, call: grpc.aio.StreamStreamCall) -> None:
        """Write what is queued, most urgent first, a part at a time."""
        while True:
            while self._controls:
                await self._put(call, self._controls.pop(0))
            if not self._queue:
                self.meter.pause()
                if self._closing:
                    await call.write(pb.EdgeMessage(close=pb.Close()))
                    await call.done_writing()
                    return
                self._queued.clear()
                await self._queued.wait()
                continue
            wait_s = self._expected_s - time.monotonic()
            if wait_s > 0 and self._queue[0][0] != Priority.ESSENTIAL:
                self._queued.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._queued.wait()
                continue
            priority, order, key, messages, done = heappop(self._queue)
            message = next(messages, None)
            if message is None:
                if not done.done():
                    done.set_result(None)
                continue
            heappush(self._queue, (priority, order, key, messages, done))
            self.meter.writing(key, message.ByteSize(), time.monotonic())
            await self._put(call, message)
            self.meter.wrote(key, self._said_s)

    async def _put(self, call: grpc.aio.StreamStreamCall, message: pb.EdgeMessage) -> None:
        """Write; what had to wait and went through is progress, what a buffer took at once is none."""
        started_s, self._writing = time.monotonic(), True
        if not self._owed:
            self._progress_s, self._owed = started_s, True
        await call.write(message)
        self._said_s, self._writing = time.monotonic(), False
        if self._said_s - started_s > WAITED_S:
            self._progress_s = self._said_s

    def _part_bytes(self) -> int:
        return self.meter.part_bytes(self.part_bytes, time.monotonic())

    async def _broken(self) -> None:
        self.connected = False
        await self.window.reset(0, 0)
        self._controls.clear()
        self._urgent.clear()
        while self._queue:
            *_, done = heappop(self._queue)
            if not done.done():
                done.set_exception(CloudUnavailable("the stream broke before the frame was sent"))


def _key(frame: Frame) -> Key:
    return frame.id.sequence, frame.attempt


def messages_of(frame: frame_pb2.Frame, size: Callable[[], int]) -> Iterator[pb.EdgeMessage]:
    """A frame as one message, or in parts when it is larger than `size()` once its turn comes."""
    part_bytes = size()
    if len(frame.image.payload) <= part_bytes:
        yield pb.EdgeMessage(frame=frame)
        return
    whole = frame.SerializeToString()
    count = -(-len(whole) // part_bytes)
    for index in range(count):
        yield pb.EdgeMessage(
            part=frame_pb2.FramePart(
                sequence=frame.sequence,
                attempt=frame.attempt,
                index=index,
                count=count,
                total_bytes=len(whole),
                data=whole[index * part_bytes : (index + 1) * part_bytes],
            )
        )
