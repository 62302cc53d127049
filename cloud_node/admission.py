"""Who may send what: names, sessions, windows and sizes."""

import re
from collections import OrderedDict
from dataclasses import dataclass, field

from cloud_node.settings import Limits, Window
from common import packing
from common.errors import FrameTooLarge, StreamRefused
from common.packing import PackedImage

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
REMEMBERED = 64  # sequences per session, to know a frame that comes twice; the window is far smaller


def check_name(kind: str, name: str) -> None:
    """Raises StreamRefused unless the name fits into a NATS subject and a path."""
    if not NAME.fullmatch(name):
        raise StreamRefused(f"{kind} name {name[:80]!r}: use 1 to 64 of A-Z a-z 0-9 _ -")


def check_image(image: PackedImage, limits: Limits) -> None:
    """Check every claim of a packed image before memory is taken for it.

    Raises:
        FrameTooLarge: for more pixels or bytes than the limits.
        ImageError: when size, format and payload do not hold together.
    """
    if len(image.payload) > limits.max_frame_bytes:
        raise FrameTooLarge(len(image.payload), limits.max_frame_bytes, "bytes")
    packing.check(image, max_pixels=limits.max_pixels)


@dataclass(slots=True)
class Session:
    """What a node knows of one start of an edge node, across its streams."""

    edge: str
    session: str
    attempts: "OrderedDict[int, int]" = field(default_factory=OrderedDict)  # sequence -> last attempt seen
    holding: set[int] = field(default_factory=set)  # accepted, result not yet published

    def seen(self, sequence: int, attempt: int) -> bool:
        """Whether this attempt, or a later one, came before; remembers it."""
        known = self.attempts.get(sequence)
        if known is not None and attempt <= known:
            return True
        self.attempts[sequence] = attempt
        self.attempts.move_to_end(sequence)
        while len(self.attempts) > REMEMBERED:
            self.attempts.popitem(last=False)
        return False

    def forget(self, sequence: int) -> None:
        """It was turned away: the same attempt may come again."""
        self.attempts.pop(sequence, None)


@dataclass(slots=True)
class Account:
    """Frames and bytes that a stream has out: sent, and not credited yet."""

    window: Window
    frames: int = 0
    bytes: int = 0

    def charge(self, size: int) -> bool:
        """Take a frame in; False when it is beyond the window (a lone large frame is not)."""
        fits = self.frames < self.window.window_frames and (
            self.frames == 0 or self.bytes + size <= self.window.window_bytes
        )
        self.frames += 1
        self.bytes += size
        return fits

    def credit(self, size: int) -> None:
        self.frames -= 1
        self.bytes -= size
