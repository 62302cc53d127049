import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import wire
from common.errors import CorruptImage, ImageError
from common.frame import Frame, FrameId, Outcome, Priority, Result
from common.packing import EncodedImage, Filter, ImageFormat, PackedImage
from common.pixels import ColorMatrix, ColorRange, PixelFormat
from lamplight.v1 import frame_pb2, image_pb2, result_pb2

side, number = st.integers(1, 65_535), st.integers(0, 2**63)
name = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
packed = st.builds(
    PackedImage,
    width=side,
    height=side,
    pixel_format=st.sampled_from(PixelFormat),
    color_range=st.sampled_from(ColorRange),
    color_matrix=st.sampled_from(ColorMatrix),
    filter=st.sampled_from(Filter),
    payload=st.binary(max_size=50),
)
encoded = st.builds(EncodedImage, st.sampled_from([ImageFormat.JPEG, ImageFormat.WEBP]), side, side, st.binary())
identity = st.builds(FrameId, name, name, number)
trace = st.sampled_from([{}, {"traceparent": "00-1-2-01"}, {"traceparent": "00-1-2-01", "tracestate": "a=b"}])
frames = st.builds(
    Frame, identity, packed, number, st.sampled_from(Priority), st.integers(0, 9), st.integers(0, 10**6), trace
)
results = st.builds(
    Result,
    id=identity,
    attempt=st.integers(0, 9),
    priority=st.sampled_from(Priority),
    captured_unix_ns=number,
    outcome=st.sampled_from([outcome for outcome in Outcome if outcome is not Outcome.AS_IS]),
    image=st.none() | packed | encoded,
    reason=st.text(max_size=20),
    model=name,
    sharpness_before=st.floats(0, 1, width=32),
    sharpness_after=st.floats(0, 1, width=32),
    stages_ns=st.dictionaries(name, number, max_size=4),
    batch_size=st.integers(0, 64),
    trace=trace,
)


@given(frames)
def test_a_frame_comes_through(frame: Frame) -> None:
    message = frame_pb2.Frame.FromString(wire.frame_to_proto(frame).SerializeToString())
    assert wire.frame_from_proto(message, frame.id.edge, frame.id.session) == frame


@given(results)
def test_a_result_comes_through(result: Result) -> None:
    message = result_pb2.Result.FromString(wire.result_to_proto(result).SerializeToString())
    assert wire.result_from_proto(message) == result


def test_what_is_left_out_has_a_meaning() -> None:
    yuv = wire.packed_from_proto(image_pb2.PackedImage(pixel_format=image_pb2.PIXEL_FORMAT_I420))
    rgb = wire.packed_from_proto(image_pb2.PackedImage(pixel_format=image_pb2.PIXEL_FORMAT_RGB24))
    assert (yuv.color_range, rgb.color_range) == (ColorRange.LIMITED, ColorRange.FULL)
    assert yuv.color_matrix is ColorMatrix.BT601
    assert wire.priority_from_proto(0) is Priority.STANDARD
    assert wire.priority_from_proto(77) is Priority.SECONDARY


def test_a_trace_context_that_is_too_long_is_cut_off() -> None:
    message = frame_pb2.TraceContext(traceparent="0" * 10_000, tracestate="a" * 10_000)
    assert wire.trace_from_proto(message) == {"traceparent": "0" * 55}


def test_numbers_of_a_newer_version_are_told() -> None:
    with pytest.raises(ImageError, match="upgrade this side"):
        wire.packed_from_proto(image_pb2.PackedImage(pixel_format=99))
    with pytest.raises(ImageError, match="upgrade this side"):
        wire.encoded_from_proto(image_pb2.EncodedImage(format=99))
    with pytest.raises(ImageError, match="upgrade this side"):
        wire.result_from_proto(result_pb2.Result(outcome=99))
    with pytest.raises(ImageError, match="upgrade"):
        wire.result_from_proto(result_pb2.Result(outcome=int(Outcome.AS_IS)))
    with pytest.raises(CorruptImage, match="carries no image"):
        wire.frame_from_proto(frame_pb2.Frame(sequence=3), "e", "s")


def test_texts_of_a_result_that_are_too_long_are_cut() -> None:
    stages = [result_pb2.StageTime(stage=f"{number}" + "s" * 10_000, ns=1) for number in range(1000)]
    message = result_pb2.Result(outcome=1, reason="r" * 10**6, model="m" * 10**6, stages=stages)
    result = wire.result_from_proto(message)
    assert (len(result.reason), len(result.model), len(result.stages_ns)) == (1_000, 128, 64)
    assert max(map(len, result.stages_ns)) == 128
