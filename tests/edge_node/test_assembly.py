"""Parts of results from whoever can publish: what is taken for them is bounded."""

import pytest

from common.channel import MAX_MESSAGE_BYTES
from common.errors import CorruptImage
from common.frame import Priority
from common.subjects import HEADER_BYTES, HEADER_MESSAGE_ID, HEADER_PART
from edge_node.assembly import Assembler, Part, part_of


def headers(key: str = "e/s/1/0", index: object = 1, count: object = 2, total: object = 10) -> dict[str, str]:
    return {HEADER_MESSAGE_ID: f"{key}/{index}", HEADER_PART: f"{index}/{count}", HEADER_BYTES: str(total)}


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        headers(key="e/s/1"),
        headers(key="e/s/" + "1" * 300 + "/0"),
        headers(index=3),
        headers(index=0),
        headers(count=10**9),
        headers(count="9" * 5000),
        headers(total=-1),
        headers(total=3),  # less than this part alone
        headers(total=MAX_MESSAGE_BYTES + 1),
        headers(total="1e3"),
        headers() | {HEADER_PART: "1/2/3"},
        headers() | {HEADER_MESSAGE_ID: "x" * 10**6},
    ],
)
def test_headers_that_do_not_hold_together(wrong: dict[str, str]) -> None:
    assert part_of(headers(), b"12345").count == 2
    with pytest.raises(CorruptImage, match="no part of a result") as error:
        part_of(wrong, b"12345")
    assert len(str(error.value)) < 1000


def test_many_that_are_empty_are_bounded() -> None:
    assembler: Assembler[int] = Assembler(100_000)
    forgotten = 0
    for number in range(5_000):
        _, gone = assembler.add(Part(f"e/s/{number}/0", 1, 2, 0, b""), number, Priority.STANDARD, number)
        forgotten += len(gone)
    assert len(assembler) + forgotten == 5_000
    assert len(assembler) <= 100 and assembler.held_bytes <= 100_000


def test_a_part_that_comes_again_and_again_is_bounded() -> None:
    assembler: Assembler[int] = Assembler(100_000)
    gone = []
    for number in range(5_000):
        gone += assembler.add(Part("e/s/1/0", 1, 2, 0, b""), number, Priority.STANDARD, number)[1]
    assert gone and assembler.held_bytes <= 100_000


def test_what_is_held_is_counted_to_the_end() -> None:
    assembler: Assembler[int] = Assembler(10**6)
    assembler.add(Part("e/s/1/0", 1, 2, 8, b"four"), 1, Priority.STANDARD, 1.0)
    assembler.add(Part("e/s/2/0", 1, 2, 8, b"four"), 2, Priority.STANDARD, 2.0)
    whole, _ = assembler.add(Part("e/s/1/0", 2, 2, 8, b"more"), 3, Priority.STANDARD, 3.0)
    assert whole is not None and whole.body() == b"fourmore"
    assert [old.key for old in assembler.forget_stale(5.0)] == ["e/s/2/0"]
    assert assembler.held_bytes == 0
