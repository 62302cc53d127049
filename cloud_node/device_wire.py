"""What a node and the process of its device tell each other: messages over a socket, frames in shared memory."""

import mmap
import os
import pickle
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cloud_node.jobs import Encoding
from common.errors import CorruptImage, DeviceError, DeviceLost, ImageError, LamplightError, SettingsError, WeightsError
from common.packing import EncodedImage, PackedImage

LENGTH: Final = struct.Struct("<Q")
NUMBER: Final = struct.Struct("<Q")
SLOTS: Final = 2  # batches that a process has at once: on the device, and next
LEAST_SLOT: Final = 1 << 20
KINDS: Final = (WeightsError, SettingsError, DeviceLost, DeviceError, CorruptImage, ImageError, LamplightError)


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """The engine that a process is to build."""

    device: str
    presets: dict[str, Path | None]
    threads: int = 0  # 0 = all processors, shared out among `engines`
    engines: int = 1
    backend: str = "auto"
    tile_pixels: int = 0
    cpus: frozenset[int] = frozenset()  # for the device's thread alone; empty = any
    helpers: int = 0  # threads that unpack and encode beside the device's; 0 = that does it
    max_pixels: int = 0
    log_level: int = 30


@dataclass(frozen=True, slots=True)
class FrameSpec:
    """A frame of a batch: its image without its bytes, and where these are."""

    image: PackedImage | EncodedImage
    start: int
    size: int
    encoding: Encoding


@dataclass(frozen=True, slots=True)
class Batch:
    number: int
    slot: int
    slot_bytes: int  # its size by now
    preset: str
    expires_ns: int
    frames: list[FrameSpec]


@dataclass(frozen=True, slots=True)
class Revoked:
    """A batch that the node took back: what was unpacked of it can go."""

    number: int


@dataclass(frozen=True, slots=True)
class Lit:
    """What came of one frame; `image` is None where it is still to be encoded, and comes by itself."""

    image: PackedImage | EncodedImage | None
    sharpness_before: float
    sharpness_after: float
    finite: bool
    model: str
    pixels: int


@dataclass(frozen=True, slots=True)
class Fault:
    """An error of a known kind, as words."""

    kind: str
    text: str

    @classmethod
    def of(cls, error: BaseException) -> "Fault":
        kind = next((kind.__name__ for kind in KINDS if isinstance(error, kind)), "")
        return cls(kind, str(error) or repr(error))

    @property
    def error(self) -> Exception:
        kind: type[Exception] = next((kind for kind in KINDS if kind.__name__ == self.kind), RuntimeError)
        return kind(self.text)


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a batch, as in `batches.Ran`; `results` is None where a deadline passed before it began."""

    number: int
    results: list[Lit | Fault | None] | None
    lost: str = ""
    fits_pixels: int = 0
    times: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Image:
    """A frame of a batch, encoded."""

    number: int
    index: int
    image: PackedImage | EncodedImage | Fault


@dataclass(frozen=True, slots=True)
class Models:
    """The engine is ready, or has other weights: preset -> version."""

    models: dict[str, str]


@dataclass(frozen=True, slots=True)
class Reload:
    number: int
    preset: str
    weights: Path | None


@dataclass(frozen=True, slots=True)
class Reloaded:
    number: int
    version: str | Fault
    models: dict[str, str]


@dataclass(frozen=True, slots=True)
class Said:
    """A line for the node's log."""

    logger: str
    level: int
    text: str


def framed(message: object) -> bytes:
    """A message as it goes over the socket. Both ends are this program: pickle is safe here."""
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body


@dataclass(slots=True)
class Inbox:
    """Messages out of what comes from a socket, in pieces."""

    _data: bytearray = field(default_factory=bytearray)

    def add(self, data: bytes) -> Iterator[Any]:
        self._data += data
        while len(self._data) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._data)
            if len(self._data) < LENGTH.size + size:
                return
            with memoryview(self._data) as view:
                message = pickle.loads(view[LENGTH.size : LENGTH.size + size])  # noqa: S301
            del self._data[: LENGTH.size + size]
            yield message


class Line:
    """The blocking end of the socket: any thread sends, one receives."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket, self._sending = connection, threading.Lock()

    def send(self, message: object) -> None:
        data = framed(message)
        with self._sending:
            self._socket.sendall(data)

    def messages(self) -> Iterator[Any]:
        """Until the other end is closed."""
        inbox = Inbox()
        while data := self._socket.recv(1 << 18):
            yield from inbox.add(data)


class Memory:
    """A stretch of memory that two processes see; it grows, and never shrinks."""

    def __init__(self, descriptor: int = -1) -> None:
        self.descriptor = _nameless_file() if descriptor < 0 else descriptor
        self._map: mmap.mmap | None = None
        self.size = 0

    def grow(self, size: int) -> None:
        """Have room for `size` bytes. By the one that writes."""
        if size > self.size or self._map is None:  # also for nothing: an empty image is a broken one, no more
            size = max(LEAST_SLOT, 1 << max(0, size - 1).bit_length())
            os.ftruncate(self.descriptor, size)
            self.see(size)

    def see(self, size: int) -> None:
        """It has this size by now."""
        if size != self.size:
            self._map, self.size = mmap.mmap(self.descriptor, size), size

    def write(self, start: int, data: bytes) -> None:
        assert self._map is not None
        self._map[start : start + len(data)] = data

    def read(self, start: int, size: int) -> bytes:
        assert self._map is not None
        return self._map[start : start + size]

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map, self.size = None, 0
        os.close(self.descriptor)


def _nameless_file() -> int:
    if sys.platform == "linux":
        with suppress(OSError):  # where a sandbox forbids it
            return os.memfd_create("lamplight-frames")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


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
        if self._taken < 0:
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
