import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_node.settings import Window
from cloud_node.streams import MAX_BEYOND, Account, EdgeStream, Session, Streams
from common.errors import Overloaded, StreamRefused
from lamplight.v1 import enhancement_pb2 as pb


def streams(max_edges: int = 10) -> Streams:
    return Streams(Window(), max_edges)


async def answer(stream: EdgeStream) -> None:
    """What a living edge does with a probe."""
    message = await stream.next()
    assert message is not None and message.WhichOneof("message") == "probe"
    stream.heard.set()


async def test_the_same_session_takes_over_at_once() -> None:
    desk = streams()
    old = await desk.join("cam", "s1")
    old.session.holding[7] = 0
    new = await desk.join("cam", "s1")
    assert "took over" in old.ended and not new.ended
    assert new.session is old.session and new.session.holding == {7: 0}
    desk.leave(old)
    assert desk.live == {"cam": new}


async def test_another_session_is_refused_while_the_holder_answers() -> None:
    desk = streams()
    holder = await desk.join("cam", "s1")
    answering = asyncio.create_task(answer(holder))
    with pytest.raises(StreamRefused, match="in use by another session"):
        await desk.join("cam", "s2")
    await answering
    assert desk.live["cam"] is holder


async def test_another_session_gets_the_name_of_a_silent_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_node.streams.SILENCE_S", 0.05)
    desk = streams()
    holder = await desk.join("cam", "s1")
    new = await desk.join("cam", "s2")
    assert "silent" in holder.ended and desk.live["cam"] is new
    assert new.session.session == "s2"


LOOKALIKES = ["cam\n", "cam\0", "c\u0430m", "\uff43am", "cam\u0661", "\u202ecam"]


@pytest.mark.parametrize("name", ["", "a.b", "a b", "*", ">", "x" * 65, "ä", "../x", "a/#", *LOOKALIKES])
async def test_names_that_are_no_subject_tokens(name: str) -> None:
    with pytest.raises(StreamRefused, match="use 1 to 64"):
        await streams().join(name, "s")
    with pytest.raises(StreamRefused, match="use 1 to 64"):
        await streams().join("cam", name)


async def test_too_many_edges() -> None:
    desk = streams(max_edges=1)
    await desk.join("a", "s")
    with pytest.raises(Overloaded, match="1 edges already"):
        await desk.join("b", "s")


async def test_an_edge_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_node.streams.MAX_OUTBOX", 3)
    stream = await streams().join("cam", "s")
    for number in range(5):
        stream.reject(number, 0, pb.REJECT_REASON_MALFORMED, "broken")
    assert "does not read" in stream.ended


async def test_sessions_of_edges_that_left_are_forgotten() -> None:
    desk = streams(max_edges=2)
    for number in range(20):
        desk.leave(await desk.join(f"edge{number}", "s"))
    assert len(desk._sessions) <= 5


def test_a_sequence_is_known_when_it_comes_twice() -> None:
    session = Session("e", "s")
    assert not session.seen(1, 0)
    assert session.seen(1, 0)
    assert not session.seen(1, 1), "a new attempt is welcome"
    session.forget(1)
    assert not session.seen(1, 1)
    for sequence in range(5_000):
        session.seen(sequence, 0)
    assert len(session.attempts) == 64


async def told(stream: EdgeStream) -> list[pb.CloudMessage]:
    """All that waits for the edge; ends the stream."""
    stream.end()
    messages = []
    while (message := await stream.next()) is not None:
        messages.append(message)
    return messages


async def test_credits_that_wait_go_as_one() -> None:
    stream = await streams().join("cam", "s")
    for size in (10, 20, 30):
        assert stream.charge(size)
    for size in (10, 20, 30):
        stream.release(size, 4)
    [message] = await told(stream)
    assert message.credit == pb.Credit(frames=3, bytes=60)


async def test_a_stream_that_ignores_its_window_is_ended() -> None:
    stream = await streams().join("cam", "s")
    assert [stream.charge(1) for _ in range(4 + MAX_BEYOND)] == [True] * 4 + [False] * MAX_BEYOND
    assert not stream.ended
    stream.charge(1)
    assert "beyond the window" in stream.ended


async def test_a_frame_is_given_back_to_the_stream_that_its_session_has_now() -> None:
    desk = streams()
    old = await desk.join("cam", "s1")
    old.session.seen(7, 0)
    old.session.holding[7] = 2  # it came again as attempts 1 and 2
    new = await desk.join("cam", "s1")
    desk.give_back("cam", "s1", 7, 0, pb.REJECT_REASON_DEVICE, "the device is lost", 300)
    desk.give_back("cam", "another session", 7, 0, pb.REJECT_REASON_DEVICE, "not its frame")
    desk.give_back("nobody", "s1", 7, 0, pb.REJECT_REASON_DEVICE, "not its frame")
    [message] = await told(new)
    rejected = pb.Rejected(
        sequence=7, attempt=2, reason=pb.REJECT_REASON_DEVICE, detail="the device is lost", retry_after_ms=300
    )
    assert message.rejected == rejected and await told(old) == []
    assert not new.session.holding and not new.session.seen(7, 0)


async def test_a_frame_given_back_while_its_edge_is_away_is_held_no_longer() -> None:
    desk = streams()
    stream = await desk.join("cam", "s1")
    stream.session.seen(7, 0)
    stream.session.holding[7] = 0
    desk.leave(stream)
    desk.give_back("cam", "s1", 7, 0, pb.REJECT_REASON_DEVICE, "the device is lost")
    again = await desk.join("cam", "s1")
    assert again.session is stream.session and not again.session.holding and not again.session.seen(7, 0)


async def test_an_edge_that_does_not_read_the_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_node.streams.FLUSH_S", 0.05)
    stream = await streams().join("cam", "s")
    never = asyncio.Event()
    opened = pb.CloudMessage(opened=pb.Opened())

    async def write(message: pb.CloudMessage) -> None:
        assert message is opened
        await never.wait()

    writing = asyncio.create_task(stream.write_to(write, opened))
    await asyncio.sleep(0)
    stream.end("time to go")
    async with asyncio.timeout(60):
        await writing


def test_the_window_counts_frames_and_bytes_but_lets_a_lone_large_frame_in() -> None:
    account = Account(window_frames=2, window_bytes=100)
    assert account.charge(500)
    assert not account.charge(1)
    assert account.credit(500, 2) == 1 and account.credit(1, 2) == 1
    assert account.charge(60) and not account.charge(60)


def test_the_window_moves_by_one_frame_at_a_time() -> None:
    account = Account(window_frames=3, window_bytes=100)
    told = []
    for target in (1, 1, 1, 3, 3, 3):
        account.charge(1)
        told.append((account.credit(1, target), account.window_frames))
    assert told == [(0, 2), (0, 1), (1, 1), (2, 2), (2, 3), (1, 3)]


@given(st.data(), st.integers(1, 8))
def test_edge_and_node_agree_on_the_window_whatever_comes(data: st.DataObject, most: int) -> None:
    """An edge that keeps to what it was told is never beyond its window; no place is lost or made up."""
    account = Account(most, 1_000)
    may_send, sending, returning, here = most, 0, 0, 0
    for _ in range(data.draw(st.integers(0, 60))):
        step = data.draw(st.sampled_from(["send", "arrive", "release", "return"]))
        if step == "send" and may_send:
            may_send, sending = may_send - 1, sending + 1
        elif step == "arrive" and sending:
            sending, here = sending - 1, here + 1
            assert account.charge(1)
        elif step == "release" and here:
            here -= 1
            before, target = account.window_frames, data.draw(st.integers(1, most))
            returning += account.credit(1, target)
            assert abs(account.window_frames - target) == max(0, abs(before - target) - 1)
        elif step == "return":
            may_send, returning = may_send + returning, 0
        assert account.frames == account.bytes == here
        assert may_send + sending + here + returning == account.window_frames
        assert 1 <= account.window_frames <= most
