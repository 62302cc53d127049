"""What goes between a node and the process of its device."""

import os
import sys
from pathlib import Path

import pytest

from cloud_node.device_wire import Claim, Fault, Inbox, Memory, Models, framed
from common.errors import CorruptImage, DeviceError, FrameTooLarge, ImageError, OutOfDeviceMemory, WeightsError


@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_messages_come_whole_out_of_pieces(piece: int) -> None:
    sent = [Models({"fast": "fast-3"}), Models({"edge": "x" * 999})]
    stream, inbox = b"".join(map(framed, sent)), Inbox()
    got = [message for at in range(0, len(stream), piece) for message in inbox.add(stream[at : at + piece])]
    assert got == sent


def test_memory_grows_under_the_eyes_of_the_other() -> None:
    ours = Memory()
    theirs = Memory(os.dup(ours.descriptor))
    ours.grow(10)
    ours.write(3, b"frame")
    theirs.see(ours.size)
    assert theirs.read(3, 5) == b"frame"
    ours.grow(3 * ours.size)
    ours.write(ours.size - 4, b"last")
    theirs.see(ours.size)
    assert theirs.read(3, 5) == b"frame" and theirs.read(theirs.size - 4, 4) == b"last"
    ours.close()
    theirs.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is a file in the temporary folder")
def test_memory_is_no_file_of_dev_shm_which_is_64_mb_in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(name: str) -> int:
        raise PermissionError

    memories = [Memory()]
    monkeypatch.setattr(os, "memfd_create", forbidden)
    memories.append(Memory())
    for memory, place in zip(memories, ("/memfd:lamplight-frames", "/"), strict=True):
        memory.grow(100 << 20)
        memory.write((100 << 20) - 4, b"last")
        name = os.readlink(f"/proc/self/fd/{memory.descriptor}")
        assert name.startswith(place) and name.endswith("(deleted)"), "nothing is left of it"
        assert not name.startswith("/dev/shm")
        assert Path(f"/proc/self/fd/{memory.descriptor}").stat().st_size >= 100 << 20
        memory.close()


def test_nothing_can_be_written_first() -> None:
    ours = Memory()
    theirs = Memory(os.dup(ours.descriptor))
    ours.grow(0)
    ours.write(0, b"")
    theirs.see(ours.size)
    assert theirs.read(0, 0) == b""
    ours.close()
    theirs.close()


def test_a_batch_belongs_to_whoever_asks_first() -> None:
    node = Claim()
    child = Claim(os.dup(node.descriptor))
    node.offer(1)
    assert child.take(1) and not node.take(1)
    node.offer(2)
    assert node.take(2)  # taken back
    node.offer(258)  # and another put in its place
    assert not child.take(2), "the child finds the old one first"
    assert child.take(258) and not node.take(258)
    node.offer(4)
    assert not child.take(3) and child.take(4)
    node.offer(5)
    node.close()
    assert not node.take(5)
    child.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (WeightsError("w"), WeightsError),
        (CorruptImage("c"), CorruptImage),
        (FrameTooLarge(9, 4), ImageError),
        (OutOfDeviceMemory("cpu", 2, 9), DeviceError),
        (KeyError("k"), RuntimeError),
    ],
)
def test_errors_keep_their_kind_and_words(error: Exception, kind: type[Exception]) -> None:
    came = Fault.of(error).error
    assert type(came) is kind and str(came) == str(error)
