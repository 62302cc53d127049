"""The spool for an event loop: who has a frame in hand."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common import packing
from common.frame import Frame, FrameId, Priority
from common.pixels import RawImage
from common.settings import load
from edge_node.keeping import Keeping
from edge_node.settings import EdgeSettings
from edge_node.sinks import JsonLines
from edge_node.spool import Description, Entry, Spool

PACKED = packing.pack(RawImage.from_rgb(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)))


def frame(sequence: int, priority: Priority = Priority.ESSENTIAL) -> Frame:
    return Frame(FrameId("e", "s", sequence), PACKED, 10**18 + sequence, priority)


def keeping_of(tmp_path: Path, on_lost: Callable[[str], bool] = lambda reason: True, *flags: str) -> Keeping:
    async def lost(entry: Entry, known: Description, reason: str) -> bool:
        return on_lost(reason)

    arguments = ["--camera", "0", "--edge", "e", "--output", str(tmp_path), "--keep-all", *flags]
    return Keeping(load(EdgeSettings, arguments, {}), None, lost)


async def store(keeping: Keeping, kept: Frame) -> Entry | None:
    return await keeping.store(kept, "camera#0", 9216, (64, 48), "lossless")


async def test_a_frame_that_is_on_its_way_is_not_given_out_while_it_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping, asked = keeping_of(tmp_path), list[asyncio.Task]()
    loop, original = asyncio.get_running_loop(), Spool.store

    def slow(*arguments: object, **more: object) -> Entry:
        entry = original(*arguments, **more)
        loop.call_soon_threadsafe(lambda: asked.append(asyncio.ensure_future(keeping.next())))
        time.sleep(0.05)  # the disk: meanwhile it is asked for what to send
        return entry

    monkeypatch.setattr(Spool, "store", slow)
    entry = await store(keeping, frame(0))
    assert entry is not None and await asked[0] is None
    assert keeping.put_back(entry, 1) and await keeping.next() == entry
    await keeping.close()


async def test_what_is_on_its_way_is_not_pushed_out(tmp_path: Path) -> None:
    reasons: list[str] = []
    keeping = keeping_of(tmp_path, lambda reason: not reasons.append(reason))
    out, waiting = [await store(keeping, frame(number, Priority.STANDARD)) for number in range(2)]
    assert out is not None and waiting is not None and keeping.put_back(waiting, 1)
    spool = keeping._spool
    spool.limit_bytes = 2 * spool.held_bytes - 1  # not for two more
    assert await store(keeping, frame(2)) and await store(keeping, frame(3)) and await store(keeping, frame(4)) is None
    assert out in spool and waiting not in spool and "the spool was full" in reasons[0]
    assert keeping.put_back(out, 1) and await keeping.next() == out and await keeping.load(out) is not None
    await keeping.close()


async def test_what_has_its_line_and_stays_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk would not vouch for the line: that holds no room from frames that have none."""
    readings = JsonLines(tmp_path / "readings.jsonl")
    keeping = keeping_of(tmp_path)
    keeping._readings = readings
    less = await store(keeping, frame(0, Priority.STANDARD))
    done = [await store(keeping, frame(number)) for number in (1, 2, 5)]
    assert less is not None and keeping.put_back(less, 1)
    monkeypatch.setattr(readings, "sync", lambda: False)
    for entry in done:
        assert entry is not None
        await keeping.settled(entry)
    spool = keeping._spool
    spool.limit_bytes = spool.held_bytes + 2048
    assert len(keeping) == 1 and await keeping.find(FrameId("e", "s", 2)) is not None
    for number in (3, 4, 6):
        assert await store(keeping, frame(number, Priority.STANDARD)) is not None
        assert less in spool and len(spool) == 4
    assert len(keeping) == 4 and keeping.counts["unsure"] == 3 and caplog.text.count("makes room") == 2
    assert not keeping.counts["given up"] and not keeping._unsure
    await keeping.close()


async def test_room_that_cannot_be_made_is_not_used(tmp_path: Path) -> None:
    keeping = keeping_of(tmp_path, lambda reason: False)
    waiting = await store(keeping, frame(0))
    assert waiting is not None and keeping.put_back(waiting, 1)
    spool = keeping._spool
    spool.limit_bytes = spool.held_bytes + 1
    assert await store(keeping, frame(1)) is None
    assert waiting in spool and spool.held_bytes <= spool.limit_bytes
    await keeping.close()


async def test_a_frame_whose_end_cannot_be_written_down_stays(tmp_path: Path) -> None:
    keeping = keeping_of(tmp_path, lambda reason: False, "--spool-hours", "0.01")
    entry = await store(keeping, frame(0))
    assert entry is not None and keeping.put_back(entry, 1)
    keeping._spool.max_age_s = -1
    await keeping.give_up_old()
    assert entry in keeping._spool and len(keeping) == 1
    await keeping.close()


async def test_what_was_chosen_to_go_is_not_given_out_meanwhile(tmp_path: Path) -> None:
    """A large frame needs the room of two; while the first of these is written off, one is asked for."""
    given: list[Entry | None] = []

    async def lost(entry: Entry, known: Description, reason: str) -> bool:
        if not given:
            given.append(await keeping.next())
        return True

    arguments = ["--camera", "0", "--edge", "e", "--output", str(tmp_path), "--keep-all"]
    keeping = Keeping(load(EdgeSettings, arguments, {}), None, lost)
    for number in range(4):
        entry = await store(keeping, frame(number))
        assert entry is not None and keeping.put_back(entry, 1)
    spool = keeping._spool
    spool.limit_bytes = spool.held_bytes + 1
    large = packing.pack(RawImage.from_rgb(np.random.default_rng(1).integers(0, 255, (72, 64, 3), np.uint8)))
    assert await store(keeping, replace(frame(4), image=large))
    assert given[0] is not None and await keeping.load(given[0]) is not None
    assert [entry.id.sequence for entry in spool] == [2, 3, 4] and not keeping.counts["damaged"]
    await keeping.close()


async def test_what_is_given_back_and_claimed_at_once_while_room_is_made_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between what has to go was chosen, with the frame out, and its going: nothing of it may then be gone unsaid."""
    keeping = keeping_of(tmp_path)
    out = await store(keeping, frame(0, Priority.STANDARD))
    spool, room_for = keeping._spool, Spool.room_for
    assert out is not None

    def given_back_then(*arguments: object) -> list[Entry]:
        found = room_for(*arguments)
        keeping.put_back(out, 1)
        assert keeping.take(out)
        return found

    monkeypatch.setattr(Spool, "room_for", given_back_then)
    spool.limit_bytes = spool.held_bytes * 3 // 2
    await store(keeping, frame(1))
    assert await keeping.load(out) is not None and not keeping.counts["damaged"]
    await keeping.close()


async def test_what_was_claimed_while_it_was_chosen_to_go_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping, room_for, claimed = keeping_of(tmp_path), Spool.room_for, list[Entry]()
    for number in range(2):
        entry = await store(keeping, frame(number))
        assert entry is not None and keeping.put_back(entry, 1)
    spool = keeping._spool

    def claimed_then(*arguments: object) -> list[Entry]:
        found = room_for(*arguments)
        if found and not claimed:
            claimed.append(found[0])
            assert keeping.take(found[0])
        return found

    monkeypatch.setattr(Spool, "room_for", claimed_then)
    spool.limit_bytes = spool.held_bytes * 3 // 2 + 1024
    assert await store(keeping, frame(2)) and await store(keeping, frame(3))
    assert claimed[0] in spool and [entry.id.sequence for entry in spool] == [0, 2, 3]
    assert keeping.counts["given up"] == 1
    await keeping.close()


async def test_what_is_given_back_waits_with_its_attempt_and_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From when it is no longer out it may be given again, by another thread."""

    class Out(set[int]):
        def discard(self, order: int) -> None:
            assert keeping._attempts[order] == 3 and keeping._paused[order] > time.monotonic()
            super().discard(order)

    keeping = keeping_of(tmp_path)
    entry = await store(keeping, frame(0))
    assert entry is not None
    monkeypatch.setattr(keeping, "_out", Out(keeping._out))
    assert keeping.put_back(entry, 3, 60.0) and await keeping.next() is None
    await keeping.close()


async def test_what_has_its_line_meanwhile_is_not_given_up(tmp_path: Path) -> None:
    """Two are too old; while the line of one is written the other is claimed by a late result, read and settled."""
    reasons: list[str] = []

    async def lost(entry: Entry, known: Description, reason: str) -> bool:
        reasons.append(f"{entry.id.sequence}: {reason}")
        if len(reasons) == 1:
            other = await keeping.find(FrameId("e", "s", 1 - entry.id.sequence))
            assert other is not None and keeping.take(other)
            await keeping.settled(other)
            assert not keeping.take(other)
        return True

    keeping = keeping_of(tmp_path)
    keeping._on_lost = lost
    await stored(keeping, 0, 1)
    keeping._spool.max_age_s = -1
    assert await keeping.give_up_old() == 1
    assert len(reasons) == 1 and not keeping.counts["damaged"], "one line each"
    await keeping.close()


async def test_a_frame_for_which_there_is_no_memory_now_waits_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object) -> None:
        raise MemoryError

    keeping = keeping_of(tmp_path)
    await stored(keeping, 0)
    entry = await keeping.next()
    assert entry is not None
    with monkeypatch.context() as small:
        small.setattr(Spool, "load", fails)
        with pytest.raises(MemoryError):
            await keeping.load(entry)
    assert await keeping.next() is None, "for a while"
    keeping._paused.clear()
    assert await keeping.next() == entry and await keeping.load(entry) is not None
    await keeping.close()


async def test_a_frame_whose_giving_up_fails_is_not_out_for_good(tmp_path: Path) -> None:
    failing = [MemoryError]

    def lost(reason: str) -> bool:
        if failing:
            raise failing.pop()
        return True

    keeping = keeping_of(tmp_path, lost)
    await stored(keeping, 0)
    assert keeping._spool is not None
    keeping._spool.max_age_s = -1
    with pytest.raises(MemoryError):
        await keeping.give_up_old()
    assert await keeping.give_up_old() == 1
    await keeping.close()


async def stored(keeping: Keeping, *sequences: int) -> list[Entry]:
    """Frames that wait."""
    entries = [await store(keeping, frame(sequence)) for sequence in sequences]
    assert all(entry is not None and keeping.put_back(entry, 1) for entry in entries)
    return [entry for entry in entries if entry is not None]


async def waiting(keeping: Keeping) -> list[int]:
    """All that `next` gives."""
    found = []
    while (entry := await keeping.next()) is not None:
        found.append(entry.id.sequence)
    return found


async def test_a_frame_that_is_read_before_it_is_stored_has_its_line_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk was slow: its line is before it, and the next run must not send it again."""
    readings, keeping = JsonLines(tmp_path / "readings.jsonl"), keeping_of(tmp_path)
    keeping._readings = readings
    held = Held(monkeypatch, Spool, "missing")  # before it is stored
    storing = asyncio.ensure_future(store(keeping, frame(0)))
    await held.reached.wait()
    readings.append({"frame": "e/s/0"})
    held.on.set()
    assert await storing is not None
    await keeping.close()  # with no word of the line: as a kill
    again = keeping_of(tmp_path)
    again._readings = readings
    await again.open()
    assert not len(again) and await again.next() is None, "it has its line"
    await again.close()
    readings.close()


class Held:
    """A method of the spool that is under way until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type, name: str) -> None:
        self.reached, self.on = asyncio.Event(), threading.Event()
        loop, original = asyncio.get_running_loop(), getattr(kind, name)

        def held(*arguments: object, **named: object) -> object:
            result = original(*arguments, **named)
            loop.call_soon_threadsafe(self.reached.set)
            assert self.on.wait(60)
            return result

        monkeypatch.setattr(kind, name, held)

    async def cancel(self, keeping: Keeping, work: Awaitable[object]) -> None:
        """Cancel who waits for it then, and let it end."""
        task = asyncio.ensure_future(work)
        await self.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        self.on.set()
        while keeping._work._tasks:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("at", ["room_for", "describe", "remove", "store"])
async def test_who_is_cancelled_while_room_is_made_leaves_no_frame_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """What went has its line, and what is there is given out again: a restart would find no more."""
    reasons: list[str] = []
    keeping = keeping_of(tmp_path, lambda reason: not reasons.append(reason))
    await stored(keeping, 0, 1, 2)
    spool = keeping._spool
    spool.limit_bytes = spool.held_bytes + spool.held_bytes // len(spool) - 1
    await Held(monkeypatch, Spool, at).cancel(keeping, store(keeping, frame(3)))
    assert len(reasons) == 1 and [entry.id.sequence for entry in spool] == [1, 2, 3]
    assert await waiting(keeping) == [1, 2, 3]
    await keeping.close()


async def test_who_is_cancelled_while_a_line_is_written_writes_none_twice(tmp_path: Path) -> None:
    reached, on, reasons = asyncio.Event(), asyncio.Event(), list[str]()

    async def lost(entry: Entry, known: Description, reason: str) -> bool:
        reasons.append(reason)
        reached.set()
        await on.wait()
        return True

    keeping = keeping_of(tmp_path)
    keeping._on_lost = lost
    await stored(keeping, 0, 1)
    spool = keeping._spool
    spool.limit_bytes = spool.held_bytes + spool.held_bytes // len(spool) - 1
    task = asyncio.ensure_future(store(keeping, frame(2)))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await keeping.next()).id.sequence == 1, "the one that is being given up is not given out meanwhile"
    on.set()
    while keeping._work._tasks:
        await asyncio.sleep(0.01)
    assert len(reasons) == 1 and [entry.id.sequence for entry in spool] == [1, 2]
    await keeping.close()


@pytest.mark.parametrize(("at", "asked"), [("__iter__", Keeping.next), ("load", None)])
async def test_who_is_cancelled_while_a_frame_is_given_out_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, asked: Callable[[Keeping], Awaitable[Entry]] | None
) -> None:
    keeping = keeping_of(tmp_path)
    await stored(keeping, 0, 1)
    if asked is None:
        entry = await keeping.next()
        await Held(monkeypatch, Spool, at).cancel(keeping, keeping.load(entry))
    else:
        await Held(monkeypatch, Spool, at).cancel(keeping, asked(keeping))
    monkeypatch.undo()
    assert await waiting(keeping) == [0, 1]
    await keeping.close()


async def test_a_frame_whose_line_is_written_goes_though_nobody_waits_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings, keeping = JsonLines(tmp_path / "readings.jsonl"), keeping_of(tmp_path)
    keeping._readings = readings
    entry = await store(keeping, frame(0))
    await Held(monkeypatch, JsonLines, "sync").cancel(keeping, keeping.settled(entry))
    assert not len(keeping._spool) and not list(keeping._spool.folder.glob("*.frame"))
    await keeping.close()
