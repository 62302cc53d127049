"""Which frames are on their way: each is settled exactly once, by a result, a rejection or an expiry.

Ages are taken from the monotonic clock; the wall clock may jump.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field, replace

from common.frame import Frame, Outcome, Route
from common.pixels import RawImage
from common.telemetry import Timeline
from edge_node.spool import Entry


@dataclass(slots=True, eq=False)
class Flight:
    """A frame that was captured and is not settled yet."""

    frame: Frame
    name: str
    dark: RawImage | None  # kept for the sinks that show it
    bytes_raw: int
    timeline: Timeline
    captured_ns: int  # monotonic
    size: tuple[int, int] = (0, 0)  # width and height as captured
    sent_as: str = "lossless"  # a Step in words
    sent_ns: dict[int, int] = field(default_factory=dict)  # attempt -> monotonic, when its last byte went out
    waiting_ns: int = 0  # monotonic, since when a result could have come; 0 = not on its way
    unanswered: int = 0  # attempts that had time enough and brought no result
    excused: bool = False  # this attempt's result may have been lost on its way
    settled: bool = False
    pixels: RawImage | None = None  # kept as long as it may be lit up here
    lighting: bool = False  # here
    here: bool = False  # from the start: no cloud node was to see it
    delivery: "asyncio.Task[None] | None" = None
    kept: "asyncio.Future[Entry | None] | None" = None  # its place in the spool, once it is stored there
    origin: Entry | None = None  # it comes from the spool: who it was when it was captured

    @property
    def sequence(self) -> int:
        return self.frame.id.sequence

    def age_ms(self) -> int:
        return (time.monotonic_ns() - self.captured_ns) // 1_000_000

    def sent(self) -> None:
        """Its last byte went out."""
        self.sent_ns[self.frame.attempt] = self.waiting_ns = time.monotonic_ns()

    def again(self) -> None:
        """The next attempt."""
        self.frame = replace(self.frame, attempt=self.frame.attempt + 1)
        self.waiting_ns, self.excused = 0, False


class Ledger:
    """Flights by sequence, and what became of those before."""

    def __init__(self) -> None:
        self.flights: dict[int, Flight] = {}
        self.outcomes: Counter[Outcome] = Counter()
        self.paths: Counter[Route] = Counter()  # of what was read
        self.resent = 0
        self.late = 0  # results of frames that were settled before
        self._next = 0

    def __len__(self) -> int:
        return len(self.flights)

    @property
    def taken(self) -> int:
        """Numbers given so far."""
        return self._next

    def next_sequence(self) -> int:
        """A new number."""
        self._next += 1
        return self._next - 1

    def add(self, flight: Flight) -> None:
        self.flights[flight.sequence] = flight

    def settle(self, sequence: int) -> Flight | None:
        """Take the flight out; None when it is settled already: only the first settlement counts."""
        flight = self.flights.pop(sequence, None)
        if flight is None:
            self.late += 1
            return None
        flight.settled = True
        return flight

    def on_way(self) -> list[Flight]:
        """What was sent and has no result, most urgent and oldest first."""
        waiting = [flight for flight in self.flights.values() if flight.waiting_ns]
        return sorted(waiting, key=lambda flight: (flight.frame.priority, flight.sequence))

    def overdue(self, seconds: float) -> list[Flight]:
        """What waits for longer."""
        before = time.monotonic_ns() - int(seconds * 1e9)
        return [flight for flight in self.on_way() if flight.waiting_ns < before]

    def wait_anew(self, spent_s: float = 0.0) -> None:
        """Results could not come for a while: give what is on its way its time again, less `spent_s`.

        With that its result may be lost, and it is nobody's fault when none comes.
        """
        for flight in self.on_way():
            flight.waiting_ns, flight.excused = time.monotonic_ns() - int(spent_s * 1e9), spent_s > 0
