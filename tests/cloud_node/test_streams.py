import asyncio

import numpy as np
import pytest

from cloud_node.admission import Account, Session, check_image
from cloud_node.jobs import Encoding
from cloud_node.settings import Limits, Window
from cloud_node.streams import EdgeStream, PartAssembler, Streams
from common import packing
from common.errors import CorruptImage, FrameTooLarge, Overloaded, StreamRefused
from common.packing import ImageFormat
from common.pixels import PixelFormat, RawImage

JPEG = Encoding(ImageFormat.JPEG)


def streams(max_edges: int = 10) -> Streams:
    return Streams(Window(), max_edges)


async def answer(stream: EdgeStream) -> None:
    """What a living edge does with a probe."""
    message = await stream.next()
    assert message is not None and message.WhichOneof("message") == "probe"
    stream.heard.set()


async def test_the_same_session_takes_over_at_once() -> None:
    desk = streams()
    old = await desk.join("cam", "s1", JPEG)
    old.session.holding.add(7)
    new = await desk.join("cam", "s1", JPEG)
    assert "took over" in old.ended and not new.ended
    assert new.session is old.session and new.session.holding == {7}
    desk.leave(old)
    assert desk.live == {"cam": new}


async def test_another_session_is_refused_while_the_holder_answers() -> None:
    desk = streams()
    holder = await desk.join("cam", "s1", JPEG)
    answering = asyncio.create_task(answer(holder))
    with pytest.raises(StreamRefused, match="in use by another session"):
        await desk.join("cam", "s2", JPEG)
    await answering
    assert desk.live["cam"] is holder


async def test_another_session_gets_the_name_of_a_silent_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_node.streams.SILENCE_S", 0.05)
    desk = streams()
    holder = await desk.join("cam", "s1", JPEG)
    new = await desk.join("cam", "s2", JPEG)
    assert "silent" in holder.ended and desk.live["cam"] is new
    assert new.session.session == "s2"


@pytest.mark.parametrize("name", ["", "a.b", "a b", "*", ">", "x" * 65, "ä", "../x"])
async def test_names_that_are_no_subject_tokens(name: str) -> None:
    with pytest.raises(StreamRefused, match="use 1 to 64"):
        await streams().join(name, "s", JPEG)
    with pytest.raises(StreamRefused, match="use 1 to 64"):
        await streams().join("cam", name, JPEG)


async def test_too_many_edges() -> None:
    desk = streams(max_edges=1)
    await desk.join("a", "s", JPEG)
    with pytest.raises(Overloaded, match="1 edges already"):
        await desk.join("b", "s", JPEG)


async def test_an_edge_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_node.streams.MAX_OUTBOX", 3)
    stream = await streams().join("cam", "s", JPEG)
    for _ in range(5):
        stream.release(1)
    assert "does not read" in stream.ended


async def test_sessions_of_edges_that_left_are_forgotten() -> None:
    desk = streams(max_edges=2)
    for number in range(20):
        desk.leave(await desk.join(f"edge{number}", "s", JPEG))
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


def test_the_window_counts_frames_and_bytes_but_lets_a_lone_large_frame_in() -> None:
    account = Account(Window(window_frames=2, window_bytes=100))
    assert account.charge(500)
    assert not account.charge(1)
    account.credit(500)
    account.credit(1)
    assert account.charge(60) and not account.charge(60)


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def test_parts_become_the_whole_also_when_frames_mix() -> None:
    parts = PartAssembler(1_000, Window())
    one, two = b"a" * 250, b"b" * 90
    got = {}
    for index in range(3):
        for sequence, whole in ((1, one), (2, two)):
            cut = pieces(whole, 100)
            if index < len(cut):
                made = parts.add(sequence, 0, index, len(cut), len(whole), cut[index])
                if made is not None:
                    got[sequence] = made
    assert got == {1: one, 2: two}


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ([(1, 0, 1, 2, 10, b"x")], "part 1 of 2 came where part 0"),
        ([(1, 0, 0, 0, 10, b"x")], "part 0 of 0"),
        ([(1, 0, 0, 2, 3, b"xxxx")], "exceed the 3 bytes"),
        ([(number, 0, 0, 2, 900, b"x" * 60) for number in range(2)], "exceed the window of 100"),
        ([(1, 0, 0, 2, 4, b"x"), (1, 0, 1, 2, 4, b"x")], "hold 2 bytes together, not 4"),
        ([(1, 0, 0, 2, 4, b"x"), (1, 0, 0, 2, 4, b"x")], "part 0 of 2 came where part 1"),
        ([(number, 0, 0, 2, 4, b"x") for number in range(3)], "more than 2 frames"),
        ([(1, 0, 0, 70_000, 4, b"x")], "part 0 of 70000"),
    ],
)
def test_parts_that_do_not_fit(sent: list, message: str) -> None:
    parts = PartAssembler(1_000, Window(window_frames=2, window_bytes=100))
    with pytest.raises(ValueError, match=message):
        for part in sent:
            parts.add(*part)


def test_a_frame_in_parts_that_is_too_large() -> None:
    with pytest.raises(FrameTooLarge, match="2,000 bytes, the limit is 1,000"):
        PartAssembler(1_000, Window()).add(1, 0, 0, 2, 2_000, b"x")


def test_images_are_checked_before_memory_is_taken() -> None:
    packed = packing.pack(RawImage(np.zeros(20 * 10, np.uint8), 20, 10, PixelFormat.GRAY8))
    check_image(packed, Limits())
    with pytest.raises(FrameTooLarge, match="200 pixels, the limit is 199"):
        check_image(packed, Limits(max_pixels=199))
    with pytest.raises(FrameTooLarge, match="bytes, the limit is 3"):
        check_image(packed, Limits(max_frame_bytes=3))
    claimed = packing.PackedImage(21, 10, *[getattr(packed, name) for name in packed.__slots__[2:]])
    with pytest.raises(CorruptImage, match="claims 200 bytes, expected 210"):
        check_image(claimed, Limits())
