"""The spool for an event loop: who has a frame in hand."""

import asyncio
import time
from collections.abc import Callable
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


async def test_what_is_on_its_way_goes_last_when_room_is_needed(tmp_path: Path) -> None:
    reasons: list[str] = []
    keeping = keeping_of(tmp_path, lambda reason: not reasons.append(reason))
    out, waiting = [await store(keeping, frame(number, Priority.STANDARD)) for number in range(2)]
    assert out is not None and waiting is not None and keeping.put_back(waiting, 1)
    spool = keeping._spool
    spool.limit_bytes = 2 * spool.held_bytes - 1  # not for two more
    assert await store(keeping, frame(2)) and await store(keeping, frame(3))
    assert out in spool and waiting not in spool and "the spool was full" in reasons[0]
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


async def test_what_is_given_back_after_it_was_chosen_to_go_has_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons: list[str] = []
    keeping = keeping_of(tmp_path, lambda reason: not reasons.append(reason))
    out = await store(keeping, frame(0, Priority.STANDARD))
    spool, choose = keeping._spool, keeping._choose
    assert out is not None

    def chosen(*arguments: object) -> list[tuple[Entry, bool]]:
        found = choose(*arguments)
        keeping.put_back(out, 1)
        return found

    monkeypatch.setattr(keeping, "_choose", chosen)
    spool.limit_bytes = spool.held_bytes * 3 // 2
    assert await store(keeping, frame(1))
    assert out not in spool and "the spool was full" in reasons[0] and keeping.counts["given up"] == 1
    await keeping.close()
