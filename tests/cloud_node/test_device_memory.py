"""What a node and the process of its device both see."""

import os
import subprocess
import sys

import pytest

from cloud_node.device_memory import LEAST, WHOLE, Arena, Burst, Claim, Hands, Slot, Stretch


def test_a_stretch_grows_under_the_eyes_of_the_other_and_shrinks() -> None:
    ours = Stretch()
    theirs = Stretch(os.dup(ours.descriptor))
    ours.write(0, b"")
    assert theirs.read(0, 0) == b""
    ours.write(3, b"frame")
    assert theirs.read(3, 5) == b"frame"
    ours.write(3 * LEAST, b"last")
    assert theirs.read(3, 5) == b"frame" and theirs.read(3 * LEAST, 4) == b"last"
    ours.cut(LEAST)
    assert theirs.size == LEAST and theirs.read(3, 5) == b"frame"
    with pytest.raises(OSError, match="not there"):
        theirs.read(3 * LEAST, 4)
    ours.close()
    theirs.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is a file in the temporary folder")
def test_memory_is_no_file_of_dev_shm_which_is_64_mb_in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(name: str) -> int:
        raise PermissionError

    stretches = [Stretch()]
    monkeypatch.setattr(os, "memfd_create", forbidden)
    stretches.append(Stretch())
    for stretch, place in zip(stretches, ("/memfd:", "/"), strict=True):
        stretch.write((100 << 20) - 4, b"last")
        name = os.readlink(f"/proc/self/fd/{stretch.descriptor}")
        assert name.startswith(place) and name.endswith("(deleted)"), "nothing is left of it"
        assert not name.startswith("/dev/shm") and stretch.size == 100 << 20
        stretch.close()


def test_a_slot_keeps_what_batches_took_lately() -> None:
    slot = Slot()

    def batch(size: int) -> None:
        slot.expect(size)
        slot.stretch.write(0, bytes(size))

    batch(5 * LEAST)
    slot.tidy(in_use=True)
    slot.tidy(in_use=True)
    assert slot.stretch.size == 5 * LEAST, "it may still be read"
    batch(100)
    slot.tidy(in_use=False)
    assert slot.stretch.size == 5 * LEAST, "it was needed since the last time"
    slot.tidy(in_use=False)
    assert slot.stretch.size == LEAST
    batch(2 * LEAST)
    assert slot.stretch.read(LEAST, LEAST) == bytes(LEAST)
    slot.close()


def test_results_lie_apart_and_their_place_is_used_again() -> None:
    arena = Arena(stretch := Stretch())
    first, second, third = (arena.put(bytes([n]) * LEAST) for n in range(3))
    arena.free(second)
    assert arena.put(b"x" * (LEAST // 2)) == second
    assert arena.put(b"y" * LEAST) == 3 * LEAST, "it does not fit between"
    assert stretch.read(first, LEAST) == bytes(LEAST) and stretch.read(third, 2) == b"\2\2"
    for start in (second, third, 3 * LEAST):
        arena.free(start)
    arena.tidy()
    assert stretch.size == 4 * LEAST
    arena.tidy()
    assert stretch.size == LEAST and stretch.read(first, LEAST) == bytes(LEAST)
    assert arena.put(b"") == LEAST and arena.put(b"z") == LEAST + 1, "also nothing has a place"
    stretch.close()


@pytest.mark.parametrize("after", [0, 25])
def test_a_burst_is_over_once_what_follows_is_much_smaller(after: int) -> None:
    burst = Burst()
    assert not burst.over(), "nothing came yet"
    for size in (10, 100, 40, 26):
        burst.note(size)
        assert not burst.over()
    for first in (True, False):
        burst.note(after)
        assert burst.over() is first


def test_what_a_killed_process_was_at_can_be_read() -> None:
    stretch = Stretch()
    code = """
import os, signal, sys, threading
from cloud_node.device_memory import Hands, Stretch
hands = Hands(Stretch(int(sys.argv[1])))
other = threading.Thread(target=lambda: (hands.take(7, 2), hands.empty(), hands.take(7, 3)))
other.start(); other.join()
hands.take(8)
done = threading.Thread(target=lambda: (hands.take(9, 1), hands.empty()))
done.start(); done.join()
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = os.pathsep.join(filter(None, sys.path))
    number = stretch.descriptor
    ended = subprocess.run(
        [sys.executable, "-c", code, str(number)],
        pass_fds=[number],
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert ended.returncode == -9
    assert sorted(Hands(stretch).held()) == [(7, 3), (8, WHOLE)]
    stretch.close()


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
