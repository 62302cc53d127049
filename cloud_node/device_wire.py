"""What a node and the process of its device tell each other, over a socket; large things are in `device_memory`."""

import pickle
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from cloud_node.jobs import Encoding
from common.errors import CorruptImage, DeviceError, DeviceLost, ImageError, LamplightError, SettingsError, WeightsError
from common.packing import EncodedImage, PackedImage

LENGTH: Final = struct.Struct("<Q")
SLOTS: Final = 2  # batches that a process has at once: on the device, and next
INLINE: Final = 64 * 1024  # bytes of an image that goes in a message; a larger one would hold up those behind it
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
    preset: str
    expires_ns: int
    frames: list[FrameSpec]


@dataclass(frozen=True, slots=True)
class Revoked:
    """A batch that the node took back: what was unpacked of it can go."""

    number: int


@dataclass(frozen=True, slots=True)
class Stored:
    """An image without its bytes, and where these are until `Fetched`."""

    image: PackedImage | EncodedImage
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes that begin at `start` are needed no more."""

    start: int


@dataclass(frozen=True, slots=True)
class Tidy:
    """Memory that has not been needed lately can go."""


@dataclass(frozen=True, slots=True)
class Lit:
    """What came of one frame; `image` is None where it is still to be encoded, and comes by itself."""

    image: PackedImage | EncodedImage | Stored | None
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
    image: PackedImage | EncodedImage | Stored | Fault


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


def content_of(image: PackedImage | EncodedImage) -> bytes:
    return image.data if isinstance(image, EncodedImage) else image.payload


def with_content(image: PackedImage | EncodedImage, content: bytes) -> PackedImage | EncodedImage:
    if isinstance(image, EncodedImage):
        return replace(image, data=content)
    return replace(image, payload=content)
