"""The front of a cloud node over a real gRPC server: what edges may ask for, and what they may do wrong."""

import asyncio
import contextlib
import signal
import sys
from dataclasses import replace

import grpc
import grpc.aio
import pytest
from hand_edges import HandEdge, bad, good, hand_edges, name, rules, serving
from results import until

from cloud_node.settings import CloudSettings, Limits, Window
from cloud_node.streams import MAX_BEYOND
from common.channel import connect
from common.frame import Priority
from common.packing import ImageFormat
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import enhancement_pb2_grpc, frame_pb2, image_pb2, result_pb2

SIZE = len(good().image.payload)
WAITS_NS = 10**9  # for a frame of `good` size


def settings(**limits: int) -> CloudSettings:
    return CloudSettings(limits=Limits(**limits))


async def open_and_send(edge: HandEdge, edge_name: str, *frames: frame_pb2.Frame) -> list[pb.Accepted | pb.Rejected]:
    await edge.open(edge_name, "s")
    for frame in frames:
        await edge.frame(frame)
    return [await edge.verdict() for _ in frames]


# --- what edges may ask for ---


async def test_frames_are_accepted_worked_on_and_credited() -> None:
    async with serving() as (front, address), hand_edges(address) as make:
        edge = make()
        opened = await edge.open("cam", "s")
        assert (opened.node, opened.model, opened.window_frames) == ("node", "fast-7", 4)
        for sequence in range(20):
            await edge.frame(good(sequence))
            assert (await edge.verdict()).sequence == sequence
            assert await edge.credits(1) == SIZE
        assert front.sequences("cam") == list(range(20))
        await edge.call.write(pb.EdgeMessage(close=pb.Close()))
        assert (await edge.end())[0] is grpc.StatusCode.OK
        await until(lambda: not front.streams.live)


async def test_a_single_picture_without_bytes_is_refused() -> None:
    empty = image_pb2.EncodedImage(format=ImageFormat.JPEG, width=60, height=40)
    async with serving() as (_, address), connect(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="no bytes"):
            await enhancement_pb2_grpc.EnhancementStub(channel).Enhance(pb.Image(encoded=empty), timeout=30)


async def test_every_preset_that_is_served_may_be_asked_for() -> None:
    async with serving() as (front, address), hand_edges(address) as make:
        edge = make()
        assert (await edge.open("cam", "s", preset="edge")).model == "edge-2"
        await edge.frame(good())
        await edge.verdict()
        await until(lambda: bool(front.results))
        assert front.results[0].model == "edge-2"
        other = make()
        await other.call.write(pb.EdgeMessage(open=pb.Open(edge="cam2", session="s", preset="reference")))
        code, detail = await other.end()
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "serves preset 'fast', 'edge', not 'reference'" in detail


async def test_the_policy_chooses_preset_encoding_and_bounds() -> None:
    given = rules(
        cam={
            "preset": "edge",
            "result_format": ImageFormat.WEBP,
            "quality": 33,
            "bytes_in_flight": 5_000,
            "max_pixels": 4_000,
            "highest": Priority.SECONDARY,
        },
        lost={"preset": "deep"},
    )
    async with serving(policy=given) as (front, address), hand_edges(address) as make:
        front.working = False
        edge = make()
        opened = await edge.open("cam", "s", preset="fast")
        assert (opened.model, opened.window_bytes, opened.max_pixels) == ("edge-2", 5_000, 4_000)
        await edge.frame(good(priority=frame_pb2.PRIORITY_ESSENTIAL))
        await edge.verdict()
        chosen = make()
        await chosen.open("cam2", "s", encoding=image_pb2.ResultEncoding(format=image_pb2.IMAGE_FORMAT_LOSSLESS))
        await chosen.frame(good())
        await chosen.verdict()
        jobs = [ticket.job for ticket in front.scheduler.withdraw(lambda ticket: True)]
        capped = next(job for job in jobs if job.frame.id.edge == "cam")
        free = next(job for job in jobs if job.frame.id.edge == "cam2")
        assert (capped.preset, capped.encoding.image_format, capped.encoding.quality) == ("edge", ImageFormat.WEBP, 33)
        assert capped.frame.priority is Priority.SECONDARY
        assert (free.preset, free.encoding.image_format) == ("fast", ImageFormat.LOSSLESS)
        lost = make()
        await lost.call.write(pb.EdgeMessage(open=pb.Open(edge="lost", session="s")))
        code, detail = await lost.end()
        assert code is grpc.StatusCode.FAILED_PRECONDITION and "policy gives this edge preset 'deep'" in detail


async def test_a_new_policy_holds_for_open_streams() -> None:
    async with serving() as (front, address), hand_edges(address) as make:
        edge = make()
        assert isinstance((await open_and_send(edge, "cam", good(0)))[0], pb.Accepted)
        front.admission.set_policy(rules(cam={"preset": "edge", "frames_per_s": 0.001}))
        verdicts = []
        for sequence in (1, 2):
            await edge.frame(good(sequence))
            verdicts.append(await edge.verdict())
        assert verdicts[0] == pb.Accepted(sequence=1)
        assert verdicts[1].reason == pb.REJECT_REASON_LIMIT and verdicts[1].retry_after_ms > 1_000
        await until(lambda: len(front.results) == 2)
        assert [result.model for result in front.results] == ["fast-7", "edge-2"]
        front.admission.set_policy(rules(cam={"preset": "deep"}))
        await edge.frame(good(3))
        code, detail = await edge.end()
        assert code is grpc.StatusCode.ABORTED and "preset 'deep'" in detail


async def test_a_window_narrows_while_frames_wait_and_widens_again() -> None:
    async with serving() as (front, address), hand_edges(address) as make:
        front.working = False
        edge = make()
        await open_and_send(edge, "cam", *map(good, range(4)))
        front.load.on_batch(64 * 48, WAITS_NS, 1)
        crowd = make()
        await open_and_send(crowd, "crowd", *map(good, range(4)))
        mine = [ticket for ticket in front.scheduler.withdraw(lambda ticket: ticket.edge == "cam")]
        for ticket in mine:  # as when they reach the device, while four seconds of other work wait
            ticket.job.release()
        assert (await edge.expect("credit")).credit == pb.Credit(frames=1, bytes=4 * SIZE)
        assert front.streams.live["cam"].account.window_frames == 1
        front.scheduler.withdraw(lambda ticket: True)
        front.working = True
        window = 1
        for sequence in range(10, 13):
            await edge.frame(good(sequence))
            assert isinstance(await edge.verdict(), pb.Accepted)
            assert await edge.credits(2) == SIZE
            window += 1
            assert front.streams.live["cam"].account.window_frames == window
        await edge.frame(good(20))
        await edge.verdict()
        await edge.credits(1)


async def test_a_frame_that_was_accepted_may_be_given_back() -> None:
    async with serving(settings(max_queued=1)) as (front, address), hand_edges(address) as make:
        front.working = False
        bulk, urgent = make(), make()
        await open_and_send(bulk, "bulk", good(5, priority=frame_pb2.PRIORITY_SECONDARY))
        await open_and_send(urgent, "urgent", good(1, priority=frame_pb2.PRIORITY_ESSENTIAL))
        given_back = (await bulk.expect("rejected")).rejected
        assert (given_back.sequence, given_back.reason) == (5, pb.REJECT_REASON_OVERLOADED)
        assert given_back.retry_after_ms > 0
        await bulk.credits(1)
        front.working = True
        front.work()
        await bulk.frame(good(5, attempt=1))
        assert await bulk.verdict() == pb.Accepted(sequence=5, attempt=1)
        await until(lambda: len(front.results) == 2)


async def test_a_deadline_that_cannot_be_kept_is_refused_with_the_time_to_come_again() -> None:
    async with serving() as (front, address), hand_edges(address) as make:
        front.working = False
        front.load.on_batch(64 * 48, WAITS_NS, 1)
        edge = make()
        first, second = await open_and_send(edge, "cam", good(0, deadline_ms=500), good(1, deadline_ms=500))
        assert isinstance(first, pb.Accepted)
        assert second.reason == pb.REJECT_REASON_OVERLOADED and second.retry_after_ms >= 100


# --- what they may do wrong ---


async def test_a_stream_that_opens_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_node.ingress.OPEN_TIMEOUT_S", 2.0)
    async with serving(settings(max_edges=2)) as (front, address), hand_edges(address) as make:
        silent = [make() for _ in range(3)]
        ends = await asyncio.gather(*(edge.end() for edge in silent))
        details = sorted(detail for _, detail in ends)
        assert "2 streams are being opened" in details[0]
        assert ["no Open within 2 s" in detail for detail in details[1:]] == [True, True]
        monkeypatch.setattr("cloud_node.ingress.OPEN_TIMEOUT_S", 60.0)
        await make().open("cam", "s")
        assert list(front.streams.live) == ["cam"]


async def test_an_open_stream_may_be_silent() -> None:
    async with serving() as (_, address), hand_edges(address) as make:
        edge = make()
        await edge.open("cam", "s")
        await asyncio.sleep(0.3)
        await edge.frame(good())
        assert isinstance(await edge.verdict(), pb.Accepted)


async def test_a_frame_that_stops_in_the_middle_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_node.receiver.PART_IDLE_S", 0.2)
    async with serving() as (front, address), hand_edges(address) as make:
        edge = make()
        await edge.open("cam", "s")
        await edge.part(sequence=3, index=0, count=2, total_bytes=100, data=b"x" * 50)
        rejected = await edge.verdict()
        assert (rejected.sequence, rejected.reason) == (3, pb.REJECT_REASON_MALFORMED) and rejected.retry_after_ms
        code, detail = await edge.end()
        assert code is grpc.StatusCode.ABORTED and "stopped in the middle" in detail
        await until(lambda: not front.streams.live)
        again = make()
        assert await open_and_send(again, "cam", good(3)) == [pb.Accepted(sequence=3)]


async def test_edges_that_fill_the_nodes_bound_of_unfinished_frames_keep_nobody_out() -> None:
    """Three send most of a frame and stop: each frame of the fourth comes through, for the stalest of them."""
    async with serving(settings(max_queued_mib=1)) as (front, address), hand_edges(address) as make:
        slow = [make() for _ in range(3)]
        for number, edge in enumerate(slow):
            await edge.open(f"slow-{number}", "s")
            await edge.part(sequence=7, index=0, count=2, total_bytes=400_000, data=bytes(340_000))
        await until(lambda: front.ingress._unfinished.held_bytes == 3 * 340_000)
        good_edge = make()
        await good_edge.open("cam", "s")
        for sequence in range(5):
            whole = good(sequence, 480, 320).SerializeToString()
            half = len(whole) // 2
            assert half > 60_000  # more than there is room for
            for index, data in enumerate((whole[:half], whole[half:])):
                await good_edge.part(sequence=sequence, index=index, count=2, total_bytes=len(whole), data=data)
            assert await good_edge.verdict() == pb.Accepted(sequence=sequence)
        rejected = await slow[0].verdict()
        assert (rejected.sequence, rejected.reason) == (7, pb.REJECT_REASON_OVERLOADED) and rejected.retry_after_ms
        code, detail = await slow[0].end()
        assert code is grpc.StatusCode.ABORTED and "it holds 340,000 of the 1,048,576 bytes" in detail
        await until(lambda: set(front.streams.live) == {"slow-1", "slow-2", "cam"})
        again = make()
        assert await open_and_send(again, "slow-0", good(8)) == [pb.Accepted(sequence=8)]


async def test_parts_that_come_slowly_are_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_node.receiver.PART_IDLE_S", 1.5)
    whole = good(3).SerializeToString()
    cut = [whole[start : start + 400] for start in range(0, len(whole), 400)]
    async with serving() as (front, address), hand_edges(address) as make:
        edge = make()
        await edge.open("cam", "s")
        for index, data in enumerate(cut):
            await edge.part(sequence=3, index=index, count=len(cut), total_bytes=len(whole), data=data)
            await asyncio.sleep(2.0 / len(cut))
        assert await edge.verdict() == pb.Accepted(sequence=3)
        await until(lambda: front.sequences("cam") == [3])


async def test_an_edge_that_ignores_the_window_is_rejected_and_then_cut_off() -> None:
    async with serving() as (front, address), hand_edges(address) as make:
        front.working = False
        edge = make()
        opened = await edge.open("cam", "s")
        for sequence in range(opened.window_frames + MAX_BEYOND + 1):
            await edge.frame(good(sequence))
        verdicts = [await edge.verdict() for _ in range(opened.window_frames + MAX_BEYOND)]
        assert all(isinstance(verdict, pb.Accepted) for verdict in verdicts[: opened.window_frames])
        assert {verdict.reason for verdict in verdicts[opened.window_frames :]} == {pb.REJECT_REASON_WINDOW}
        code, detail = await edge.end()
        assert code is grpc.StatusCode.ABORTED and "beyond the window" in detail
        await until(lambda: not front.streams.live)
        front.work()
        assert front.sequences("cam") == list(range(opened.window_frames)), "what was accepted gets its result"


async def test_frames_out_of_order_are_taken_and_known_when_they_come_twice() -> None:
    async with serving() as (front, address), hand_edges(address) as make:
        front.working = False
        edge = make()
        sequences = (9, 2**64 - 1, 3)
        assert await open_and_send(edge, "cam", *map(good, sequences)) == [
            pb.Accepted(sequence=sequence) for sequence in sequences
        ]
        await edge.frame(good(9))
        assert await edge.verdict() == pb.Accepted(sequence=9), "it is being worked on"
        await edge.credits(1)
        front.work()
        await edge.credits(3)
        await edge.frame(good(3))
        assert (await edge.verdict()).reason == pb.REJECT_REASON_DUPLICATE
        await edge.credits(1)
        await edge.frame(good(3, attempt=1))
        assert await edge.verdict() == pb.Accepted(sequence=3, attempt=1)
        front.work()
        assert [result.id.sequence for result in front.results] == [9, 2**64 - 1, 3, 3]


async def test_an_edge_that_vanishes_leaves_nothing_behind_and_its_frames_get_results() -> None:
    async with serving() as (front, address):
        front.working = False
        async with hand_edges(address) as make:
            await open_and_send(make(), "cam", *map(good, range(3)))
            session = front.streams.live["cam"].session
        await until(lambda: not front.streams.live)
        assert front.admission.queued_bytes == 3 * SIZE and session.holding
        front.work()
        assert front.sequences("cam") == [0, 1, 2]
        assert front.admission.queued_bytes == 0 and not session.holding


KILLED = """
import sys, asyncio
sys.path[:0] = {path!r}
from hand_edges import hand_edges, good
async def main():
    async with hand_edges({address!r}) as make:
        edge = make()
        await edge.open("cam", "s")
        await edge.frame(good(0))
        await edge.verdict()
        await edge.part(sequence=1, index=0, count=2, total_bytes=100, data=b"x")
        print("sent", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_a_process_that_is_killed_in_the_middle_of_a_frame() -> None:
    async with serving() as (front, address):
        front.working = False
        script = KILLED.format(path=sys.path, address=address)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"sent\n"
        assert list(front.streams.live) == ["cam"]
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await until(lambda: not front.streams.live)
        front.work()
        assert front.sequences("cam") == [0] and front.admission.queued_bytes == 0


async def test_an_edge_that_never_reads_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its window does not hold it: what is malformed returns its credit at once."""
    monkeypatch.setattr("cloud_node.streams.MAX_OUTBOX", 100)
    monkeypatch.setattr("cloud_node.streams.FLUSH_S", 0.2)
    async with serving() as (front, address), hand_edges(address) as make:
        small = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]  # or gRPC reads ahead for it
        async with grpc.aio.insecure_channel(address, options=small) as channel:
            deaf = HandEdge(enhancement_pb2_grpc.EnhancementStub(channel).Stream())
            await deaf.open("deaf", "s")
            stream = front.streams.live["deaf"]

            async def flood() -> None:
                while True:
                    await deaf.frame(broken)

            broken = bad(width=0)
            flooding = asyncio.create_task(flood())
            await until(lambda: "deaf" not in front.streams.live)
            assert "does not read" in stream.ended and not stream._outbox
            assert await open_and_send(make(), "cam", good(0)) == [pb.Accepted(sequence=0)]
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)


@pytest.mark.parametrize("captured_unix_ns", [0, 1, 2**63, 2**64 - 1])
async def test_clocks_that_are_off_matter_nowhere(captured_unix_ns: int) -> None:
    async with serving() as (front, address), hand_edges(address) as make:
        front.load.on_batch(64 * 48, 1, 1)
        frame = good(0, captured_unix_ns=captured_unix_ns, deadline_ms=60_000)
        assert await open_and_send(make(), "cam", frame) == [pb.Accepted(sequence=0)]
        await until(lambda: bool(front.results))
        [result] = front.results
        assert result.captured_unix_ns == captured_unix_ns and result.outcome.name == "ENHANCED"
        assert 0 <= result.stages_ns["ingress"] < 60e9


async def test_too_many_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_node.streams.SILENCE_S", 0.1)
    async with serving(settings(max_edges=2)) as (front, address), hand_edges(address) as make:
        first = make()
        for number, edge in enumerate((first, make())):
            await edge.open(f"cam{number}", "s")
        third = make()
        await third.call.write(pb.EdgeMessage(open=pb.Open(edge="cam2", session="s")))
        code, detail = await third.end()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and "serves 2 edges already" in detail
        assert (await make().open("cam0", "s")).node == "node", "an edge that has its place may open a new stream"
        assert (await first.end())[0] is grpc.StatusCode.ABORTED
        for session in range(20):
            async with hand_edges(address) as more:
                await more().open("cam1", f"s{session}")
        assert len(front.streams._sessions) <= 4


async def test_a_flooding_edge_costs_another_edge_no_frame() -> None:
    """One edge sends beyond its window, malformed frames and parts, on stream after stream; the other its frames."""
    async with serving() as (front, address), hand_edges(address) as make, hand_edges(address) as flood_make:

        async def flood() -> None:
            while True:
                edge = flood_make()
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await edge.open("flood", "s", encoding=image_pb2.ResultEncoding())
                    for sequence in range(400):
                        await edge.frame(good(sequence) if sequence % 2 else bad(payload=b"junk"))
                    await edge.part(sequence=1, index=7, count=2, total_bytes=100, data=b"x")
                    await edge.end()

        flooding = asyncio.create_task(flood())
        edge = make()
        await edge.open("good", "s")
        await until(lambda: bool(front.sequences("flood")))
        for sequence in range(100):
            await edge.frame(good(sequence))
            assert await edge.verdict() == pb.Accepted(sequence=sequence)
            await edge.credits(1)
        assert front.sequences("good") == list(range(100))
        assert not flooding.done()
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)


async def test_a_full_queue_of_one_edge_leaves_room_for_another() -> None:
    """What one session may have on a node is bounded, whatever it does."""
    node = replace(settings(max_queued=40), window=Window(window_frames=4))
    async with serving(node) as (front, address), hand_edges(address) as make:
        front.working = False
        for stream in range(10):  # each takes over from the one before, with a new window
            await open_and_send(make(), "flood", *(good(10 * stream + number) for number in range(4)))
        assert len(front.scheduler) == 16
        assert await open_and_send(make(), "good", good(0)) == [pb.Accepted(sequence=0)]


# --- single pictures ---


async def test_single_pictures() -> None:
    async with serving(settings(max_queued=1)) as (front, address), connect(address) as channel:
        stub = enhancement_pb2_grpc.EnhancementStub(channel)
        image = good().image
        result = await stub.Enhance(pb.Image(packed=image, preset="edge"))
        assert (result.model, result.outcome) == ("edge-2", result_pb2.OUTCOME_ENHANCED)
        with pytest.raises(grpc.aio.AioRpcError, match="serves preset 'fast', 'edge', not 'deep'"):
            await stub.Enhance(pb.Image(packed=image, preset="deep"))
        front.working = False
        waiting = asyncio.ensure_future(stub.Enhance(pb.Image(packed=image, priority=frame_pb2.PRIORITY_SECONDARY)))
        await until(lambda: len(front.scheduler) == 1)
        with pytest.raises(grpc.aio.AioRpcError, match="1 frames wait already: try again in"):
            await stub.Enhance(pb.Image(packed=image, priority=frame_pb2.PRIORITY_SECONDARY))
        urgent = stub.Enhance(pb.Image(packed=image, priority=frame_pb2.PRIORITY_ESSENTIAL))
        with pytest.raises(grpc.aio.AioRpcError, match="more urgent frames need its place") as given_back:
            await waiting
        assert given_back.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        front.work()
        assert (await urgent).outcome == result_pb2.OUTCOME_ENHANCED


async def test_a_single_picture_that_nobody_waits_for_leaves_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_node.ingress.MAX_SINGLE", 3)
    async with serving() as (front, address), connect(address) as channel:
        front.working = False
        stub = enhancement_pb2_grpc.EnhancementStub(channel)
        calls = [stub.Enhance(pb.Image(packed=good().image)) for _ in range(3)]
        await until(lambda: len(front.scheduler) == 3)
        with pytest.raises(grpc.aio.AioRpcError, match="3 pictures of this caller wait"):
            await stub.Enhance(pb.Image(packed=good().image))
        for call in calls:
            call.cancel()
        await until(lambda: len(front.scheduler) == 0)
        assert front.admission.queued_bytes == 0 and not front.ingress._single


@pytest.mark.parametrize(
    ("window", "limits", "paced"),
    [
        (Window(window_bytes=10 * SIZE), Limits(), False),
        (Window(), Limits(max_pixels=64 * 48 * 5 // 2), False),
        (Window(), Limits(), True),
    ],
    ids=["bytes", "pixels", "time"],
)
async def test_single_pictures_of_one_caller_leave_room_for_others(window: Window, limits: Limits, paced: bool) -> None:
    """However urgent they claim to be; a picture of `good` size takes a second where a pace is known."""
    node = CloudSettings(window=window, limits=limits)
    async with serving(node) as (front, address), connect(address) as channel, hand_edges(address) as make:
        front.working = False
        if paced:
            front.load.on_batch(64 * 48, WAITS_NS // 2, 1)
        stub = enhancement_pb2_grpc.EnhancementStub(channel)
        image = pb.Image(packed=good().image, priority=frame_pb2.PRIORITY_ESSENTIAL)
        calls = [asyncio.ensure_future(stub.Enhance(image)) for _ in range(60)]
        await until(lambda: sum(call.done() for call in calls) == 50)
        assert len(front.scheduler) == 10
        refused = [call for call in calls if call.done()]
        assert {call.exception().code() for call in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert "pictures of this caller wait already" in refused[0].exception().details()
        assert await open_and_send(make(), "good", good(0)) == [pb.Accepted(sequence=0)]
        front.work()
        assert len([await call for call in calls if call not in refused]) == 10
        lone = asyncio.ensure_future(stub.Enhance(image))
        await until(lambda: len(front.scheduler) == 1)
        front.work()
        assert (await lone).outcome == result_pb2.OUTCOME_ENHANCED


async def test_a_draining_node_takes_no_more() -> None:
    async with serving() as (front, address), hand_edges(address) as make, connect(address) as channel:
        edge = make()
        await edge.open(name(), "s")
        front.ingress.draining = "this node is stopping: send to another"
        await edge.frame(good(0))
        verdict = await edge.verdict()
        assert verdict.reason == pb.REJECT_REASON_DRAINING and verdict.retry_after_ms > 0
        late = make()
        await late.call.write(pb.EdgeMessage(open=pb.Open(edge=name(), session="s")))
        assert (await late.end())[0] is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.aio.AioRpcError, match="stopping"):
            await enhancement_pb2_grpc.EnhancementStub(channel).Enhance(pb.Image(packed=good().image))
