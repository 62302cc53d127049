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
from common.errors import BrokerUnavailable, FrameTooLarge, ImageError, LamplightError, StreamRefused
from common.frame import Frame, FrameId, Outcome, Result
from common.packing import ImageFormat, PackedImage
from common.pixels import RawImage
from common.telemetry import Timeline
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import enhancement_pb2_grpc, frame_pb2, image_pb2, result_pb2

log = logging.getLogger(__name__)

OPEN_TIMEOUT_S = 10.0  # a stream that opens and says nothing


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
        yield opened
        reader = asyncio.create_task(self._read(stream, requests))
        try:
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
            raise BrokerUnavailable(self.draining)
        request = first.open
        self._check_preset(request.preset)
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
        limits, window = self.settings.limits, self.settings.window
        parts = PartAssembler(limits.max_frame_bytes + 64 * 1024, window.window_frames)
        try:
            async for message in requests:
                stream.heard.set()
                match message.WhichOneof("message"):
                    case "frame":
                        self._frame(stream, message.frame)
                    case "part":
                        self._part(stream, parts, message.part)
                    case "alive":
                        pass
                    case "close":
                        stream.end()
                        return
                    case other:
                        stream.end(f"message {other!r} is not expected here")
                        return
        except grpc.RpcError as error:
            log.info("edge %s: %s", stream.session.edge, error)
        stream.end()

    def _part(self, stream: EdgeStream, parts: PartAssembler, part: frame_pb2.FramePart) -> None:
        try:
            whole = parts.add(part.sequence, part.attempt, part.index, part.count, part.total_bytes, part.data)
            if whole is not None:
                self._frame(stream, frame_pb2.Frame.FromString(whole))
        except (ValueError, DecodeError) as error:
            self._reject(stream, part.sequence, part.attempt, pb.REJECT_REASON_MALFORMED, str(error))

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
        if self.draining:
            raise BrokerUnavailable(self.draining)
        self._check_preset(request.preset)
        loop = asyncio.get_running_loop()
        raw = await loop.run_in_executor(None, self._unpack_single, request)
        packed = PackedImage(
            raw.width,
            raw.height,
            raw.pixel_format,
            raw.color_range,
            raw.color_matrix,
            packing.Filter.NONE,
            b"",
        )
        frame = Frame(
            id=FrameId(f"single {peer}", uuid.uuid4().hex, 0),
            image=packed,
            captured_unix_ns=time.time_ns(),
            priority=wire.priority_from_proto(request.priority),
            deadline_ms=request.deadline_ms,
            trace=wire.trace_from_proto(request.trace),
        )
        reply: asyncio.Future[Result] = loop.create_future()
        job = Job(frame, self._encoding(request.encoding), Timeline(frame.trace), reply=reply, raw=raw)
        if not self._submit(job, raw.width, raw.height, request.deadline_ms):
            raise StreamRefused("too many frames wait on this node: try again in a second")
        result = await reply
        if result.outcome is not Outcome.ENHANCED:
            raise LamplightError(result.reason)
        return result

    def _unpack_single(self, request: pb.Image) -> RawImage:
        match request.WhichOneof("content"):
            case "packed":
                packed = wire.packed_from_proto(request.packed)
                check_image(packed, self.settings.limits)
                return packing.unpack(packed, max_pixels=self.settings.limits.max_pixels)
            case "encoded":
                encoded = wire.encoded_from_proto(request.encoded)
                return RawImage.from_rgb(packing.decode(encoded, max_pixels=self.settings.limits.max_pixels))
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
