import pytest

from cloud_node.parts import PartAssembler, Unfinished
from common.errors import FrameTooLarge, Overloaded


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def test_parts_become_the_whole_also_when_frames_mix() -> None:
    parts = PartAssembler(1_000, 4, 1_000)
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
    parts = PartAssembler(1_000, 2, 100)
    with pytest.raises(ValueError, match=message):
        for part in sent:
            parts.add(*part)


def test_a_frame_in_parts_that_is_too_large() -> None:
    with pytest.raises(FrameTooLarge, match="2,000 bytes, the limit is 1,000"):
        PartAssembler(1_000, 4, 1_000).add(1, 0, 0, 2, 2_000, b"x")


def test_frames_of_all_streams_that_are_not_whole_are_bounded_together() -> None:
    unfinished = Unfinished(100)
    one, two = (PartAssembler(1_000, 4, 1_000, unfinished) for _ in range(2))
    one.add(1, 0, 0, 2, 90, b"x" * 50)
    with pytest.raises(Overloaded, match="50 bytes of frames are here .* than the 60 of this one"):
        two.add(1, 0, 0, 2, 90, b"x" * 60)
    assert one.add(1, 0, 1, 2, 90, b"x" * 40) == b"x" * 90 and unfinished.held_bytes == 0
    two.add(2, 0, 0, 2, 90, b"x" * 60)
    two.add(3, 0, 0, 2, 90, b"x" * 30)
    assert two.held_bytes == unfinished.held_bytes == 90
    two.clear()
    assert unfinished.held_bytes == 0


def test_who_holds_the_most_gives_up_its_stalest_frame() -> None:
    unfinished, gone = Unfinished(100), []
    one, two, three = (
        PartAssembler(1_000, 4, 1_000, unfinished, lambda key, reason, name=name: gone.append((name, key)))
        for name in ("one", "two", "three")
    )
    one.add(1, 0, 0, 3, 90, b"x" * 20)
    one.add(2, 0, 0, 2, 90, b"x" * 20)
    one.add(1, 0, 1, 3, 90, b"x" * 10)  # 2 is the stalest
    two.add(1, 0, 0, 2, 90, b"x" * 40)
    three.add(1, 0, 0, 2, 90, b"x" * 30)
    assert gone == [("one", (2, 0))] and unfinished.held_bytes == 100
    three.add(2, 0, 0, 2, 90, b"x" * 5)
    assert gone[1:] == [("two", (1, 0))]
    assert (one.held_bytes, two.held_bytes, three.held_bytes) == (30, 0, 35)


def test_a_frame_that_stops_in_the_middle_shows_and_its_memory_is_freed() -> None:
    parts = PartAssembler(1_000, 4, 1_000)
    assert parts.add(1, 3, 0, 2, 4, b"xx") is None
    assert parts.idle(60) is None and parts.idle(0) == (1, 3) and len(parts) == 1
    assert parts.add(1, 3, 1, 2, 4, b"xx") == b"xxxx"
    assert parts.idle(0) is None and not len(parts)
    parts.add(2, 0, 0, 2, 4, b"xx")
    parts.clear()
    assert not len(parts) and parts.idle(0) is None
