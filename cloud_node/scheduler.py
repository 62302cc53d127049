"""Which frames share the device next. Pure: the clock reading goes in, a batch and what expired come out."""

from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import chain, count
from math import inf
from typing import Any, Generic, TypeVar

from common.frame import Priority

J = TypeVar("J")

REMEMBERED = 64  # batches, to know who led; those that may still be put back are fewer
BEHIND = 2  # frames of its own that an edge may make up for where there is no room for all, and one if turned away
EDGES = 4_096  # of a priority, remembered before those that count no more are looked for


@dataclass(frozen=True, slots=True, eq=False)
class Ticket(Generic[J]):
    """A frame that waits: what the scheduler must know of it, and the job that it stands for."""

    edge: str
    priority: int  # lower goes first
    bucket: Hashable  # frames of one bucket can share a batch
    pixels: int
    arrived_ns: int
    job: J
    expires_ns: int = 0  # 0 = never
    share: float = 1.0  # of the device, against other edges of its priority; that of an edge's newest frame counts


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
    - Room: `lesser` names the frames that go for another where there is no room for both: the less urgent, then those
      of edges of its priority that had more than its own. So edges that send as often as their share allows get it,
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
        self._levels: dict[int, _Level[J]] = {}  # by priority, most urgent first
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

    def waiting(self, priority: int) -> tuple[int, int]:
        """Frames of this priority that wait, and when the oldest of them came (monotonic ns; 0 = none waits)."""
        level = self._levels.get(priority)
        return (level.frames, level.oldest_ns) if level is not None and level.frames else (0, 0)

    def lesser(self, ticket: Ticket[J]) -> Iterator[Ticket[J]]:
        """Frames to give up for this one, which does not wait yet, the first of them first; all stay where they are.

        The least urgent come first; of its own priority, those with which their edge will have had more than its edge
        with this. Of a priority it is the newest frame of the edge that will have had the most, per share.
        """
        for priority, level in reversed(self._busy().items()):
            if priority > ticket.priority:
                yield from level.most_first(-inf)
        level = self._level(ticket.priority)
        yield from level.most_first(level.ask(ticket))

    def _busy(self) -> "dict[int, _Level[J]]":
        return {priority: level for priority, level in self._levels.items() if level.order}

    def _lead(self, busy: "dict[int, _Level[J]]", now_ns: int) -> int:
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

    def _level(self, priority: int) -> "_Level[J]":
        if priority not in self._levels:
            self._levels[priority] = _Level()
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
            _delete(self._deadlines, (ticket.expires_ns, number, ticket))


@dataclass(frozen=True, slots=True)
class _Led:
    """A batch: when it was selected, and by which priority."""

    number: int
    priority: int
    overdue: bool


class _Edge(Generic[J]):
    """One edge's waiting frames of one priority."""

    __slots__ = ("came", "frames", "had", "pixels", "share", "spent", "turn")

    def __init__(self, had: float, share: float) -> None:
        self.frames: list[tuple[int, int, Ticket[J]]] = []  # by arrival
        self.pixels = 0  # of these
        self.share = share
        self.spent = -1.0  # pixels / share that it was given
        self.turn = 0  # among edges that spent the same
        self.had = had  # pixels / share that it was given, for who gets room
        self.came = 0  # times since it was served, with no frame waiting


_Entry = tuple[float, int, _Edge[J]]


class _Level(Generic[J]):
    """Frames of one priority, by start-time fair queueing: the edge that spent the least goes first.

    Every edge that waits spent between `_floor` and `_floor` + (pixels of a batch + its largest frame) / share:
    `draw` keeps the upper bound, `add` the lower one. From this follow the bounds that `Scheduler` promises.
    Room goes to those who had the least. That is what they were given, but differs from what they spent when they come
    anew: an edge that was turned away may be behind the others. `BEHIND` of its frames are made up for: all that others
    are given while it sends less often than it might is not. Of those that are as far behind, the one that came most
    often since it was served goes first, by a part of a frame: else the first to ask would, every time.

    The lists are kept sorted: at thousands of entries that is as fast as a heap, and any entry can be taken out.
    """

    def __init__(self) -> None:
        self.pixels = 0
        self.order: list[_Entry[J]] = []  # edges that wait
        self.by_bucket: dict[Hashable, list[_Entry[J]]] = {}  # the same, by the bucket of their first frame
        self.by_had: list[_Entry[J]] = []  # the same, by what they will have had once all of it is served
        self._arrivals: list[tuple[int, int]] = []
        self._edges: dict[str, _Edge[J]] = {}  # those that wait, and others
        self._forget_at = EDGES
        self._floor = 0.0  # the least that a waiting edge had spent when a frame was last served
        self._most = 0.0  # that an edge spent
        self._had = 0.0  # as `_floor`, of the edge that will have had the least
        self._frame = 0.0  # the largest, in pixels / share
        self._first_turn = self._turn = 0

    @property
    def frames(self) -> int:
        return len(self._arrivals)

    @property
    def oldest_ns(self) -> int:
        return self._arrivals[0][0]

    def add(self, number: int, ticket: Ticket[J]) -> None:
        edge = self._meet(ticket)
        if edge.frames:
            self._unlink(edge)
        elif edge.spent < self._floor:  # it was idle: one frame behind, so that an endless flow of new edges
            edge.spent = self._floor + ticket.pixels / ticket.share  # does not go before those that wait
            self._to_the_end(edge)
        edge.share = ticket.share
        edge.pixels += ticket.pixels
        self.pixels += ticket.pixels
        insort(edge.frames, (ticket.arrived_ns, number, ticket))
        insort(self._arrivals, (ticket.arrived_ns, number))
        self._link(edge)

    def drop(self, number: int, ticket: Ticket[J], served: bool) -> None:
        """Take a frame out; one that is served is charged to its edge."""
        edge = self._edges[ticket.edge]
        if served:
            self._floor = self.order[0][0]
            self._had = max(self._had, self.by_had[0][2].had)
        self._unlink(edge)
        edge.pixels -= ticket.pixels
        self.pixels -= ticket.pixels
        _delete(edge.frames, (ticket.arrived_ns, number, ticket))
        _delete(self._arrivals, (ticket.arrived_ns, number))
        if served:
            edge.spent += ticket.pixels / edge.share
            edge.had += ticket.pixels / edge.share
            edge.came = 0
            self._most = max(self._most, edge.spent)
            self._to_the_end(edge)
        if edge.frames:
            self._link(edge)
        elif not self.order:  # nobody waits: what was spent counts no more
            self._floor = self._most + 1

    def ask(self, ticket: Ticket[J]) -> float:
        """What its edge will have had once this frame is served, should it wait; the edge is remembered if not."""
        edge = self._meet(ticket)
        return edge.had + (edge.pixels + ticket.pixels) / ticket.share

    def most_first(self, than: float) -> Iterator[Ticket[J]]:
        """Frames with which their edge will have had more than this, the most first; all stay where they are."""
        at, more = len(self.by_had), list[tuple[float, int, int, _Edge[J]]]()  # edges of which some were given
        numbers = count()
        while at or more:
            if at and (not more or self.by_had[at - 1][0] >= -more[0][0]):
                at -= 1
                (had, _, edge), given = self.by_had[at], 0
            else:
                minus, _, given, edge = heappop(more)
                had = -minus
            if had <= than:
                return
            ticket = edge.frames[-1 - given][2]
            yield ticket
            if given + 1 < len(edge.frames):
                heappush(more, (ticket.pixels / edge.share - had, next(numbers), given + 1, edge))

    def refund(self, ticket: Ticket[J]) -> None:
        """A frame that was served is to come back: its edge is as far behind as it was, and the first of those."""
        edge = self._meet(ticket)
        if edge.frames:
            self._unlink(edge)
        edge.spent = max(self._floor, edge.spent - ticket.pixels / edge.share)
        edge.had -= ticket.pixels / edge.share
        self._first_turn -= 1
        edge.turn = self._first_turn
        if edge.frames:
            self._link(edge)

    def draw(self, bucket: Hashable, batch_pixels: int) -> Iterator[Ticket[J]]:
        """Frames of a bucket in the order in which they would be served; all stay where they are.

        Ends before an edge would get more than `batch_pixels` ahead of the one most behind, which waits for a batch
        of another bucket.
        """
        edges = self.by_bucket.get(bucket, []).copy()  # sorted, and so a heap
        taken: Counter[_Edge[J]] = Counter()
        turns = count(self._turn)
        while edges:
            spent, _, edge = heappop(edges)
            if spent > self.order[0][0] + batch_pixels / edge.share:
                return
            ticket = edge.frames[taken[edge]][2]
            yield ticket
            taken[edge] += 1
            if taken[edge] < len(edge.frames) and edge.frames[taken[edge]][2].bucket == bucket:
                heappush(edges, (spent + ticket.pixels / edge.share, next(turns), edge))

    def _meet(self, ticket: Ticket[J]) -> _Edge[J]:
        """The edge of a frame that asks for room."""
        frame = ticket.pixels / ticket.share
        self._frame = max(self._frame, frame)
        if (edge := self._edges.get(ticket.edge)) is None:
            if len(self._edges) >= self._forget_at:
                self._forget()
            edge = self._edges[ticket.edge] = _Edge(self._had + frame, ticket.share)
        elif not edge.frames:
            edge.came += 1
            more = edge.came / (100 + edge.came)  # below one, and rises for ever
            edge.had = max(edge.had, self._had - (BEHIND + more) * frame)
        return edge

    def _forget(self) -> None:
        """What an idle edge spent counts as long as it is above the floor."""
        least = self._had - (BEHIND + 1) * self._frame
        self._edges = {
            name: edge
            for name, edge in self._edges.items()
            if edge.frames or edge.spent >= self._floor or edge.had > least
        }
        self._forget_at = max(EDGES, 2 * len(self._edges))

    def _to_the_end(self, edge: _Edge[J]) -> None:
        edge.turn = self._turn
        self._turn += 1

    def _link(self, edge: _Edge[J]) -> None:
        entry = (edge.spent, edge.turn, edge)
        insort(self.order, entry)
        insort(self.by_bucket.setdefault(edge.frames[0][2].bucket, []), entry)
        insort(self.by_had, (edge.had + edge.pixels / edge.share, edge.turn, edge))

    def _unlink(self, edge: _Edge[J]) -> None:
        entry, bucket = (edge.spent, edge.turn, edge), edge.frames[0][2].bucket
        _delete(self.order, entry)
        _delete(self.by_bucket[bucket], entry)
        if not self.by_bucket[bucket]:
            del self.by_bucket[bucket]
        _delete(self.by_had, (edge.had + edge.pixels / edge.share, edge.turn, edge))


def _delete(items: list[Any], item: Any) -> None:
    del items[bisect_left(items, item)]
