"""Kept frames between the spool and the node: stored while they are on their way, sent again from there later."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

from common import logs, packing
from common.errors import ImageError
from common.frame import Frame, FrameId, Outcome, Priority, Reading
from common.pixels import RawImage
from common.telemetry import Timeline
from edge_node.keeping import Keeping
from edge_node.ledger import Flight, Ledger
from edge_node.settings import EdgeSettings
from edge_node.sinks import JsonLines
from edge_node.smaller import restored
from edge_node.spool import Description, Entry
from edge_node.spool.entry import now
from edge_node.uplink import Uplink

log = logging.getLogger(__name__)

POLL_S = 0.1
AGE_CHECK_S = 30.0
STARVED_S = 60.0  # no kept frame got through for so long: the next one goes at its own priority
JUMP_NS = 60_000_000_000  # the two clocks differ by less, unless one jumped
SPOOLED = "spooled"  # the outcome of a trace whose frame goes into the spool again
PAUSE_S = 60.0  # before a frame is sent again that brought no result, or whose reading could not be written


class Backlog:
    """Which frames are kept, and what the spool gives back when there is room.

    A frame from the spool goes as SECONDARY, so that live ones pass it on the link, on the cloud node and on the
    way back; its reading has its own priority. It has no deadline.

    Args:
        live: whether live frames wait or are on their way.
        launch: sends a flight from the spool; returns when it went out.
        write: writes the reading of a frame that is given up; whether the record has its line.
        spawn: starts a task that the node looks after.
        notify: `done` may have changed.
        shows_dark: whether somebody wants the dark frame beside the lit one; unpacking it is work.
    """

    def __init__(
        self,
        settings: EdgeSettings,
        session: str,
        ledger: Ledger,
        readings: JsonLines | None,
        uplink: Uplink,
        *,
        live: Callable[[], bool],
        launch: Callable[[Flight], Coroutine[Any, Any, None]],
        write: Callable[[Reading], Awaitable[bool]],
        spawn: Callable[[Coroutine[Any, Any, Any]], "asyncio.Task[Any]"],
        notify: Callable[[], Awaitable[None]],
        shows_dark: Callable[[], bool],
    ) -> None:
        self.keeping = Keeping(settings, readings, self._lost)
        self.flying: dict[int, Flight] = {}  # from the spool, by the order of their entries
        self.stopping = False
        self._settling = 0  # whose lines are on their way to the disk
        self._settings, self._session, self._ledger = settings, session, ledger
        self._uplink, self._live, self._launch, self._write, self._spawn = uplink, live, launch, write, spawn
        self._notify, self._shows_dark = notify, shows_dark
        self._share = max(1, settings.sending.in_flight // 2)
        self._through_s = time.monotonic()  # when a kept frame last got through, or none had to

    @property
    def done(self) -> bool:
        """Whether nothing is kept any more, or it stays for the next run."""
        return not self._settling and (self.stopping or not len(self.keeping))

    def takes(self, priority: Priority) -> bool:
        """Whether a frame of this priority may wait in the spool rather than be dropped."""
        return self.keeping.keeps(priority) and self.keeping.working

    def keep(self, flight: Flight) -> None:
        """Store a frame while it is sent: what is lost with the process is lost all the same until it is stored."""
        if self.keeping.keeps(flight.frame.priority):
            what = (flight.frame, flight.name, flight.bytes_raw, flight.size, flight.sent_as)
            flight.kept = self._spawn(self.keeping.store(*what))

    async def release(self, flight: Flight, pause_s: float = 0.0) -> bool:
        """The node lets go of a kept frame without a reading; False when it is not in the spool."""
        entry = await flight.kept if flight.kept is not None else None
        if entry is None:
            return False
        self.flying.pop(entry.order, None)
        flight.timeline.end("", {"lamplight.outcome": SPOOLED})  # it has another when it is sent again
        return self.keeping.put_back(entry, flight.frame.attempt + 1, pause_s)

    def written(self, flight: Flight, whole: bool) -> None:
        """Its reading went to the sinks; `whole`: the record has its line."""
        if flight.kept is not None:
            self._settling += 1
            self._spawn(self._settle(flight, flight.kept, whole))

    async def _settle(self, flight: Flight, kept: "asyncio.Future[Entry | None]", whole: bool) -> None:
        self._through_s = time.monotonic()
        try:
            if not whole:
                await self.release(flight, PAUSE_S)
            elif (entry := await kept) is not None:
                self.flying.pop(entry.order, None)
                await self.keeping.settled(entry)
        finally:
            self._settling -= 1
        await self._notify()

    async def claim(self, id: FrameId) -> Flight | None:
        """The flight of a kept frame by the name that it was stored under; it is settled with that."""
        entry = await self.keeping.find(id)
        if entry is None:
            return None
        if not self.keeping.take(entry):
            flight = self.flying.get(entry.order)
            return None if flight is None else self._ledger.settle(flight.sequence)
        flight = await self._load(entry)
        if flight is not None:
            flight.settled = True
        else:
            await self._notify()
        return flight

    async def run(self) -> None:
        """Send what waits in the spool, the oldest essential first, a share of the window at most."""
        checked_s = float("-inf")
        while True:
            try:
                if time.monotonic() - checked_s > AGE_CHECK_S:
                    checked_s = time.monotonic()
                    if await self.keeping.give_up_old():
                        await self._notify()
                await self._send_waiting()
            except Exception:
                log.exception("the spool could not be worked on; trying again")
            await asyncio.sleep(POLL_S)

    async def _send_waiting(self) -> None:
        while not self.stopping and (priority := self._may_go()) is not None:
            entry = await self.keeping.next()
            if entry is None:
                self._through_s = time.monotonic()
                return
            flight = await self._load(entry, priority)
            if flight is not None:
                self._spawn(self._launch(flight))
            else:
                await self._notify()

    def _may_go(self) -> Priority | None:
        """The priority at which a frame from the spool may go now; None = it may not."""
        if not len(self.keeping) or not self._uplink.connected:
            self._through_s = time.monotonic()
            return None
        window = self._uplink.window
        if len(self.flying) < self._share and window.frames > (1 if self._live() else 0):
            if window.has_room(Priority.SECONDARY):
                return Priority.SECONDARY
        if len(self.flying) <= self._share and time.monotonic() - self._through_s > STARVED_S:
            self._through_s = time.monotonic()
            return Priority.ESSENTIAL
        return None

    async def _load(self, entry: Entry, priority: Priority = Priority.SECONDARY) -> Flight | None:
        loaded = await self.keeping.load(entry)
        if loaded is None:
            return None
        try:
            return await self._flight_of(entry, *loaded, priority)
        except BaseException:
            self.keeping.try_later(entry)  # nobody else would
            raise

    async def _flight_of(
        self, entry: Entry, frame: Frame, description: Description, attempt: int, priority: Priority
    ) -> Flight:
        id = frame.id
        if id.session != self._session:  # the wire knows this session alone
            id, attempt = FrameId(id.edge, self._session, self._ledger.next_sequence()), 0
        waited_ns = _waited_ns(frame.captured_unix_ns, entry)
        timeline = Timeline.begin(
            frame.captured_unix_ns,
            {
                "lamplight.edge": id.edge,
                "lamplight.sequence": entry.id.sequence,
                "lamplight.name": description.name,
                "lamplight.priority": entry.priority.name.lower(),
            },
        )
        logs.remember(id, timeline.trace)
        timeline.add("spool", frame.captured_unix_ns, waited_ns)
        sent = replace(frame, id=id, attempt=attempt, priority=max(priority, frame.priority), trace=timeline.trace)
        dark = None
        size = description.size if all(description.size) else (frame.image.width, frame.image.height)
        if self._shows_dark():
            with suppress(ImageError):  # the cloud node will say so
                dark = await asyncio.to_thread(_shown, frame.image, size)
        kept: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
        kept.set_result(entry)
        captured_ns = time.monotonic_ns() - waited_ns
        flight = Flight(sent, description.name, dark, description.bytes_raw, timeline, captured_ns, size)
        flight.sent_as = description.sent_as
        flight.kept, flight.origin = kept, entry
        self.flying[entry.order] = flight
        return flight

    async def _lost(self, entry: Entry, known: Description, reason: str) -> bool:
        """A frame that is given up has its reading too; whether the record has its line."""
        return await self._write(
            Reading(entry.id, known.name, known.captured_unix_ns, entry.priority, Outcome.FAILED, reason=reason,
                    bytes_raw=known.bytes_raw)
        )  # fmt: skip


def _shown(image: packing.PackedImage, size: tuple[int, int]) -> RawImage:
    """A kept frame as the camera gave it, or as near to that as what was kept."""
    raw = packing.unpack(image)
    if (raw.width, raw.height) == size:
        return raw
    return RawImage.from_rgb(restored(packing.to_rgb(raw), size))


def _waited_ns(captured_unix_ns: int, entry: Entry) -> int:
    """Since capture: by the wall clock, unless it jumped."""
    wall_ns, held_ns = time.time_ns() - captured_unix_ns, (now().up_s - entry.since_up_s) * 10**9
    return wall_ns if abs(wall_ns - held_ns) < JUMP_NS and wall_ns >= 0 else max(0, held_ns)
