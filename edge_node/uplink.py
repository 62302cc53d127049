"""The gRPC stream to a cloud node: opens, sends within the window, opens again when it breaks."""

import asyncio
import contextlib
import itertools
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush

import grpc
import grpc.aio

from common import wire
from common.channel import connect
from common.errors import CloudUnavailable, FrameTooLarge, StreamRefused
from common.frame import Frame
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import enhancement_pb2_grpc, frame_pb2

log = logging.getLogger(__name__)

BACKOFF_S = (0.2, 5.0)
OPEN_TIMEOUT_S = 15.0
REFUSED = (
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
)


@dataclass(slots=True)
class Window:
    """Frames and payload bytes that may still go out."""

    frames: int = 0
    bytes: int = 0
    whole: int = 0  # bytes of an unused window
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def reset(self, frames: int, size: int) -> None:
        async with self.changed:
            self.frames, self.bytes, self.whole = frames, size, size
            self.changed.notify_all()

    async def credit(self, frames: int, size: int) -> None:
        async with self.changed:
            self.frames += frames
            self.bytes += size
            self.changed.notify_all()

    async def open(self) -> None:
        """Wait until one more frame may go."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.frames > 0)

    async def take(self, size: int) -> None:
        """Wait for room, and use it. A frame larger than the window goes alone."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.frames > 0 and (size <= self.bytes or self.bytes >= self.whole))
            self.frames -= 1
            self.bytes -= size


class Uplink:
    """One edge's stream.

    `opening()` makes the Open message; the callbacks run in the event loop and must not block:
    `on_opened(Opened)`, `on_rejected(Rejected)`.
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
    ) -> None:
        self.address, self.part_bytes, self.connect_timeout_s = address, part_bytes, connect_timeout_s
        self.window = Window()
        self.connected = False
        self._limits: pb.Opened | None = None
        self._opening, self._on_opened, self._on_rejected = opening, on_opened, on_rejected
        self._queue: list[tuple[int, int, Iterator[pb.EdgeMessage], asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._queued = asyncio.Event()
        self.closed = asyncio.Event()  # after `close`: the stream ended in good order
        self._closing = False
        self._call: grpc.aio.StreamStreamCall | None = None
        self._controls: list[pb.EdgeMessage] = []

    async def reserve(self, frame: Frame) -> None:
        """Wait until the window has room for the frame, and use it.

        Raises:
            FrameTooLarge: the cloud node takes no frame of this size.
        """
        size, pixels = len(frame.image.payload), frame.image.width * frame.image.height
        await self.window.take(size)
        if self._limits is not None and (pixels > self._limits.max_pixels or size > self._limits.max_frame_bytes):
            await self.window.credit(1, size)
            if pixels > self._limits.max_pixels:
                raise FrameTooLarge(pixels, self._limits.max_pixels)
            raise FrameTooLarge(size, self._limits.max_frame_bytes, "bytes")

    async def send(self, frame: Frame) -> None:
        """Send a frame that has its place in the window: waits until its last byte was handed to gRPC.

        Raises:
            CloudUnavailable: the stream broke meanwhile; the frame has to be sent again.
        """
        if not self.connected:
            raise CloudUnavailable("the stream broke before the frame was sent")
        done = asyncio.get_running_loop().create_future()
        messages = messages_of(wire.frame_to_proto(frame), self.part_bytes)
        heappush(self._queue, (frame.priority, next(self._order), messages, done))
        self._queued.set()
        await done

    async def run(self) -> None:
        """Keep a stream open until `close`.

        Raises:
            StreamRefused: the cloud node refused the very first stream.
            CloudUnavailable: none answered within `connect_timeout_s`.
        """
        delay_s, away_since, first, said = BACKOFF_S[0], time.monotonic(), True, ""
        while not self._closing:
            try:
                async with contextlib.aclosing(self._stream()) as stream:
                    async for _ in stream:
                        delay_s, first, away_since, said = BACKOFF_S[0], False, 0.0, ""
                reason = "the stream ended"
            except grpc.aio.AioRpcError as error:
                reason = error.details() or error.code().name
                if first and error.code() in REFUSED:
                    raise StreamRefused(f"cloud node {self.address}: {reason}") from None
            except TimeoutError:
                reason = f"no answer within {OPEN_TIMEOUT_S:.0f} s"
            except asyncio.CancelledError:
                current = asyncio.current_task()
                if current is not None and current.cancelling():
                    raise
                continue  # `renew` cancelled the call, not this task
            finally:
                await self._broken()
            if self._closing:
                break
            away_since = away_since or time.monotonic()
            if self.connect_timeout_s and time.monotonic() - away_since >= self.connect_timeout_s:
                raise CloudUnavailable(
                    f"no cloud node at {self.address} ({reason}): start one with `python -m cloud_node`, "
                    "or name another with --cloud"
                )
            if reason != said:  # one line for each reason, not for each try
                said = reason
                log.warning("no cloud node at %s (%s): trying again, frames wait", self.address, reason)
            await asyncio.sleep(delay_s * random.uniform(0.7, 1.3))
            delay_s = min(delay_s * 2, BACKOFF_S[1])
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
        async with connect(self.address) as channel:
            call = enhancement_pb2_grpc.EnhancementStub(channel).Stream()
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await call.write(pb.EdgeMessage(open=self._opening()))
                message = await call.read()
            if message is grpc.aio.EOF:  # closed without a word; a refusal would have raised
                return
            opened = message.opened
            self._limits, self.connected = opened, True
            await self.window.reset(opened.window_frames, opened.window_bytes)
            log.warning("connected to %s: %s", self.address, opened.model)
            self._on_opened(opened)
            yield
            self._call = call
            writer = asyncio.create_task(self._write(call))
            try:
                while (message := await call.read()) is not grpc.aio.EOF:
                    await self._received(message)
            finally:
                writer.cancel()
                call.cancel()
                await asyncio.gather(writer, return_exceptions=True)

    async def _received(self, message: pb.CloudMessage) -> None:
        match message.WhichOneof("message"):
            case "credit" if self.connected:
                await self.window.credit(message.credit.frames, message.credit.bytes)
            case "rejected":
                self._on_rejected(message.rejected)
            case "go_away":
                log.warning("cloud node %s: %s", self.address, message.go_away.reason)
                self.connected = False  # what is out still comes back; new frames wait for the next stream
                await self.window.reset(0, 0)
            case "probe":
                self._controls.append(pb.EdgeMessage(alive=pb.Alive()))
                self._queued.set()

    async def _write(self, call: grpc.aio.StreamStreamCall) -> None:
        """Write what is queued, most urgent first, a part at a time."""
        while True:
            while self._controls:
                await call.write(self._controls.pop(0))
            if not self._queue:
                if self._closing:
                    await call.write(pb.EdgeMessage(close=pb.Close()))
                    await call.done_writing()
                    return
                self._queued.clear()
                await self._queued.wait()
                continue
            priority, order, messages, done = heappop(self._queue)
            message = next(messages, None)
            if message is None:
                if not done.done():
                    done.set_result(None)
                continue
            heappush(self._queue, (priority, order, messages, done))
            await call.write(message)

    async def _broken(self) -> None:
        self.connected = False
        await self.window.reset(0, 0)
        self._controls.clear()
        while self._queue:
            *_, done = heappop(self._queue)
            if not done.done():
                done.set_exception(CloudUnavailable("the stream broke before the frame was sent"))


def messages_of(frame: frame_pb2.Frame, part_bytes: int) -> Iterator[pb.EdgeMessage]:
    """A frame as one message, or in parts when it is larger than `part_bytes`."""
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
