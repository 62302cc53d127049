"""The frames of an edge that have not ended, and the bounded queue of those that wait for the window."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from common.frame import Priority


@dataclass(slots=True, eq=False)
class Flight:
    """A frame that has not ended."""

    sequence: int
    priority: Priority
    due_s: float
    row: int  # of the recorder
    attempt: int = 0
    on_the_way: bool = False
    turned_away: str = ""  # why, where it is to be sent again

    def __lt__(self, other: "Flight") -> bool:
        """The most urgent first, then the oldest."""
        return (self.priority, self.sequence) < (other.priority, other.sequence)


class Backlog:
    """Flights that wait to be sent, the most urgent and oldest first; at most `limit` and what is sent again."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._heap: list[Flight] = []

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[Flight]:
        """In no order."""
        return iter(self._heap)

    def push(self, flight: Flight) -> None:
        flight.on_the_way = False
        heappush(self._heap, flight)

    def pop(self) -> Flight:
        """The next to be sent."""
        return heappop(self._heap)

    def keep(self, wanted: Callable[[Flight], bool]) -> None:
        """Let the others go."""
        self._heap = [flight for flight in self._heap if wanted(flight)]
        heapify(self._heap)

    def drop(self) -> Flight | None:
        """Take out the least urgent and newest when there are too many."""
        if len(self._heap) <= self.limit:
            return None
        last = max(self._heap)
        self._heap.remove(last)
        heapify(self._heap)
        return last
