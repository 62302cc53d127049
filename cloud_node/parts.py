"""Frames that come in parts, put together."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from common.errors import FrameTooLarge, Overloaded

MAX_PARTS = 65_536


class Unfinished:
    """Bytes of frames that are not whole yet, of all streams together.

    When they are too many, the stream that holds the most gives up its stalest frame: who sends slowly, or stops, keeps
    nobody out who holds less.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes, self.held_bytes = limit_bytes, 0
        self._holders: set[PartAssembler] = set()

    def held(self, holder: "PartAssembler", change: int) -> None:
        """A stream holds so many bytes more, or less."""
        holder.held_bytes += change
        self.held_bytes += change
        (self._holders.add if holder.held_bytes else self._holders.discard)(holder)

    def make_room(self, comer: "PartAssembler", size: int) -> None:
        """For `size` bytes of one stream beside what it holds. A lone frame always has room.

        Raises:
            Overloaded: it would be the one that holds the most.
        """
        while self.held_bytes and self.held_bytes + size > self.limit_bytes:
            others = self._holders - {comer}
            most = max(others, key=lambda holder: (holder.held_bytes, -holder.stalest_s), default=comer)
            if most.held_bytes < comer.held_bytes + size or most is comer:
                raise Overloaded(
                    f"{self.held_bytes:,} bytes of frames are here that are not whole yet, and no stream has more of "
                    f"them than the {comer.held_bytes + size:,} of this one"
                )
            most.give_up(f"it holds {most.held_bytes:,} of the {self.limit_bytes:,} bytes for unfinished frames")


@dataclass(slots=True)
class _Assembly:
    data: bytearray = field(default_factory=bytearray)
    parts: int = 0
    changed_s: float = 0.0  # monotonic


class PartAssembler:
    """The frames of one stream that are not whole yet.

    At most `max_bytes` for one frame, `window_bytes` for several together (a lone frame may be larger), and
    `window_frames` of them. Memory is taken as the data come, not as they are announced; `unfinished` bounds that of
    all streams, and `on_given_up` is told of a frame that had to go for it: (sequence, attempt), why.
    """

    def __init__(
        self,
        max_bytes: int,
        window_frames: int,
        window_bytes: int,
        unfinished: Unfinished | None = None,
        on_given_up: Callable[[tuple[int, int], str], None] = lambda key, reason: None,
    ) -> None:
        self.max_bytes, self.window_frames, self.window_bytes = max_bytes, window_frames, window_bytes
        self.unfinished = unfinished or Unfinished(window_bytes + max_bytes)
        self.held_bytes = 0  # kept by `unfinished`
        self._on_given_up = on_given_up
        self._open: dict[tuple[int, int], _Assembly] = {}  # the stalest first

    def __len__(self) -> int:
        return len(self._open)

    def add(self, sequence: int, attempt: int, index: int, count: int, total: int, data: bytes) -> bytes | None:
        """Take one part; returns the whole when it was the last.

        Raises:
            FrameTooLarge: for more than `max_bytes`.
            Overloaded: for more than `unfinished` allows.
            ValueError: with what does not fit.
        """
        key = (sequence, attempt)
        assembly = self._open.pop(key, None) or _Assembly()
        self.unfinished.held(self, -len(assembly.data))
        if index != assembly.parts or not 1 <= count <= MAX_PARTS or index >= count:
            raise ValueError(f"part {index} of {count} came where part {assembly.parts} was due")
        if total > self.max_bytes:
            raise FrameTooLarge(total, self.max_bytes, "bytes")
        if len(assembly.data) + len(data) > total:
            raise ValueError(f"parts exceed the {total:,} bytes that were announced")
        assembly.data += data
        if index + 1 < count:
            if self._open and self.held_bytes + len(assembly.data) > self.window_bytes:
                raise ValueError(f"frames in parts exceed the window of {self.window_bytes:,} bytes")
            if len(self._open) >= self.window_frames:
                raise ValueError(f"more than {self.window_frames} frames in parts at once")
            self.unfinished.make_room(self, len(assembly.data))
            self.unfinished.held(self, len(assembly.data))
            assembly.parts, assembly.changed_s = index + 1, time.monotonic()
            self._open[key] = assembly
            return None
        if len(assembly.data) != total:
            raise ValueError(f"parts hold {len(assembly.data):,} bytes together, not {total:,}")
        return bytes(assembly.data)

    @property
    def stalest_s(self) -> float:
        """When the frame that got no part for the longest time got its last (monotonic); infinity if none is open."""
        return next((assembly.changed_s for assembly in self._open.values()), inf)

    def idle(self, seconds: float) -> tuple[int, int] | None:
        """(sequence, attempt) of a frame that got no part for so long."""
        before = time.monotonic() - seconds
        return next((key for key, assembly in self._open.items() if assembly.changed_s <= before), None)

    def give_up(self, reason: str) -> None:
        """Free the stalest frame."""
        key = next(iter(self._open))
        self.unfinished.held(self, -len(self._open.pop(key).data))
        self._on_given_up(key, reason)

    def clear(self) -> None:
        """Free what is held."""
        self.unfinished.held(self, -self.held_bytes)
        self._open.clear()
