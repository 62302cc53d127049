"""Which frames share the device next. Pure: the clock reading goes in, a batch and what expired come out."""

from bisect import insort
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from itertools import chain, count
from math import inf
from typing import Generic, TypeVar

from cloud_node.fair_queue import FairQueue, Ticket, delete
from common.frame import Priority

__all__ = ["Scheduler", "Selection", "Ticket"]

J = TypeVar("J")

REMEMBERED = 64  # batches, to know who led; those that may still be put back are fewer


@dataclass(frozen=True, slots=True)
class Selection(Generic[J]):
    """One batch, of one bucket, and the frames whose deadline passed while they waited."""

    batch: list[Ticket[J]] = field(default_factory=list)
    expired: list[Ticket[J]] = field(default_factory=list)
    wait_until_ns: int = 0  # a batch is forming: ask again then, or when a frame was submitted; 0 = none is
    overdue: bool = False  # the batch is led by an overdue frame, before more urgent ones
    number: int = 0  # for `Scheduler.put_back`


class Scheduler(Generic[J]):
    """Queues by priority and edge. What it promises, also when several devices take turns to ask:

    - Work-conserving: while a frame waits, `select` gives a batch. With `window_ns` it may give none until so long
      after the oldest waiting frame came, unless the batch is full, an essential frame waits, or a deadline would pass.
    - Priority: the most urgent frames lead, except every second batch at most while others are overdue.
    - No starvation: a frame that waited `max_wait_ns` is overdue. Until it is gone its priority leads one of any
      2 (n - 1) batches, with n priorities waiting: one of any four. Within its priority it goes in its fair place:
      of another edge's frames, those that lead batches before it have less than
      share / own share x (`max_pixels` + own largest frame + own frames before it) pixels, and one frame more.
      An endless flow of new edges does not hold it up.
    - Fairness: while an edge has frames waiting, no other edge of its priority gets ahead of it by more than the sum of
      both edges' (`max_pixels` + largest frame) / share, counted in pixels / share, whatever either sends; without the
      `max_pixels` while all frames are of one bucket. An idle edge builds up no credit.
    - Room: the frames that go for another where there is no room for both are `less_urgent`, then its `rivals`, of
      edges of its priority that had more than its own. So edges that send as often as their share allows get it,
      however many they are, and whatever those do that send more.
    - Deadlines: an expired frame never reaches a batch, and is told once.
    - Bounds: a batch holds one bucket and at most `max_pixels` and `max_frames`, or one larger frame alone.
    - Order: an edge's frames of one priority leave in the order of their arrival.

    The bounds may be changed while it runs. No method but `withdraw` looks at all that waits.
    """

    def __init__(self, max_pixels: int, max_frames: int, max_wait_ns: int, window_ns: int = 0) -> None:
        self.max_pixels, self.max_frames = max_pixels, max_frames
        self.max_wait_ns, self.window_ns = max_wait_ns, window_ns
        self._numbers = count(1)
        self._waiting: dict[Ticket[J], int] = {}  # with the number of its arrival
        self._levels: dict[int, FairQueue[J]] = {}  # by priority, most urgent first
        self._deadlines: list[tuple[int, int, Ticket[J]]] = []
        self._expired: list[Ticket[J]] = []  # found by `preview`, to be told by `select`
        self._led: deque[_Led] = deque(maxlen=REMEMBERED)  # batches that were selected and not put back

    def __len__(self) -> int:
        """Frames that `select` has still to give, in a batch or as expired."""
        return len(self._waiting) + len(self._expired)

    def submit(self, ticket: Ticket[J]) -> None:
        """Queue a frame; one that was taken before may come again, and keeps its place by its arrival.

        Raises:
            ValueError: for a share that is not a positive number, or a ticket that waits already.
        """
        if not 0 < ticket.share < inf:
            raise ValueError(f"a frame of edge {ticket.edge}: share {ticket.share} is not a positive number")
        if ticket in self._waiting:
            raise ValueError(f"a frame of edge {ticket.edge} was submitted twice")
        self._in(ticket, next(self._numbers))

    def remove(self, ticket: Ticket[J]) -> bool:
        """Take a frame out; False if it does not wait."""
        if ticket not in self._waiting:
            return False
        self._out(ticket)
        return True

    def withdraw(self, gone: Callable[[Ticket[J]], bool]) -> list[Ticket[J]]:
        """Take out the frames for which `gone` says so, and return them."""
        found = [ticket for ticket in self._waiting if gone(ticket)]
        for ticket in found:
            self._out(ticket)
        return found

    def select(self, now_ns: int, only_full: bool = False) -> Selection[J]:
        """Take the next batch; empty when nothing waits, or while one forms. `only_full`: none that has room left."""
        batch = self.preview(now_ns)
        expired, self._expired = self._expired, []
        if not batch or (only_full and not self._full(batch)):
            return Selection([], expired)
        if now_ns < (closes_ns := self._window_closes_ns(batch)):
            return Selection([], expired, closes_ns)
        led = _Led(next(self._numbers), batch[0].priority, overdue=batch[0].priority != self.most_urgent)
        self._led.append(led)
        for ticket in batch:
            self._out(ticket, served=True)
        return Selection(batch, expired, overdue=led.overdue, number=led.number)

    def put_back(self, selection: Selection[J]) -> None:
        """Undo a `select` whose batch no device began: its frames wait again, and nobody was charged for them.

        Whatever other devices selected since stands.
        """
        self._led = deque((led for led in self._led if led.number != selection.number), REMEMBERED)
        for ticket in reversed(selection.batch):
            self._levels[ticket.priority].refund(ticket)
            self._in(ticket, -next(self._numbers))  # before what came at the same time

    def preview(self, now_ns: int) -> list[Ticket[J]]:
        """The batch that `select` would take now if no window were open; it stays where it is."""
        while self._deadlines and self._deadlines[0][0] <= now_ns:
            self._expired.append(self._deadlines[0][2])
            self._out(self._deadlines[0][2])
        busy = self._busy()
        if not busy:
            return []
        lead = self._lead(busy, now_ns)
        bucket = busy[lead].order[0][2].frames[0][2].bucket
        draws = {priority: level.draw(bucket, self.max_pixels) for priority, level in busy.items()}
        batch = [next(draws[lead])]
        pixels = batch[0].pixels
        for ticket in chain.from_iterable(draws.values()):
            pixels += ticket.pixels
            if len(batch) >= self.max_frames or pixels > self.max_pixels:
                break
            batch.append(ticket)
        return batch

    @property
    def most_urgent(self) -> int | None:
        """The most urgent priority of which a frame waits; None if none does."""
        return next((priority for priority, level in self._levels.items() if level.order), None)

    def waits(self, priority: int, bucket: Hashable) -> bool:
        """Whether an edge's next frame of this priority is of this bucket."""
        level = self._levels.get(priority)
        return level is not None and bucket in level.by_bucket

    def frames_ahead(self, priority: int) -> int:
        """Frames that wait and are as urgent as a new one of this priority, or more."""
        return sum(level.frames for number, level in self._levels.items() if number <= priority)

    def pixels_ahead(self, priority: int) -> int:
        """Pixels that wait and are as urgent as a new frame of this priority, or more."""
        return sum(level.pixels for number, level in self._levels.items() if number <= priority)

    def bytes_ahead(self, priority: int) -> int:
        """Packed bytes that wait and are as urgent as a new frame of this priority, or more."""
        return sum(level.bytes for number, level in self._levels.items() if number <= priority)

    def waiting(self, priority: int) -> tuple[int, int]:
        """Frames of this priority that wait, and when the oldest of them came (monotonic ns; 0 = none waits)."""
        level = self._levels.get(priority)
        return (level.frames, level.oldest_ns) if level is not None and level.frames else (0, 0)

    def less_urgent(self, priority: int) -> Iterator[Ticket[J]]:
        """Frames to give up for one of this priority, the first of them first; all stay where they are.

        The least urgent come first; of a priority, the newest frame of the edge that will have had the most, per share.
        """
        for number, level in reversed(self._busy().items()):
            if number > priority:
                yield from level.most_first(-inf)

    def rivals(self, ticket: Ticket[J]) -> Iterator[Ticket[J]]:
        """Frames of its own priority to give up for this one, which does not wait yet; all stay where they are.

        Those with which their edge will have had more than its edge with this, in the order of `less_urgent`. That it
        asked is remembered of its edge, whatever is looked at.
        """
        level = self._level(ticket.priority)
        return level.most_first(level.ask(ticket))

    def rivals_held(self, ticket: Ticket[J]) -> tuple[int, int, int]:
        """Frames, packed bytes and pixels of all `rivals`, once these were asked for; nothing is remembered."""
        level = self._level(ticket.priority)
        return level.held_above(level.will_have_had(ticket))

    def _busy(self) -> dict[int, FairQueue[J]]:
        return {priority: level for priority, level in self._levels.items() if level.order}

    def _lead(self, busy: dict[int, FairQueue[J]], now_ns: int) -> int:
        first, *others = busy
        overdue = [p for p in others if now_ns - busy[p].oldest_ns >= self.max_wait_ns]
        if overdue and not (self._led and self._led[-1].overdue):
            last = {led.priority: led.number for led in self._led}
            return min(overdue, key=lambda priority: last.get(priority, 0))
        return first

    def _window_closes_ns(self, batch: list[Ticket[J]]) -> int:
        busy = self._busy()
        closes_ns = min(level.oldest_ns for level in busy.values()) + self.window_ns
        dies = self._deadlines and self._deadlines[0][0] <= closes_ns
        return 0 if self._full(batch) or dies or min(busy) <= Priority.ESSENTIAL else closes_ns

    def _full(self, batch: list[Ticket[J]]) -> bool:
        pixels = sum(ticket.pixels for ticket in batch)
        return len(batch) >= self.max_frames or pixels + batch[-1].pixels > self.max_pixels

    def _level(self, priority: int) -> FairQueue[J]:
        if priority not in self._levels:
            self._levels[priority] = FairQueue()
            self._levels = dict(sorted(self._levels.items()))
        return self._levels[priority]

    def _in(self, ticket: Ticket[J], number: int) -> None:
        self._waiting[ticket] = number
        self._level(ticket.priority).add(number, ticket)
        if ticket.expires_ns:
            insort(self._deadlines, (ticket.expires_ns, number, ticket))

    def _out(self, ticket: Ticket[J], served: bool = False) -> None:
        number = self._waiting.pop(ticket)
        self._levels[ticket.priority].drop(number, ticket, served)
        if ticket.expires_ns:
            delete(self._deadlines, (ticket.expires_ns, number, ticket))


@dataclass(frozen=True, slots=True)
class _Led:
    """A batch: when it was selected, and by which priority."""

    number: int
    priority: int
    overdue: bool
