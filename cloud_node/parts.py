"""Frames that come in parts, put together."""

import time
from dataclasses import dataclass, field

from common.errors import FrameTooLarge, Overloaded

MAX_PARTS = 65_536


@dataclass(slots=True)
class Unfinished:
    """Bytes of frames that are not whole yet, of all streams together."""

    limit_bytes: int
    held_bytes: int = 0


@dataclass(slots=True)
class _Assembly:
    data: bytearray = field(default_factory=bytearray)
    parts: int = 0
    changed_s: float = 0.0  # monotonic


class PartAssembler:
    """The frames of one stream that are not whole yet.

    At most `max_bytes` for one frame, `window_bytes` for several together (a lone frame may be larger), and
    `window_frames` of them. Memory is taken as the data come, not as they are announced; `unfinished` bounds that of
    all streams.
    """

    def __init__(
        self, max_bytes: int, window_frames: int, window_bytes: int, unfinished: Unfinished | None = None
    ) -> None:
        self.max_bytes, self.window_frames, self.window_bytes = max_bytes, window_frames, window_bytes
        self.unfinished = unfinished or Unfinished(window_bytes + max_bytes)
        self._open: dict[tuple[int, int], _Assembly] = {}

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
        self.unfinished.held_bytes -= len(assembly.data)
        if index != assembly.parts or not 1 <= count <= MAX_PARTS or index >= count:
            raise ValueError(f"part {index} of {count} came where part {assembly.parts} was due")
        if total > self.max_bytes:
            raise FrameTooLarge(total, self.max_bytes, "bytes")
        if len(assembly.data) + len(data) > total:
            raise ValueError(f"parts exceed the {total:,} bytes that were announced")
        assembly.data += data
        if index + 1 < count:
            held = sum(len(other.data) for other in self._open.values())
            if self._open and held + len(assembly.data) > self.window_bytes:
                raise ValueError(f"frames in parts exceed the window of {self.window_bytes:,} bytes")
            if len(self._open) >= self.window_frames:
                raise ValueError(f"more than {self.window_frames} frames in parts at once")
            if (
                self.unfinished.held_bytes
                and self.unfinished.held_bytes + len(assembly.data) > self.unfinished.limit_bytes
            ):
                raise Overloaded(f"{self.unfinished.held_bytes:,} bytes of frames are here that are not whole yet")
            self.unfinished.held_bytes += len(assembly.data)
            assembly.parts, assembly.changed_s = index + 1, time.monotonic()
            self._open[key] = assembly
            return None
        if len(assembly.data) != total:
            raise ValueError(f"parts hold {len(assembly.data):,} bytes together, not {total:,}")
        return bytes(assembly.data)

    def idle(self, seconds: float) -> tuple[int, int] | None:
        """(sequence, attempt) of a frame that got no part for so long."""
        before = time.monotonic() - seconds
        return next((key for key, assembly in self._open.items() if assembly.changed_s <= before), None)

    def clear(self) -> None:
        """Free what is held."""
        self.unfinished.held_bytes -= sum(len(assembly.data) for assembly in self._open.values())
        self._open.clear()
