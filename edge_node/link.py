"""What the stream to the cloud node tells of the link: its rate and round trip, and what follows from them.

Nothing is sent to measure. A frame's Accepted says that every byte written before it has arrived, so the bytes between
two of them over the time between them are the link's rate, as long as there was always something to write; that is how
BBR measures, with frames for packets (Cardwell et al., "BBR: Congestion-Based Congestion Control", ACM Queue 14(5)).
"""

from dataclasses import dataclass, field
from math import ceil
from typing import Final

PART_S: Final = 0.02  # of the link: with what gRPC and the socket hold, an essential frame waits for some 50 ms
FIRST_PART_BYTES: Final = 64 * 1024  # until the rate is known
LEAST_PART_BYTES: Final = 4 * 1024
SLOW_BYTES_S: Final = 12.5e6  # 100 Mbit/s: below it what waits in the socket matters
STALL_S: Final = 5.0  # without any progress, beside what the bytes below us take: the stream counts as dead
UNKNOWN_BYTES_S: Final = 25_000.0  # to judge a stall by, until the rate is known
BELOW_BYTES: Final = 256 * 1024  # what gRPC and the socket hold at most, roughly

Key = tuple[int, int]  # sequence, attempt


@dataclass(slots=True)
class _Written:
    """What was written of a frame that has not arrived."""

    size: int = 0
    end: int = 0  # bytes of the stream before its end
    at_s: float = 0.0


@dataclass(slots=True)
class LinkMeter:
    """Rate and round trip of one stream. Pure: every call gets the monotonic time in seconds.

    Attributes:
        rate: bytes/s, smoothed; 0 = not known yet.
        round_trip_s: the shortest lately; 0 = not known yet.
    """

    rate: float = 0.0
    round_trip_s: float = 0.0
    frame_bytes: float = 0.0  # of a frame, smoothed
    _written: int = 0
    _arrived: int = 0
    _since_s: float = 0.0  # what the next acknowledgement measures began here
    _fresh: bool = True  # it began with an empty link, and takes a round trip more
    _limited: bool = False  # there was not always something to write
    _paused: bool = False
    _frames: dict[Key, "_Written"] = field(default_factory=dict)

    def restart(self) -> None:
        """A new stream, maybe to another node: what was in flight is lost, what was learnt stays as a first guess."""
        self._written = self._arrived = 0
        self._fresh, self._limited, self._paused = True, False, False
        self._frames.clear()

    def writing(self, key: Key, size: int, now_s: float) -> None:
        """`size` bytes of a frame are about to be handed to gRPC."""
        if self._written == self._arrived:
            self._since_s, self._fresh, self._limited = now_s, True, False
        elif self._paused:
            self._limited = True
        self._paused = False
        self._written += size
        frame = self._frames.setdefault(key, _Written())
        frame.size, frame.end, frame.at_s = frame.size + size, self._written, now_s

    def wrote(self, key: Key, now_s: float) -> None:
        """gRPC took them."""
        if key in self._frames:  # it may have arrived meanwhile
            self._frames[key].at_s = now_s

    def pause(self) -> None:
        """There is nothing to write."""
        self._paused = True

    def answered(self, seconds: float) -> None:
        """The node took this long to answer a message that had nothing to wait for."""
        if not self.round_trip_s or seconds < self.round_trip_s:
            self.round_trip_s = seconds
        else:
            self.round_trip_s += 0.05 * (seconds - self.round_trip_s)

    def arrived(self, key: Key, now_s: float) -> None:
        """The node has the whole frame."""
        frame = self._frames.pop(key, None)
        if frame is None:
            return
        self.answered(max(now_s - frame.at_s, 1e-4))
        self.frame_bytes += (1.0 if not self.frame_bytes else 0.25) * (frame.size - self.frame_bytes)
        size = frame.end - self._arrived
        if size <= 0:
            return
        seconds = now_s - self._since_s - (self.round_trip_s if self._fresh else 0.0)
        telling = seconds >= max(0.001, self.round_trip_s / 2 if self._fresh else 0.0)
        if telling and not (self._limited and size / seconds < self.rate):
            self._learn(size / seconds)
        self._arrived, self._since_s, self._fresh, self._limited = frame.end, now_s, False, False

    def _learn(self, rate: float) -> None:
        """Up fast, down slowly: what slows a sample down is as often the start of TCP as the link."""
        weight = 1.0 if not self.rate else 0.5 if rate > self.rate else 0.25
        self.rate += weight * (rate - self.rate)

    @property
    def in_flight(self) -> int:
        """Bytes written of which nothing was heard."""
        return self._written - self._arrived

    def rate_now(self, now_s: float) -> float:
        """Bytes/s; less than `rate` once what is in flight takes longer than it should."""
        seconds = now_s - self._since_s - self.round_trip_s
        if self.in_flight and seconds > 1.0:
            return min(self.rate, self.in_flight / seconds)
        return self.rate

    def part_bytes(self, limit: int, now_s: float) -> int:
        """Size of a part: PART_S of the link, `limit` at most."""
        rate = self.rate_now(now_s)
        wanted = int(rate * PART_S) if rate else FIRST_PART_BYTES
        return min(max(wanted, LEAST_PART_BYTES), limit)

    def frames_ahead(self, window: int) -> int:
        """Frames that may be on the link at once, of `window` that the node grants.

        On a link where a frame takes longer than a part: as many as keep it busy, and two at least, so that the next
        is ready when one is out.
        """
        if not self.rate or self.frame_bytes <= self.rate * PART_S:
            return window
        return min(window, 1 + max(1, ceil(self.rate * self.round_trip_s / self.frame_bytes)))

    def stall_s(self) -> float:
        """Seconds without any progress after which the stream counts as dead."""
        return STALL_S + 2 * min(self.in_flight, BELOW_BYTES) / (self.rate or UNKNOWN_BYTES_S)

    @property
    def slow(self) -> bool:
        return 0 < self.rate < SLOW_BYTES_S
