"""Our values to and from the protobuf messages of lamplight.v1."""

from collections.abc import Mapping

from common.errors import CorruptImage, ImageError
from common.frame import Frame, FrameId, Outcome, Priority, Result
from common.packing import EncodedImage, Filter, ImageFormat, PackedImage
from common.pixels import ColorMatrix, ColorRange, PixelFormat
from lamplight.v1 import frame_pb2, image_pb2, result_pb2

MAX_TRACEPARENT, MAX_TRACESTATE = 55, 512  # characters, W3C Trace Context 3.2.2 and 3.3.1.5
MAX_REASON, MAX_NAME, MAX_STAGES = 1_000, 128, 64  # of a result: each ends in a line of its edge's readings
YUV = {PixelFormat.I420, PixelFormat.I422, PixelFormat.NV12, PixelFormat.YUYV}


def packed_to_proto(image: PackedImage) -> image_pb2.PackedImage:
    return image_pb2.PackedImage(
        width=image.width,
        height=image.height,
        pixel_format=int(image.pixel_format),
        color_range=int(image.color_range),
        color_matrix=int(image.color_matrix),
        filter=int(image.filter),
        payload=image.payload,
        step=0 if image.step == 1 else image.step,
    )


def packed_from_proto(message: image_pb2.PackedImage) -> PackedImage:
    """Raises ImageError for a number that this version does not know."""
    try:
        pixel_format = PixelFormat(message.pixel_format)
        default_range = ColorRange.LIMITED if pixel_format in YUV else ColorRange.FULL
        return PackedImage(
            width=message.width,
            height=message.height,
            pixel_format=pixel_format,
            color_range=ColorRange(message.color_range or default_range),
            color_matrix=ColorMatrix(message.color_matrix or ColorMatrix.BT601),
            filter=Filter(message.filter),
            payload=message.payload,
            step=message.step or 1,
        )
    except ValueError as error:
        raise ImageError(f"{error}: this version does not know it; upgrade this side") from None


def encoded_to_proto(image: EncodedImage) -> image_pb2.EncodedImage:
    return image_pb2.EncodedImage(format=int(image.format), width=image.width, height=image.height, data=image.data)


def encoded_from_proto(message: image_pb2.EncodedImage) -> EncodedImage:
    """Raises ImageError for a format that this version does not know."""
    try:
        image_format = ImageFormat(message.format)
    except ValueError as error:
        raise ImageError(f"{error}: this version does not know it; upgrade this side") from None
    return EncodedImage(image_format, message.width, message.height, message.data)


def trace_to_proto(trace: Mapping[str, str]) -> frame_pb2.TraceContext:
    return frame_pb2.TraceContext(traceparent=trace.get("traceparent", ""), tracestate=trace.get("tracestate", ""))


def trace_from_proto(message: frame_pb2.TraceContext) -> dict[str, str]:
    """What is longer than W3C Trace Context asks to carry is dropped, not an error."""
    fields = {"traceparent": message.traceparent[:MAX_TRACEPARENT]}
    if len(message.tracestate) <= MAX_TRACESTATE:
        fields["tracestate"] = message.tracestate
    return {name: value for name, value in fields.items() if value}


def frame_to_proto(frame: Frame) -> frame_pb2.Frame:
    return frame_pb2.Frame(
        sequence=frame.id.sequence,
        attempt=frame.attempt,
        captured_unix_ns=frame.captured_unix_ns,
        priority=int(frame.priority),
        deadline_ms=frame.deadline_ms,
        image=packed_to_proto(frame.image),
        trace=trace_to_proto(frame.trace),
    )


def priority_from_proto(number: int) -> Priority:
    """0 is STANDARD; a priority that a newer edge invented is SECONDARY."""
    try:
        return Priority(number or Priority.STANDARD)
    except ValueError:
        return Priority.SECONDARY


def frame_from_proto(message: frame_pb2.Frame, edge: str, session: str) -> Frame:
    """Raises ImageError for an image that this version does not know."""
    if not message.HasField("image"):
        raise CorruptImage(f"frame {message.sequence} carries no image")
    return Frame(
        id=FrameId(edge, session, message.sequence),
        image=packed_from_proto(message.image),
        captured_unix_ns=message.captured_unix_ns,
        priority=priority_from_proto(message.priority),
        attempt=message.attempt,
        deadline_ms=message.deadline_ms,
        trace=trace_from_proto(message.trace),
    )


def result_to_proto(result: Result) -> result_pb2.Result:
    message = result_pb2.Result(
        edge=result.id.edge,
        session=result.id.session,
        sequence=result.id.sequence,
        attempt=result.attempt,
        captured_unix_ns=result.captured_unix_ns,
        priority=int(result.priority),
        outcome=int(result.outcome),
        reason=result.reason,
        model=result.model,
        sharpness_before=result.sharpness_before,
        sharpness_after=result.sharpness_after,
        stages=[result_pb2.StageTime(stage=stage, ns=ns) for stage, ns in result.stages_ns.items()],
        trace=trace_to_proto(result.trace),
        batch_size=result.batch_size,
    )
    if isinstance(result.image, PackedImage):
        message.packed.CopyFrom(packed_to_proto(result.image))
    elif isinstance(result.image, EncodedImage):
        message.encoded.CopyFrom(encoded_to_proto(result.image))
    return message


def result_from_proto(message: result_pb2.Result) -> Result:
    """Raises ImageError for an image or outcome that this version does not know; texts that are too long are cut."""
    try:
        outcome = Outcome(message.outcome)
        if outcome is Outcome.AS_IS:
            raise ValueError(f"outcome {message.outcome}")
    except ValueError as error:
        raise ImageError(f"{error}: this version does not know it; upgrade this side") from None
    image: PackedImage | EncodedImage | None = None
    match message.WhichOneof("image"):
        case "packed":
            image = packed_from_proto(message.packed)
        case "encoded":
            image = encoded_from_proto(message.encoded)
    return Result(
        id=FrameId(message.edge, message.session, message.sequence),
        attempt=message.attempt,
        priority=priority_from_proto(message.priority),
        captured_unix_ns=message.captured_unix_ns,
        outcome=outcome,
        image=image,
        reason=message.reason[:MAX_REASON],
        model=message.model[:MAX_NAME],
        sharpness_before=message.sharpness_before,
        sharpness_after=message.sharpness_after,
        stages_ns={stage.stage[:MAX_NAME]: stage.ns for stage in message.stages[:MAX_STAGES]},
        batch_size=message.batch_size,
        trace=trace_from_proto(message.trace),
    )
