"""Which frames are on their way: each is settled exactly once, by a result, a rejection or an expiry."""

import time
from collections import Counter
from dataclasses import dataclass, replace

from common.frame import Frame, Outcome
from common.pixels import RawImage
from common.telemetry import Timeline


@dataclass(slots=True, eq=False)
class Flight:
    """A frame that was captured and is not settled yet."""

    frame: Frame
    name: str
    dark: RawImage | None  # kept for the sinks that show it
    bytes_raw: int
    timeline: Timeline
    sent_unix_ns: int = 0  # 0 = not on its way
    settled: bool = False

    @property
    def sequence(self) -> int:
        return self.frame.id.sequence

    def expired(self, deadline_ms: int) -> bool:
        """Whether its age passed the deadline; 0 = there is none."""
        return deadline_ms > 0 and self.age_ms() >= deadline_ms

    def age_ms(self) -> int:
        return (time.time_ns() - self.frame.captured_unix_ns) // 1_000_000

    def again(self) -> None:
        """The next attempt."""
        self.frame = replace(self.frame, attempt=self.frame.attempt + 1)
        self.sent_unix_ns = 0


class Ledger:
    """Flights by sequence, and what became of those before."""

    def __init__(self) -> None:
        self.flights: dict[int, Flight] = {}
        self.outcomes: Counter[Outcome] = Counter()
        self.late = 0  # results of frames that were settled before
        self.resent = 0
        self._next = 0

    def __len__(self) -> int:
        return len(self.flights)

    def next_sequence(self) -> int:
        """A new number."""
        self._next += 1
        return self._next - 1

    def add(self, flight: Flight) -> None:
        self.flights[flight.sequence] = flight

    def settle(self, sequence: int, outcome: Outcome) -> Flight | None:
        """Take the flight out; None when it is settled already: only the first settlement counts."""
        flight = self.flights.pop(sequence, None)
        if flight is None:
            self.late += 1
            return None
        flight.settled = True
        self.outcomes[outcome] += 1
        return flight

    def sent(self) -> list[Flight]:
        """What is on its way, most urgent and oldest first."""
        on_way = [flight for flight in self.flights.values() if flight.sent_unix_ns]
        return sorted(on_way, key=lambda flight: (flight.frame.priority, flight.sequence))

    def overdue(self, seconds: float) -> list[Flight]:
        """What was sent longer ago."""
        before = time.time_ns() - int(seconds * 1e9)
        return [flight for flight in self.sent() if flight.sent_unix_ns < before]
