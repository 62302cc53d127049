"""What a node and the process of its device both see: bytes of frames and results, and who has which of them.

Files without a name, read and written at a place and never mapped: the kernel copies while other threads run Python,
and what was cut off cannot be touched.
"""

import os
import struct
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

LEAST: Final = 1 << 20  # bytes that a stretch keeps
NUMBER: Final = struct.Struct("<Q")
CELL: Final = struct.Struct("<QQ")
WHOLE: Final = (1 << 64) - 1  # of a batch


class Stretch:
    """Bytes that two processes see. It grows with what is written."""

    def __init__(self, descriptor: int = -1) -> None:
        self.descriptor = _nameless_file() if descriptor < 0 else descriptor

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def write(self, start: int, data: bytes) -> None:
        """Raises OSError where there is no memory for it."""
        written = os.pwrite(self.descriptor, data, start)
        while written < len(data):
            written += os.pwrite(self.descriptor, memoryview(data)[written:], start + written)

    def read(self, start: int, size: int) -> bytes:
        """Raises OSError where so much was never written."""
        data = os.pread(self.descriptor, size, start)
        while len(data) < size:
            more = os.pread(self.descriptor, size - len(data), start + len(data))
            if not more:
                raise OSError(f"{size} bytes at {start} are not there")
            data += more
        return data

    def cut(self, size: int) -> None:
        """Give the memory of what is beyond back to the system."""
        if self.size > size:
            os.ftruncate(self.descriptor, size)

    def close(self) -> None:
        os.close(self.descriptor)


class Slot:
    """Where the frames of one batch lie. By the one that writes."""

    def __init__(self) -> None:
        self.stretch, self.claim = Stretch(), Claim()
        self._last = self._most = 0

    def expect(self, size: int) -> None:
        """A batch of so many bytes comes next."""
        self._last, self._most = size, max(self._most, size)

    def tidy(self, in_use: bool) -> None:
        """Keep the memory that batches took since the last time."""
        self.stretch.cut(max(LEAST, self._most))
        self._most = self._last if in_use else 0

    def close(self) -> None:
        self.stretch.close()
        self.claim.close()


class Arena:
    """Results that are to be fetched. By the one that writes; any thread."""

    def __init__(self, stretch: Stretch) -> None:
        self._stretch, self._lock = stretch, threading.Lock()
        self._taken: dict[int, int] = {}  # start -> size
        self._most = 0

    def put(self, data: bytes) -> int:
        """Returns where it lies until `free`. Raises OSError where there is no memory for it."""
        size = max(1, len(data))
        with self._lock:
            start = 0
            for other in sorted(self._taken):
                if other - start >= size:
                    break
                start = other + self._taken[other]
            self._taken[start] = size
            self._most = max(self._most, start + size)
        try:
            self._stretch.write(start, data)
        except OSError:
            self.free(start)
            raise
        return start

    def free(self, start: int) -> None:
        with self._lock:
            del self._taken[start]

    def tidy(self) -> None:
        """Keep the memory that was in use since the last time."""
        with self._lock:
            self._stretch.cut(max(LEAST, self._most))
            self._most = max((start + size for start, size in self._taken.items()), default=0)


class Burst:
    """Notices when much smaller things follow large ones, whose memory a process still holds."""

    def __init__(self) -> None:
        self._recent = self._peak = 0

    def note(self, size: int) -> None:
        self._recent = max(self._recent, size)

    def over(self) -> bool:
        """Whether one ended; to be asked every few seconds."""
        self._peak, recent, self._recent = max(self._peak, self._recent), self._recent, 0
        if 4 * recent > self._peak or not self._peak:
            return False
        self._peak = recent
        return True


class Hands:
    """Which frames a process is at, thread by thread: to be read after its death."""

    def __init__(self, stretch: Stretch) -> None:
        self._stretch, self._lock = stretch, threading.Lock()
        self._places, self._mine = 0, threading.local()

    def take(self, number: int, index: int = WHOLE) -> None:
        """The calling thread is at frame `index` of batch `number`, and at nothing else."""
        self._stretch.write(self._place(), CELL.pack(number, index))

    def empty(self) -> None:
        """It is at none."""
        self._stretch.write(self._place(), CELL.pack(0, 0))

    def held(self) -> Iterator[tuple[int, int]]:
        """Number and index of what threads are at."""
        data = self._stretch.read(0, self._stretch.size // CELL.size * CELL.size)
        return ((number, index) for number, index in CELL.iter_unpack(data) if number)

    def _place(self) -> int:
        place: int | None = getattr(self._mine, "place", None)
        if place is None:
            with self._lock:
                place = self._mine.place = self._places
                self._places += CELL.size
        return place


class Claim:
    """Of a batch in a slot, by the first that asks: the process that begins it, or the node that takes it back.

    Its number in a pipe that both can read: whoever reads it has it. So few bytes are written and read whole.
    """

    def __init__(self, descriptor: int = -1) -> None:
        self.descriptor, self._offers = os.pipe() if descriptor < 0 else (descriptor, -1)
        if descriptor < 0:
            os.set_blocking(self.descriptor, False)
        self._taken = -1

    def offer(self, number: int) -> None:
        os.write(self._offers, NUMBER.pack(number))

    def take(self, number: int) -> bool:
        """Whether batch `number` is ours. One that was taken back may have been followed in its slot by another."""
        if self.descriptor < 0:
            return False
        while self._taken < number:  # numbers only rise: an earlier one was of a batch that never came
            try:
                (self._taken,) = NUMBER.unpack(os.read(self.descriptor, NUMBER.size))
            except BlockingIOError:
                return False
        if self._taken != number:
            return False
        self._taken = -1
        return True

    def close(self) -> None:
        """Nobody gets what is left."""
        os.close(self.descriptor)
        if self._offers >= 0:
            os.close(self._offers)
        self.descriptor = self._offers = -1


def _nameless_file() -> int:
    if sys.platform == "linux":
        with suppress(OSError):  # where a sandbox forbids it
            return os.memfd_create("lamplight-frames")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
