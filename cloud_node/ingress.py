"""The gRPC service: open a stream, admit frames, answer. Results leave by the publisher."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
from google.protobuf.message import DecodeError

from cloud_node.admission import check_image
from cloud_node.jobs import Encoding, Job
from cloud_node.settings import CloudSettings
from cloud_node.streams import EdgeStream, PartAssembler, Streams
from common import packing, wire
from common.errors import Draining, Expired, FrameTooLarge, ImageError, LamplightError, Overloaded, StreamRefused
from common.frame import Frame, FrameId, Outcome, Result
from common.packing import EncodedImage, ImageFormat, PackedImage
from common.pixels import ColorMatrix, ColorRange, PixelFormat
from common.telemetry import Timeline
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import enhancement_pb2_grpc, frame_pb2, image_pb2, result_pb2

log = logging.getLogger(__name__)

OPEN_TIMEOUT_S = 10.0  # a stream that opens and says nothing
MAX_UNSETTLED = 1_024
FRAME_FIELDS_BYTES = 4 * 1024  # what a serialised frame has beside its payload
HELD_WINDOWS = 4  # windows of frames that one session may have on a node, over all its streams


class Ingress(enhancement_pb2_grpc.EnhancementServicer):
    """Serves lamplight.v1.Enhancement.

    `submit` takes an admitted job; False when the queue is full. `address` makes an edge's consumers and
    says where its results will be; it raises BrokerUnavailable while NATS is away.
    """

    def __init__(
        self,
        settings: CloudSettings,
        node: str,
        model: str,
        streams: Streams,
        submit: Callable[[Job, int, int, int], bool],
        address: Callable[[str], Awaitable[pb.ResultsAddress]],
    ) -> None:
        self.settings, self.node, self.model, self.streams = settings, node, model, streams
        self.draining = ""
        self._submit, self._address = submit, address

    # --- the stream of an edge ---

    async def Stream(
        self, requests: AsyncIterator[pb.EdgeMessage], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.CloudMessage]:
        try:
            stream, opened = await self._open(requests)
        except LamplightError as error:
            log.warning("stream from %s refused: %s", context.peer(), error)
            await context.abort(error.status, str(error))
        edge = stream.session.edge
        log.info("edge %s: stream open (session %s, %s)", edge, stream.session.session, context.peer())
        reader = asyncio.create_task(self._read(stream, requests))
        try:
            yield opened
            while (message := await stream.next()) is not None:
                yield message
        finally:
            reader.cancel()
            self.streams.leave(stream)
            log.info("edge %s: stream over (%s)", edge, stream.ended)
        if stream.ended != "closed":
            await context.abort(grpc.StatusCode.ABORTED, stream.ended)

    async def _open(self, requests: AsyncIterator[pb.EdgeMessage]) -> tuple[EdgeStream, pb.CloudMessage]:
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                first = await anext(requests, None)
        except TimeoutError:
            raise StreamRefused(f"no Open within {OPEN_TIMEOUT_S:.0f} s") from None
        if first is None or first.WhichOneof("message") != "open":
            raise StreamRefused("the first message of a stream must be Open")
        if self.draining:
            raise Draining(self.draining)
        request = first.open
        self._check_preset(request.preset)
        if len(request.unsettled) > MAX_UNSETTLED:
            raise StreamRefused(f"Open lists {len(request.unsettled)} unsettled frames, {MAX_UNSETTLED} at most")
        stream = await self.streams.join(request.edge, request.session, self._encoding(request.encoding))
        try:
            address = await self._address(request.edge)
        except BaseException:
            self.streams.leave(stream)
            raise
        opened = pb.Opened(
            node=self.node,
            model=self.model,
            window_frames=self.settings.window.window_frames,
            window_bytes=self.settings.window.window_bytes,
            max_pixels=self.settings.limits.max_pixels,
            max_frame_bytes=self.settings.limits.max_frame_bytes,
            results=address,
            holding=sorted(stream.session.holding & set(request.unsettled)),
        )
        return stream, pb.CloudMessage(opened=opened)

    async def _read(self, stream: EdgeStream, requests: AsyncIterator[pb.EdgeMessage]) -> None:
        parts = PartAssembler(self.settings.limits.max_frame_bytes + FRAME_FIELDS_BYTES, self.settings.window)
        try:
            async for message in requests:
                stream.heard.set()
                if stream.ended:
                    return
                match message.WhichOneof("message"):
                    case "frame":
                        self._frame(stream, message.frame)
                    case "part":
                        self._part(stream, parts, message.part)
                    case "alive":
                        pass
                    case "close":
                        return
                    case other:
                        return stream.end(f"message {other!r} is not expected here")
        except Exception as error:
            # What cannot be decoded arrives here as an error of gRPC's; the edge opens a new stream.
            log.warning("edge %s: its stream cannot be read: %s", stream.session.edge, error)
            stream.end(f"a message could not be read: {error}")
        finally:
            stream.end()

    def _part(self, stream: EdgeStream, parts: PartAssembler, part: frame_pb2.FramePart) -> None:
        """A part that does not fit ends the stream, since what the edge thinks is in flight is lost with it."""
        try:
            whole = parts.add(part.sequence, part.attempt, part.index, part.count, part.total_bytes, part.data)
            frame = None if whole is None else frame_pb2.Frame.FromString(whole)
        except (ValueError, DecodeError, FrameTooLarge) as error:
            large = isinstance(error, FrameTooLarge)
            reason = pb.REJECT_REASON_TOO_LARGE if large else pb.REJECT_REASON_MALFORMED
            self._reject(stream, part.sequence, part.attempt, reason, str(error))
            return stream.end(f"frame {part.sequence} does not come together: {error}")
        if frame is not None:
            self._frame(stream, frame)

    def _frame(self, stream: EdgeStream, message: frame_pb2.Frame) -> None:
        arrived_unix_ns, arrived_ns = time.time_ns(), time.perf_counter_ns()
        session, size = stream.session, len(message.image.payload)
        sequence, attempt = message.sequence, message.attempt
        within = stream.account.charge(size)
        released = False

        def release() -> None:
            nonlocal released
            if not released:
                released = True
                stream.release(size)

        def reject(reason: int, detail: str, retry_after_ms: int = 0) -> None:
            session.forget(sequence)
            self._reject(stream, sequence, attempt, reason, detail, retry_after_ms)
            release()

        if sequence in session.holding:  # sent again, though its result is still to come
            stream.send(accepted=pb.Accepted(sequence=sequence, attempt=attempt))
            release()
            return
        if len(session.holding) >= HELD_WINDOWS * self.settings.window.window_frames:
            return reject(pb.REJECT_REASON_OVERLOADED, "too many of its frames are on this node", 1_000)
        if session.seen(sequence, attempt):
            self._reject(stream, sequence, attempt, pb.REJECT_REASON_DUPLICATE, "it was accepted before")
            release()
            return
        if self.draining:
            return reject(pb.REJECT_REASON_DRAINING, self.draining, retry_after_ms=1_000)
        if not within:
            return reject(pb.REJECT_REASON_WINDOW, "sent beyond the window: wait for credit", 100)
        try:
            frame = wire.frame_from_proto(message, session.edge, session.session)
            check_image(frame.image, self.settings.limits)
        except FrameTooLarge as error:
            return reject(pb.REJECT_REASON_TOO_LARGE, str(error))
        except ImageError as error:
            return reject(pb.REJECT_REASON_MALFORMED, str(error))
        job = Job(frame, stream.encoding, Timeline(frame.trace), release, arrived_unix_ns=arrived_unix_ns)
        if not self._submit(job, frame.image.width, frame.image.height, frame.deadline_ms):
            return reject(pb.REJECT_REASON_OVERLOADED, "too many frames wait on this node", 1_000)
        session.holding.add(sequence)
        stream.send(accepted=pb.Accepted(sequence=sequence, attempt=attempt))
        job.timeline.add("ingress", arrived_unix_ns, time.perf_counter_ns() - arrived_ns, (), bytes=size)

    def _reject(
        self,
        stream: EdgeStream,
        sequence: int,
        attempt: int,
        reason: int,
        detail: str,
        retry_after_ms: int = 0,
    ) -> None:
        log.info("edge %s: frame %d rejected: %s", stream.session.edge, sequence, detail)
        stream.send(
            rejected=pb.Rejected(
                sequence=sequence,
                attempt=attempt,
                reason=reason,
                detail=detail,
                retry_after_ms=retry_after_ms,
            )
        )

    # --- a single picture ---

    async def Enhance(self, request: pb.Image, context: grpc.aio.ServicerContext) -> result_pb2.Result:
        try:
            return wire.result_to_proto(await self._single(request, context.peer()))
        except LamplightError as error:
            await context.abort(error.status, str(error))

    async def _single(self, request: pb.Image, peer: str) -> Result:
        arrived_unix_ns, arrived_ns = time.time_ns(), time.perf_counter_ns()
        if self.draining:
            raise Draining(self.draining)
        self._check_preset(request.preset)
        packed, encoded = self._content(request)
        frame = Frame(
            id=FrameId(f"single {peer}", uuid.uuid4().hex, 0),
            image=packed,
            captured_unix_ns=arrived_unix_ns,
            priority=wire.priority_from_proto(request.priority),
            deadline_ms=request.deadline_ms,
            trace=wire.trace_from_proto(request.trace),
        )
        reply: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        encoding = self._encoding(request.encoding)
        job = Job(frame, encoding, Timeline(frame.trace), reply=reply, encoded=encoded)
        if not self._submit(job, packed.width, packed.height, request.deadline_ms):
            raise Overloaded("too many frames wait on this node: try again in a second")
        job.timeline.add("ingress", arrived_unix_ns, time.perf_counter_ns() - arrived_ns)
        result = await reply
        if result.outcome is Outcome.EXPIRED:
            raise Expired(result.reason)
        if result.outcome is Outcome.FAILED:
            raise ImageError(result.reason) if job.image_broken else LamplightError(result.reason)
        return result

    def _content(self, request: pb.Image) -> tuple[PackedImage, EncodedImage | None]:
        """What came, checked by its headers: it is unpacked when its turn comes."""
        match request.WhichOneof("content"):
            case "packed":
                packed = wire.packed_from_proto(request.packed)
                check_image(packed, self.settings.limits)
                return packed, None
            case "encoded":
                encoded = wire.encoded_from_proto(request.encoded)
                packing.check_pixels(encoded.width, encoded.height, self.settings.limits.max_pixels)
                return _described(encoded), encoded
        raise ImageError("the request carries no image")

    # --- both ---

    def _check_preset(self, preset: str) -> None:
        mine = self.settings.preset
        if preset and preset != mine:
            raise StreamRefused(f"this node serves preset '{mine}', not '{preset}': ask for '{mine}' or leave it out")

    def _encoding(self, wanted: image_pb2.ResultEncoding) -> Encoding:
        try:
            image_format = ImageFormat(wanted.format or self.settings.result_format)
        except ValueError:
            raise StreamRefused(f"result format {wanted.format} is not known to this node") from None
        if image_format is ImageFormat.PNG:
            raise StreamRefused("results come as lossless, jpeg or webp")
        if wanted.quality > 100:
            raise StreamRefused(f"quality {wanted.quality}: 1..100, or 0 for the node's choice")
        return Encoding(image_format, wanted.quality or self.settings.quality)


def _described(encoded: EncodedImage) -> PackedImage:
    """The size of a file, as a packed image without content."""
    return PackedImage(
        width=encoded.width,
        height=encoded.height,
        pixel_format=PixelFormat.RGB24,
        color_range=ColorRange.FULL,
        color_matrix=ColorMatrix.BT601,
        filter=packing.Filter.NONE,
        payload=b"",
    )
