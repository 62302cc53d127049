"""A real node and hand-made streams: what a broken or hostile edge may send."""

import asyncio

import grpc
import nats
import pytest
from hand_edges import HandEdge, bad, good, hand_edges, name
from processes import Cloud

from common.channel import connect
from common.pixels import PixelFormat
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import frame_pb2, image_pb2, result_pb2


def flipped() -> bytes:
    payload = bytearray(good().image.payload)
    payload[len(payload) // 2] ^= 0x55
    return bytes(payload)


@pytest.mark.parametrize(
    ("frame", "reason", "detail"),
    [
        (bad(width=0), pb.REJECT_REASON_MALFORMED, "0x48"),
        (bad(height=70_000), pb.REJECT_REASON_MALFORMED, "64x70000"),
        (bad(width=60_000, height=60_000), pb.REJECT_REASON_TOO_LARGE, "3,600,000,000 pixels"),
        (bad(pixel_format=77), pb.REJECT_REASON_MALFORMED, "77"),
        (bad(pixel_format=0), pb.REJECT_REASON_MALFORMED, "0"),
        (bad(filter=999), pb.REJECT_REASON_MALFORMED, "999"),
        (bad(color_range=9), pb.REJECT_REASON_MALFORMED, "9"),
        (bad(payload=b""), pb.REJECT_REASON_MALFORMED, "not a zstd frame"),
        (bad(payload=b"junk junk junk"), pb.REJECT_REASON_MALFORMED, "not a zstd frame"),
        (bad(width=65), pb.REJECT_REASON_MALFORMED, "claims"),
        (bad(pixel_format=int(PixelFormat.GRAY8)), pb.REJECT_REASON_MALFORMED, "claims"),
        (frame_pb2.Frame(sequence=1), pb.REJECT_REASON_MALFORMED, "no image"),
    ],
)
async def test_a_bad_frame_is_rejected_and_the_stream_lives(
    cloud: Cloud, frame: frame_pb2.Frame, reason: int, detail: str
) -> None:
    async with hand_edges(cloud.address) as make:
        stream = make()
        await stream.open(name(), "s")
        await stream.frame(frame)
        rejected = (await stream.expect("rejected")).rejected
        assert (rejected.sequence, rejected.reason, rejected.retry_after_ms) == (1, reason, 0)
        assert detail in rejected.detail
        await stream.frame(good(2))
        assert (await stream.expect("accepted", "rejected")).accepted.sequence == 2


@pytest.mark.parametrize("payload", [flipped(), good().image.payload[:-20]])
async def test_a_corrupt_payload_fails_as_a_result(cloud: Cloud, payload: bytes) -> None:
    """Its header is sound, so it is accepted; that it is broken shows when it is unpacked."""
    async with hand_edges(cloud.address) as make:
        stream, edge = make(), name()
        opened = await stream.open(edge, "s")
        await stream.frame(bad(payload=payload))
        assert (await stream.expect("accepted", "rejected")).WhichOneof("message") == "accepted"
        [result] = await fetch(opened, 1)
        assert (result.sequence, result.outcome) == (1, result_pb2.OUTCOME_FAILED)
        assert "payload" in result.reason
        await stream.frame(good(2))
        assert (await stream.expect("accepted", "rejected")).accepted.sequence == 2


async def fetch(opened: pb.Opened, count: int) -> list[result_pb2.Result]:
    """Standard results of an edge, each in one part."""
    client = await nats.connect(opened.results.servers[0])
    [consumer] = [item for item in opened.results.consumers if item.priority == frame_pb2.PRIORITY_STANDARD]
    pull = await client.jetstream().pull_subscribe_bind(consumer.consumer, consumer.stream)
    messages = await pull.fetch(count, timeout=60)
    for message in messages:
        await message.ack()
    await client.close()
    return [result_pb2.Result.FromString(message.data) for message in messages]


async def test_beyond_the_window(cloud: Cloud) -> None:
    async with hand_edges(cloud.address) as make:
        stream = make()
        opened = await stream.open(name(), "s")
        assert opened.window_frames == 4 and opened.max_pixels > 0 and opened.model.startswith("fast-")
        for sequence in range(12):
            await stream.frame(good(sequence, 600, 400))
        verdicts = [await stream.expect("accepted", "rejected") for _ in range(12)]
        accepted = [item.accepted.sequence for item in verdicts if item.HasField("accepted")]
        rejected = [item.rejected for item in verdicts if item.HasField("rejected")]
        assert len(accepted) >= 4 and rejected
        assert all(item.reason == pb.REJECT_REASON_WINDOW and item.retry_after_ms for item in rejected)


async def test_a_frame_that_comes_twice_is_worked_on_once(cloud: Cloud) -> None:
    """While the node holds it, it is accepted again; the same attempt after that is a duplicate."""
    async with hand_edges(cloud.address) as make:
        stream, edge = make(), name()
        opened = await stream.open(edge, "s")
        for attempt in (0, 1):
            await stream.frame(good(7, 600, 400, attempt=attempt))
            assert (await stream.expect("accepted", "rejected")).accepted == pb.Accepted(sequence=7, attempt=attempt)
        again = make()
        await again.call.write(pb.EdgeMessage(open=pb.Open(edge=edge, session="s", unsettled=[7, 8])))
        assert (await again.expect("opened")).opened.holding == [7]
        results = await fetch(opened, 1)
        assert [(result.sequence, result.attempt) for result in results] == [(7, 0)]
        await asyncio.sleep(0.2)
        await again.frame(good(7, 600, 400))
        rejected = (await again.expect("accepted", "rejected")).rejected
        assert (rejected.sequence, rejected.reason) == (7, pb.REJECT_REASON_DUPLICATE)


async def test_a_message_that_cannot_be_read_ends_the_stream(cloud: Cloud) -> None:
    async with connect(cloud.address) as channel:
        method = channel.stream_stream(
            "/lamplight.v1.Enhancement/Stream",
            request_serializer=lambda data: data,
            response_deserializer=lambda data: data,
        )
        call, edge = method(), name()
        await call.write(pb.EdgeMessage(open=pb.Open(edge=edge, session="s")).SerializeToString())
        await call.read()
        await call.write(b"\xff\xff\xff")
        assert (await HandEdge(call).end())[0] is not grpc.StatusCode.OK
    async with hand_edges(cloud.address) as make:
        stream = make()
        await stream.open(edge, "another-session")


async def test_streams_that_are_cut_off_at_once_leave_no_name_behind(cloud: Cloud) -> None:
    edge = name()
    for session in range(10):
        async with hand_edges(cloud.address) as make:
            await make().call.write(pb.EdgeMessage(open=pb.Open(edge=edge, session=f"s{session}")))
    async with hand_edges(cloud.address) as make:
        assert (await make().open(edge, "last")).model.startswith("fast-")


async def test_too_many_unsettled_frames_are_refused(cloud: Cloud) -> None:
    async with hand_edges(cloud.address) as make:
        stream = make()
        await stream.call.write(pb.EdgeMessage(open=pb.Open(edge=name(), session="s", unsettled=range(2_000))))
        assert "1024 at most" in (await stream.end())[1]


async def test_every_credit_returns(cloud: Cloud) -> None:
    async with hand_edges(cloud.address) as make:
        stream = make()
        await stream.open(name(), "s")
        frames = [good(0), bad(width=0), good(2)]
        for frame in frames:
            await stream.frame(frame)
        left = sum(len(frame.image.payload) for frame in frames)
        while left > 0:
            left -= (await stream.expect("credit")).credit.bytes
        assert left == 0


async def test_a_second_stream_of_the_same_session_takes_over(cloud: Cloud) -> None:
    async with hand_edges(cloud.address) as make:
        old, new, edge = make(), make(), name()
        await old.open(edge, "s")
        await new.open(edge, "s")
        code, detail = await old.end()
        assert code is grpc.StatusCode.ABORTED and "took over" in detail
        await new.frame(good(0))
        assert (await new.expect("accepted", "rejected")).accepted.sequence == 0


async def test_another_session_under_a_live_edges_name_is_refused(cloud: Cloud) -> None:
    async with hand_edges(cloud.address) as make:
        holder, thief, edge = make(), make(), name()
        await holder.open(edge, "s1")
        await thief.call.write(pb.EdgeMessage(open=pb.Open(edge=edge, session="s2")))
        await holder.expect("probe")
        await holder.call.write(pb.EdgeMessage(alive=pb.Alive()))
        code, detail = await thief.end()
        assert code is grpc.StatusCode.FAILED_PRECONDITION and "in use by another session" in detail
        await holder.frame(good(0))
        assert (await holder.expect("accepted", "rejected")).accepted.sequence == 0


async def test_a_silent_holder_loses_its_name(cloud: Cloud) -> None:
    async with hand_edges(cloud.address) as make:
        holder, heir, edge = make(), make(), name()
        await holder.open(edge, "s1")
        await heir.open(edge, "s2")
        assert (await holder.end())[0] is grpc.StatusCode.ABORTED


@pytest.mark.parametrize(
    ("opening", "words"),
    [
        (pb.Open(edge="a.b", session="s"), "use 1 to 64"),
        (pb.Open(edge="a", session=""), "use 1 to 64"),
        (pb.Open(edge="a", session="s", preset="reference"), "serves preset 'fast'"),
        (pb.Open(edge="a", session="s", encoding=image_pb2.ResultEncoding(format=99)), "not known"),
        (pb.Open(edge="a", session="s", encoding=image_pb2.ResultEncoding(quality=101)), "quality 101"),
    ],
)
async def test_openings_that_are_refused(cloud: Cloud, opening: pb.Open, words: str) -> None:
    async with hand_edges(cloud.address) as make:
        stream = make()
        await stream.call.write(pb.EdgeMessage(open=opening))
        code, detail = await stream.end()
        assert code is grpc.StatusCode.FAILED_PRECONDITION and words in detail


async def test_a_stream_must_begin_with_open_and_open_once(cloud: Cloud) -> None:
    async with hand_edges(cloud.address) as make:
        first = make()
        await first.frame(good())
        assert "must be Open" in (await first.end())[1]
        second, edge = make(), name()
        await second.open(edge, "s")
        await second.call.write(pb.EdgeMessage(open=pb.Open(edge=edge, session="s")))
        assert "not expected" in (await second.end())[1]


async def test_parts_arrive_as_a_frame_and_broken_parts_are_rejected(cloud: Cloud) -> None:
    async with hand_edges(cloud.address) as make:
        stream = make()
        await stream.open(name(), "s")
        whole = good(5).SerializeToString()
        cut = [whole[:100], whole[100:]]
        for index, data in enumerate(cut):
            part = frame_pb2.FramePart(sequence=5, index=index, count=2, total_bytes=len(whole), data=data)
            await stream.call.write(pb.EdgeMessage(part=part))
        assert (await stream.expect("accepted", "rejected")).accepted.sequence == 5


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (frame_pb2.FramePart(sequence=6, index=1, count=2, total_bytes=9, data=b"x"), pb.REJECT_REASON_MALFORMED),
        (
            frame_pb2.FramePart(sequence=6, index=0, count=1, total_bytes=3, data=b"\xff\xff\xff"),
            pb.REJECT_REASON_MALFORMED,
        ),
        (frame_pb2.FramePart(sequence=6, index=0, count=2, total_bytes=2**31, data=b"x"), pb.REJECT_REASON_TOO_LARGE),
    ],
)
async def test_parts_that_do_not_come_together_end_the_stream(
    cloud: Cloud, part: frame_pb2.FramePart, reason: int
) -> None:
    """The credit of such a frame is lost with it; a new stream begins with a full window."""
    async with hand_edges(cloud.address) as make:
        stream = make()
        await stream.open(name(), "s")
        await stream.call.write(pb.EdgeMessage(part=part))
        rejected = (await stream.expect("accepted", "rejected")).rejected
        assert (rejected.sequence, rejected.reason) == (6, reason)
        code, detail = await stream.end()
        assert code is grpc.StatusCode.ABORTED and "does not come together" in detail
