"""Which frames share the device next. Pure: the clock reading goes in, a batch and what expired come out."""

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

J = TypeVar("J")


@dataclass(frozen=True, slots=True)
class Ticket(Generic[J]):
    """A frame that waits: what the scheduler must know of it, and the job that it stands for."""

    edge: str
    priority: int  # lower goes first
    bucket: Hashable  # frames of one bucket can share a batch
    pixels: int
    arrived_ns: int
    job: J
    expires_ns: int = 0  # 0 = never


@dataclass(frozen=True, slots=True)
class Selection(Generic[J]):
    """One batch, of one bucket, and the frames whose deadline passed while they waited."""

    batch: list[Ticket[J]] = field(default_factory=list)
    expired: list[Ticket[J]] = field(default_factory=list)


class _Level(Generic[J]):
    """Frames of one priority: a queue per edge, edges taken in turn."""

    def __init__(self) -> None:
        self.edges: dict[str, deque[Ticket[J]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self.edges.values()))

    def add(self, ticket: Ticket[J]) -> None:
        self.edges.setdefault(ticket.edge, deque()).append(ticket)

    def oldest(self) -> Ticket[J] | None:
        return min((queue[0] for queue in self.edges.values()), key=lambda ticket: ticket.arrived_ns, default=None)

    def heads(self) -> list[Ticket[J]]:
        return [queue[0] for queue in self.edges.values()]

    def take(self, ticket: Ticket[J]) -> None:
        """Remove the head of its edge's queue; that edge then waits for its next turn."""
        queue = self.edges.pop(ticket.edge)
        queue.popleft()
        if queue:
            self.edges[ticket.edge] = queue

    def drop(self, gone: Callable[[Ticket[J]], bool]) -> Iterator[Ticket[J]]:
        for edge, queue in list(self.edges.items()):
            dropped = [ticket for ticket in queue if gone(ticket)]
            if dropped:
                kept = deque(ticket for ticket in queue if not gone(ticket))
                if kept:
                    self.edges[edge] = kept
                else:
                    del self.edges[edge]
                yield from dropped


class Scheduler(Generic[J]):
    """Queues by priority and edge.

    - A lower priority number goes first; edges of one priority take turns.
    - A frame that waited `max_wait_ns` leads every second batch, so nothing starves and an essential frame
      waits for at most one batch more than the one in flight.
    - A batch holds one bucket and at most `max_pixels` and `max_frames`, or one larger frame alone.
    - An expired frame never reaches a batch.
    """

    def __init__(self, max_pixels: int, max_frames: int, max_wait_ns: int) -> None:
        self.max_pixels, self.max_frames, self.max_wait_ns = max_pixels, max_frames, max_wait_ns
        self._levels: dict[int, _Level[J]] = {}
        self._overdue_led = False

    def __len__(self) -> int:
        return sum(map(len, self._levels.values()))

    def submit(self, ticket: Ticket[J]) -> None:
        """Queue a frame."""
        if ticket.priority not in self._levels:
            self._levels[ticket.priority] = _Level()
            self._levels = dict(sorted(self._levels.items()))
        self._levels[ticket.priority].add(ticket)

    def withdraw(self, gone: Callable[[Ticket[J]], bool]) -> list[Ticket[J]]:
        """Take out the frames for which `gone` says so."""
        return [ticket for level in self._levels.values() for ticket in level.drop(gone)]

    def select(self, now_ns: int) -> Selection[J]:
        """The next batch; empty when nothing waits."""
        expired = self.withdraw(lambda ticket: 0 < ticket.expires_ns <= now_ns)
        lead = self._lead(now_ns)
        if lead is None:
            return Selection([], expired)
        batch = [lead]
        self._levels[lead.priority].take(lead)
        pixels = lead.pixels
        for level in self._levels.values():
            filling = True
            while filling:
                filling = False
                for ticket in level.heads():
                    if ticket.bucket != lead.bucket:
                        continue
                    if len(batch) >= self.max_frames or pixels + ticket.pixels > self.max_pixels:
                        return Selection(batch, expired)
                    level.take(ticket)
                    batch.append(ticket)
                    pixels += ticket.pixels
                    filling = True
        return Selection(batch, expired)

    def _lead(self, now_ns: int) -> Ticket[J] | None:
        oldest = [ticket for level in self._levels.values() if (ticket := level.oldest())]
        if not oldest:
            return None
        overdue = min(oldest, key=lambda ticket: ticket.arrived_ns)
        if now_ns - overdue.arrived_ns >= self.max_wait_ns and not self._overdue_led:
            self._overdue_led = True
            return overdue
        self._overdue_led = False
        first = next(level for level in self._levels.values() if level.edges)
        return first.heads()[0]
