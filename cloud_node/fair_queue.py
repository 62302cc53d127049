"""Whose frame of one priority goes next, and whose goes for another where there is no room. Pure, as the scheduler."""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Any, Generic, TypeVar

J = TypeVar("J")

BEHIND = 2  # frames of its own that an edge may make up for where there is no room for all, and one if turned away
EDGES = 4_096  # of a priority, remembered before those that count no more are looked for
MOST_EDGES = 65_536  # that do not wait and count; of more the first to come go: their names may be made up


@dataclass(frozen=True, slots=True, eq=False)
class Ticket(Generic[J]):
    """A frame that waits: what the scheduler must know of it, and the job that it stands for."""

    edge: str
    priority: int  # lower goes first
    bucket: Hashable  # frames of one bucket can share a batch
    pixels: int
    bytes: int  # as it came, packed
    arrived_ns: int
    job: J
    expires_ns: int = 0  # 0 = never
    share: float = 1.0  # of the device, against other edges of its priority; that of an edge's newest frame counts


class _Edge(Generic[J]):
    """One edge's waiting frames of one priority."""

    __slots__ = ("bytes", "came", "frames", "had", "pixels", "share", "spent", "turn")

    def __init__(self, had: float, share: float) -> None:
        self.frames: list[tuple[int, int, Ticket[J]]] = []  # by arrival
        self.pixels = self.bytes = 0  # of these
        self.share = share
        self.spent = -1.0  # pixels / share that it was given
        self.turn = 0  # among edges that spent the same
        self.had = had  # pixels / share that it was given, for who gets room
        self.came = 0  # times since it was served, with no frame waiting


_Entry = tuple[float, int, _Edge[J]]


class FairQueue(Generic[J]):
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
        self.pixels = self.bytes = 0
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
        edge.bytes += ticket.bytes
        self.pixels += ticket.pixels
        self.bytes += ticket.bytes
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
        edge.bytes -= ticket.bytes
        self.pixels -= ticket.pixels
        self.bytes -= ticket.bytes
        delete(edge.frames, (ticket.arrived_ns, number, ticket))
        delete(self._arrivals, (ticket.arrived_ns, number))
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
        self._meet(ticket)
        return self.will_have_had(ticket)

    def will_have_had(self, ticket: Ticket[J]) -> float:
        """The same of an edge that is remembered."""
        edge = self._edges[ticket.edge]
        return edge.had + (edge.pixels + ticket.pixels) / ticket.share

    def held_above(self, than: float) -> tuple[int, int, int]:
        """Frames, packed bytes and pixels of what `most_first` gives, without their order, and so in less time."""
        frames = size = pixels = 0
        for had, _, edge in reversed(self.by_had):
            if had <= than:
                break
            if had - (edge.pixels - edge.frames[0][2].pixels) / edge.share > than:
                frames, size, pixels = frames + len(edge.frames), size + edge.bytes, pixels + edge.pixels
                continue
            for _, _, ticket in reversed(edge.frames):
                if had <= than:
                    break
                had -= ticket.pixels / edge.share
                frames, size, pixels = frames + 1, size + ticket.bytes, pixels + ticket.pixels
        return frames, size, pixels

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
            self._edges[ticket.edge] = self._edges.pop(ticket.edge)  # whoever comes again is forgotten last
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
        idle = [name for name, edge in self._edges.items() if not edge.frames]
        for name in idle[: max(0, len(idle) - MOST_EDGES)]:
            del self._edges[name]
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
        delete(self.order, entry)
        delete(self.by_bucket[bucket], entry)
        if not self.by_bucket[bucket]:
            del self.by_bucket[bucket]
        delete(self.by_had, (edge.had + edge.pixels / edge.share, edge.turn, edge))


def delete(items: list[Any], item: Any) -> None:
    """Take an item out of a sorted list."""
    del items[bisect_left(items, item)]
