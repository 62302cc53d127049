"""The spool for an event loop: file work in a thread of its own, a disk that fails is said and not raised."""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from common.errors import SpoolError, SpoolFull
from common.frame import Frame, FrameId, Priority
from common.tasks import Uninterrupted
from edge_node.settings import EdgeSettings
from edge_node.sinks import JsonLines
from edge_node.spool import CorruptRecord, Description, Entry, Spool
from edge_node.spool.entry import age_s, now

log = logging.getLogger(__name__)

TRY_AGAIN_S = 60.0  # after the disk failed
P = ParamSpec("P")
T = TypeVar("T")
Leave = Callable[[Entry], None]
OnLost = Callable[[Entry, Description, str], Awaitable[bool]]


class Keeping:
    """One node's kept frames.

    An entry is `out` while the node works on its frame; else it waits, and `next` gives it. What has begun is ended
    also when whoever waits for it is cancelled; an entry that it would have had waits again then.

    Args:
        readings: the record of what is settled; without one, nothing is known to be settled after a crash.
        on_lost: awaited with an entry that is given up, what is known of it and why, before its file goes; whether
            the record has a line of it.

    Counters: `counts`, by what happened: "kept", "restored", "not kept", "given up", "damaged", "unsure".
    """

    def __init__(self, settings: EdgeSettings, readings: JsonLines | None, on_lost: OnLost) -> None:
        self.counts: Counter[str] = Counter()
        self.sessions: frozenset[str] = frozenset()  # former ones with frames here
        self._settings, self._readings, self._on_lost = settings, readings, on_lost
        self._spool: Spool | None = None
        self._failed_s = float("-inf")
        self._out: set[int] = set()
        self._taking = threading.Lock()
        # By order, and how they go: out until their lines, which are written, are on the disk to stay.
        self._unsure: dict[int, tuple[Entry, Leave]] = {}
        self._paused: dict[int, float] = {}  # order -> monotonic, when it may go again
        self._attempts: dict[int, int] = {}  # order -> the next attempt
        self._storing = asyncio.Lock()
        self._work = Uninterrupted()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")

    def __len__(self) -> int:
        """Frames that have no reading yet."""
        return len(self._spool) - len(self._unsure) if self._spool is not None else 0

    @property
    def held_bytes(self) -> int:
        """Of all frames here."""
        return self._spool.held_bytes if self._spool is not None else 0

    def oldest_s(self) -> float:
        """Age of the oldest frame here; 0 = there is none."""
        if self._spool is None or not len(self._spool):
            return 0.0
        moment = now()
        return float(max((age_s(entry.stored, moment) for entry in self._spool.oldest()), default=0))

    def keeps(self, priority: Priority) -> bool:
        return self._settings.spooling.keep_all or priority is Priority.ESSENTIAL

    @property
    def working(self) -> bool:
        """Whether the disk took the last frame, or it is time to try again."""
        return time.monotonic() - self._failed_s > TRY_AGAIN_S

    async def open(self) -> None:
        """Take up what a former run left.

        Raises:
            SpoolInUse: another edge node has it.
        """
        try:
            needed = self.keeps(self._settings.sending.priority) or bool(self._settings.choosing.areas)
            if needed or await self._call(_holds_frames, self._settings.spool_folder):
                await self._opened()
        except OSError as error:
            self._failed("frames cannot be kept", error)

    async def end(self) -> None:
        """Cancel what is under way: from here on nothing is given up."""
        await self._work.end()

    async def close(self) -> None:
        await self.end()
        if self._spool is not None:
            await self._call(self._spool.close)
        self._thread.shutdown(wait=False)

    # --- in ---

    async def store(
        self, frame: Frame, name: str, bytes_raw: int, captured_size: tuple[int, int], sent_as: str
    ) -> Entry | None:
        """Keep a frame that the node works on; None when that cannot be."""
        # Now: it is sent meanwhile, and by when the disk has time for it its line may be there.
        readings_bytes = self._readings.size if self._readings is not None else 0
        return await self._work.result(
            self._store(frame, name, bytes_raw, readings_bytes, captured_size, sent_as),
            lambda entry: entry is not None and self.put_back(entry, frame.attempt + 1),
        )

    async def _store(
        self, frame: Frame, name: str, bytes_raw: int, readings_bytes: int, size: tuple[int, int], sent_as: str
    ) -> Entry | None:
        async with self._storing:
            try:
                spool = await self._opened()
                await self._make_room(spool, len(frame.image.payload), frame.priority)
                store = partial(spool.store, size=size, sent_as=sent_as)
                entry = await self._call(self._stored, partial(store, frame, name, bytes_raw, readings_bytes))
            except (OSError, SpoolError) as error:
                self._failed(f"frame {frame.id} is not kept", error)
                return None
            self._failed_s = float("-inf")
            self.counts["kept"] += 1
            return entry

    def put_back(self, entry: Entry, attempt: int, pause_s: float = 0.0) -> bool:
        """It waits again, its next attempt being `attempt`; False when its file went meanwhile."""
        there = self._spool is not None and entry in self._spool
        if there:
            self._attempts[entry.order] = attempt
            if pause_s:
                self._paused[entry.order] = time.monotonic() + pause_s
        self._out.discard(entry.order)  # last: from here on `_next` may give it
        return there

    def try_later(self, entry: Entry) -> None:
        """It waits again as it did, for a better time."""
        self.put_back(entry, self._attempts.get(entry.order, 0), TRY_AGAIN_S)

    # --- out ---

    async def next(self) -> Entry | None:
        """The most urgent, then oldest that waits; it is out then."""
        if self._spool is None:
            return None
        return await self._work.result(self._call(self._next, self._spool), self._let_go)

    async def find(self, id: FrameId) -> Entry | None:
        """The entry of this frame."""
        if self._spool is None:
            return None
        spool = self._spool
        return await self._call(lambda: next((entry for entry in spool if entry.id == id), None))

    def take(self, entry: Entry) -> bool:
        """It is out from now on; False when it is out already, or went."""
        with self._taking:  # the spool's thread takes too
            if entry.order in self._out or self._spool is None or entry not in self._spool:
                return False
            self._out.add(entry.order)
            return True

    async def load(self, entry: Entry) -> tuple[Frame, Description, int] | None:
        """Its frame, its description and the next attempt; None when the file is damaged: it is given up then."""
        return await self._work.result(self._load(entry), lambda loaded: self._let_go(loaded and entry))

    async def _load(self, entry: Entry) -> tuple[Frame, Description, int] | None:
        assert self._spool is not None
        try:
            frame, description = await self._call(self._spool.load, entry)
        except CorruptRecord as error:
            self.counts["damaged"] += 1
            await self._noted(self._spool, entry, f"its kept copy is damaged: {error}", self._spool.set_aside)
        except OSError as error:
            self._failed(f"frame {entry.id} cannot be read from the spool", error)
            self.try_later(entry)
        except BaseException:  # as of a device that has no memory for it now
            self.try_later(entry)
            raise
        else:
            return frame, description, self._attempts.get(entry.order, 0)
        return None

    async def settled(self, entry: Entry) -> None:
        """Its line is written: once that is on the disk to stay, the frame goes."""
        await self._work.result(self._settled(entry))

    async def _settled(self, entry: Entry) -> None:
        assert self._spool is not None
        await self._call(self._leave, entry, self._spool.remove)

    async def give_up_old(self) -> int:
        """Give up what is kept for too long and not out; returns how many."""
        return await self._work.result(self._give_up_old())

    async def _give_up_old(self) -> int:
        if self._spool is None:
            return 0
        spool, hours = self._spool, self._settings.spooling.spool_hours
        old = [entry for entry in await self._call(spool.expired) if entry.order not in self._out]
        given_up = 0
        for entry in old:
            if self.take(entry):
                given_up += 1
                await self._give_up(spool, entry, f"it was kept for more than {hours:g} h")
        return given_up

    # --- inside ---

    async def _make_room(self, spool: Spool, size: int, priority: Priority) -> None:
        chosen = await self._call(self._choose, spool, size, priority)
        try:
            while chosen:
                reason = "the spool was full, and it was the least urgent and oldest"
                if not await self._give_up(spool, chosen.pop(0), reason):
                    raise SpoolFull(f"the spool {spool.folder} is full, and what has to go cannot be written down")
        finally:
            self._out.difference_update(entry.order for entry in chosen)

    def _choose(self, spool: Spool, size: int, priority: Priority) -> list[Entry]:
        """What has to go; it is out from now on, so that nobody else takes it. What has its line goes first."""
        if self._unsure and spool.missing(size) > 0:
            self._lines_stay()
        for entry, leave in list(self._unsure.values()):
            if spool.missing(size) <= 0:
                break
            self._count("unsure", f"kept frame {entry.id} makes room, and its line may be lost if the power goes")
            self._gone(entry, leave)
        while True:
            chosen = spool.room_for(size, priority, self._out)
            taken = [entry for entry in chosen if self.take(entry)]
            if len(taken) == len(chosen):
                return chosen
            self._out.difference_update(entry.order for entry in taken)

    async def _give_up(self, spool: Spool, entry: Entry, reason: str) -> bool:
        """An entry that is out has its line and goes; False when that cannot be written."""
        gone = await self._noted(spool, entry, reason, spool.remove)
        if gone:
            self._count("given up", f"kept frame {entry.id} is given up: {reason}")
        return gone

    async def _noted(self, spool: Spool, entry: Entry, reason: str, leave: Leave) -> bool:
        """Whether a lost frame went, its line being on the disk to stay; without one it waits for a better time."""
        noted = False
        try:
            noted = await self._on_lost(entry, await self._call(spool.describe, entry), reason)
        finally:
            if not noted:
                self.try_later(entry)
        return noted and await self._call(self._leave, entry, leave)

    def _leave(self, entry: Entry, leave: Leave) -> bool:
        """Whether an entry, whose line is written, went: it stays out until the line is on the disk to stay."""
        if not self._lines_stay():
            self._unsure[entry.order] = entry, leave
            return False
        self._gone(entry, leave)
        return True

    def _lines_stay(self) -> bool:
        """Whether all lines so far are on the disk to stay; what waited for that alone goes."""
        if self._readings is not None and not self._readings.sync():
            return False
        for entry, leave in list(self._unsure.values()):
            self._gone(entry, leave)
        return True

    def _gone(self, entry: Entry, leave: Leave) -> None:
        try:
            leave(entry)
        except OSError as error:
            log.error("%s cannot be removed from the spool: %s", entry.file_name, error.strerror)
        self._forget(entry)

    def _stored(self, store: Callable[[], Entry]) -> Entry:
        entry = store()
        self._out.add(entry.order)  # here, before `_next` can be asked
        return entry

    def _next(self, spool: Spool) -> Entry | None:
        now_s = time.monotonic()
        for entry in spool:
            if self._paused.get(entry.order, 0.0) <= now_s and self.take(entry):
                self._paused.pop(entry.order, None)
                return entry
        return None

    def _let_go(self, entry: Entry | None) -> None:
        """It waits as it did before it was out."""
        if entry is not None:
            self._out.discard(entry.order)

    def _forget(self, entry: Entry) -> None:
        self._out.discard(entry.order)
        self._unsure.pop(entry.order, None)
        self._paused.pop(entry.order, None)
        self._attempts.pop(entry.order, None)

    async def _opened(self) -> Spool:
        if self._spool is None:
            self._spool = await self._call(self._open)
        return self._spool

    def _open(self) -> Spool:
        settings = self._settings
        spool = Spool(
            settings.spool_folder,
            settings.name,
            limit_bytes=settings.spooling.spool_mib * 2**20,
            max_age_s=settings.spooling.spool_hours * 3600,
        )
        try:
            settled = spool.settled(self._readings.path) if self._readings is not None else []
        except BaseException:
            spool.close()
            raise
        self._out.update(entry.order for entry in settled)
        self._unsure = {entry.order: (entry, spool.remove) for entry in settled}
        if settled:
            self._lines_stay()
        restored = len(spool) - len(self._unsure)
        self.sessions = frozenset(entry.id.session for entry in spool)
        self.counts["restored"] += restored
        if restored or settled:
            log.warning(
                "the spool %s holds %d frames, %.1f MiB, of a former run%s", spool.folder, restored,
                spool.held_bytes / 2**20, f"; {len(settled)} more had their reading already" if settled else "",
            )  # fmt: skip
        return spool

    def _failed(self, what: str, error: OSError | SpoolError) -> None:
        if isinstance(error, OSError):
            self._failed_s = time.monotonic()
        reason = f"{self._settings.spool_folder}: {error.strerror}" if isinstance(error, OSError) else str(error)
        self._count("not kept", f"{what}: {reason}; free space or choose another --spool")

    def _count(self, what: str, words: str) -> None:
        self.counts[what] += 1
        count = self.counts[what]
        if count & (count - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...
            log.error("%s (%d so far)", words, count)

    async def _call(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        assert not named
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


def _holds_frames(folder: Path) -> bool:
    return any(folder.glob("*.frame"))
