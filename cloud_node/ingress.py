"""The gRPC service: open a stream, admit frames, answer. Results leave by the publisher."""

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import grpc
import grpc.aio

from cloud_node.admission import Admission, check_image
from cloud_node.identity.guard import Guard
from cloud_node.jobs import Encoding, Job
from cloud_node.parts import Unfinished
from cloud_node.receiver import Receiver, Terms
from cloud_node.retiring import retire
from cloud_node.settings import CloudSettings, Window
from cloud_node.streams import CLOSED, EdgeStream, Streams, check_name
from common import packing, wire
from common.errors import Draining, Expired, ImageError, LamplightError, NotAllowed, Overloaded, StreamRefused
from common.frame import Frame, FrameId, Outcome, Result
from common.packing import EncodedImage, ImageFormat, PackedImage
from common.pixels import ColorMatrix, ColorRange, PixelFormat
from common.telemetry import Timeline
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import enhancement_pb2_grpc, result_pb2

log = logging.getLogger(__name__)

OPEN_TIMEOUT_S = 10.0  # a stream that opens and says nothing
MAX_UNSETTLED = 1_024
MAX_SINGLE = 256  # pictures of one caller that wait at once
MAX_OPENING = 8  # streams of one edge that join at once
MAX_SAID = 1_000  # characters of an error that are logged, or sent


@dataclass(frozen=True, slots=True)
class _Wish:
    """What an edge or a caller asks for; "" and 0 leave it to the node."""

    preset: str
    image_format: int
    quality: int


class Ingress(enhancement_pb2_grpc.EnhancementServicer):
    """Serves lamplight.v1.Enhancement.

    Args:
        node: this node's name.
        models: preset -> version of every preset that is served, the default first.
        address: makes an edge's consumers and says where its results will be; raises BrokerUnavailable while NATS
            is away.
        guard: says who calls; without one they are who they say.
    """

    def __init__(
        self,
        settings: CloudSettings,
        *,
        node: str,
        models: Callable[[], Mapping[str, str]],
        streams: Streams,
        admission: Admission,
        address: Callable[[str], Awaitable[pb.ResultsAddress]],
        guard: Guard | None = None,
    ) -> None:
        self.settings, self.node, self.streams, self.admission = settings, node, streams, admission
        self.draining = ""
        self._models, self._address = models, address
        self._guard = guard or Guard(None)
        self._opening: dict[str, list[asyncio.Timeout]] = {}  # streams that said nothing yet, by host, oldest first
        self._joining: Counter[str] = Counter()  # streams between Open and Opened, by edge
        self._single: Counter[str] = Counter()  # pictures that wait, by caller
        self._unfinished = Unfinished(settings.limits.max_queued_mib * 2**20)

    # --- the stream of an edge ---

    async def Stream(self, requests: AsyncIterator[pb.EdgeMessage], context: grpc.aio.ServicerContext) -> None:
        try:
            stream, receiver, opened = await self._open(context)
        except LamplightError as error:
            said = str(error)[:MAX_SAID]
            log.warning("stream from %s refused: %s", context.peer(), said)
            await context.abort(error.status, said)
        edge = stream.session.edge
        log.info("edge %s: stream open (session %s, %s)", edge, stream.session.session, context.peer())
        tasks = [asyncio.create_task(receiver.run(context))]
        if age_s := self.settings.limits.stream_age_s:
            tasks.append(asyncio.create_task(retire(stream, age_s, self.settings.grace_s)))
        try:
            with self._guard.holding(context, stream.end):
                await stream.write_to(context.write, opened)
        except NotAllowed as error:  # meanwhile
            stream.end(str(error))
        finally:
            for task in tasks:
                task.cancel()
            self.streams.leave(stream)
            log.info("edge %s: stream over (%s)", edge, stream.ended)
        if stream.ended != CLOSED:
            await context.abort(grpc.StatusCode.ABORTED, stream.ended)

    async def _open(self, context: grpc.aio.ServicerContext) -> tuple[EdgeStream, Receiver, pb.CloudMessage]:
        request = await self._first(context)
        if self.draining:
            raise Draining(self.draining)
        if len(request.unsettled) > MAX_UNSETTLED:
            raise StreamRefused(f"Open lists {len(request.unsettled)} unsettled frames, {MAX_UNSETTLED} at most")
        edge, session, unsettled = self._guard.edge(context, request.edge), request.session, set(request.unsettled)
        wish = _Wish(request.preset, request.encoding.format, request.encoding.quality)
        check_name("edge", edge)
        terms, rule, window, limits = (
            self._terms(edge, wish),
            self.admission.rule(edge),
            self.settings.window,
            self.settings.limits,
        )
        if rule.bytes_in_flight:
            window = replace(window, window_bytes=min(window.window_bytes, rule.bytes_in_flight))
        with _one_more(self._joining, edge, MAX_OPENING, "streams of this edge are being opened already"):
            stream, address = await self._join(edge, session, window)
        try:
            receiver = Receiver(
                stream,
                self.settings,
                self.admission,
                lambda: self._terms(edge, wish),
                lambda: self.draining,
                self._unfinished,
            )
        except BaseException:
            self.streams.leave(stream)
            raise
        opened = pb.Opened(
            node=self.node,
            model=self._models()[terms.preset],
            window_frames=stream.account.window_frames,
            window_bytes=stream.account.window_bytes,
            max_pixels=min(limits.max_pixels, rule.max_pixels or limits.max_pixels),
            max_frame_bytes=limits.max_frame_bytes,
            results=address,
            holding=sorted(unsettled & stream.session.holding.keys()),
        )
        return stream, receiver, pb.CloudMessage(opened=opened)

    async def _join(self, edge: str, session: str, window: Window) -> tuple[EdgeStream, pb.ResultsAddress]:
        stream = await self.streams.join(edge, session, window)
        try:
            return stream, await self._address(edge)
        except BaseException:
            self.streams.leave(stream)
            raise

    async def _first(self, context: grpc.aio.ServicerContext) -> pb.Open:
        """The message that opens a stream. Many that say nothing do not pile up, and keep nobody out: for one too many
        the oldest goes, of the host that has most.
        """
        host, opening = context.peer().rpartition(":")[0], self._opening
        most_at_once = self.settings.limits.max_edges
        if sum(map(len, opening.values())) >= most_at_once:
            most = opening[max(opening, key=lambda other: len(opening[other]))]
            with suppress(RuntimeError):  # it has run out just now, and makes room by itself
                most.pop(0).reschedule(0.0)
        waiting = opening.setdefault(host, [])
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S) as limit:
                waiting.append(limit)
                first = await context.read()
        except TimeoutError:
            if limit not in waiting:
                raise Overloaded(f"{most_at_once} streams are being opened already: try again in a second") from None
            raise StreamRefused(f"no Open within {OPEN_TIMEOUT_S:g} s") from None
        finally:
            if limit in waiting:
                waiting.remove(limit)
            if not waiting and opening.get(host) is waiting:
                del opening[host]
        if first is grpc.aio.EOF or first.WhichOneof("message") != "open":
            raise StreamRefused("the first message of a stream must be Open")
        return first.open

    # --- a single picture ---

    async def Enhance(self, requests: AsyncIterator[pb.Image], context: grpc.aio.ServicerContext) -> result_pb2.Result:
        try:
            # Of an edge, or of a host: its connections share one turn and one bound.
            host = self._guard.edge(context, "") or context.peer().rpartition(":")[0]
            with _one_more(self._single, host, MAX_SINGLE, "pictures of this caller wait already"):
                request = await context.read()
                if request is grpc.aio.EOF:
                    raise ImageError("the call carries no request")
                return wire.result_to_proto(await self._enhance(request, f"single {host}"))
        except LamplightError as error:
            await context.abort(error.status, str(error)[:MAX_SAID])

    async def _enhance(self, request: pb.Image, caller: str) -> Result:
        arrived_unix_ns, arrived_ns = time.time_ns(), time.perf_counter_ns()
        if self.draining:
            raise Draining(self.draining)
        terms = self._terms(caller, _Wish(request.preset, request.encoding.format, request.encoding.quality))
        packed, encoded = self._content(request)
        frame = Frame(
            id=FrameId(caller, uuid.uuid4().hex, 0),
            image=packed,
            captured_unix_ns=arrived_unix_ns,
            priority=wire.priority_from_proto(request.priority),
            deadline_ms=request.deadline_ms,
            trace=wire.trace_from_proto(request.trace),
        )
        reply: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        job = Job(frame, terms.encoding, Timeline(frame.trace), terms.preset, reply=reply, encoded=encoded)
        traffic = self.streams.traffic
        traffic.frames += 1
        traffic.bytes += len(encoded.data if encoded is not None else packed.payload)
        refusal = self.admission.admit(job, packed.width, packed.height, job.arrived_ns)
        if refusal is not None:
            traffic.rejected[refusal.reason] += 1
            raise refusal.error()
        job.timeline.add("ingress", arrived_unix_ns, time.perf_counter_ns() - arrived_ns)
        try:
            result = await reply
        except asyncio.CancelledError:
            self.admission.withdraw(job)
            raise
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
                if not encoded.data:
                    raise ImageError("the request's image has no bytes: send the whole file as `data`")
                packing.check_pixels(encoded.width, encoded.height, self.settings.limits.max_pixels)
                return _described(encoded), encoded
        raise ImageError("the request carries no image")

    # --- both ---

    def _terms(self, edge: str, wish: _Wish) -> Terms:
        """Preset: the policy's, then the edge's, then the node's. Encoding: the edge's, the policy's, the node's."""
        rule, settings = self.admission.rule(edge), self.settings
        try:
            image_format = ImageFormat(wish.image_format or rule.result_format or settings.result_format)
        except ValueError:
            raise StreamRefused(f"result format {wish.image_format} is not known to this node") from None
        if image_format is ImageFormat.PNG:
            raise StreamRefused("results come as lossless, jpeg or webp")
        if wish.quality > 100:
            raise StreamRefused(f"quality {wish.quality}: 1..100, or 0 for the node's choice")
        quality = wish.quality or rule.quality or settings.quality
        return Terms(self.admission.policy, self._preset(rule.preset, wish.preset), Encoding(image_format, quality))

    def _preset(self, ruled: str, wished: str) -> str:
        if wished:
            check_name("preset", wished)
        served = self._models()
        preset = ruled or wished or next(iter(served))
        if preset in served:
            return preset
        names = ", ".join(f"'{name}'" for name in served)
        if ruled:
            raise StreamRefused(
                f"this node's policy gives this edge preset '{ruled}', which it does not serve ({names}): "
                "add it to --preset, or change the policy"
            )
        raise StreamRefused(f"this node serves preset {names}, not '{wished}': ask for one of them or leave it out")


@contextmanager
def _one_more(counts: Counter[str], who: str, most: int, what: str) -> Iterator[None]:
    """Count one while it lasts. Raises Overloaded for one too many."""
    if counts[who] >= most:
        raise Overloaded(f"{most} {what}: try again when one is done")
    counts[who] += 1
    try:
        yield
    finally:
        counts[who] -= 1
        if not counts[who]:
            del counts[who]


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
