"""How much may be out: what the cloud node grants, what the link carries, and a place kept for the urgent."""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from common.frame import Priority


@dataclass(slots=True)
class Window:
    """Frames and payload bytes that may still go out.

    Once an essential frame came through here, one of the granted places is left to such frames: all others together
    never make one wait for credit. `ahead` says how many of the others may be on the link at once, given the grant.
    """

    ahead: Callable[[int], int] = lambda granted: granted
    frames: int = 0
    bytes: int = 0
    whole: int = 0  # bytes of an unused window
    granted: int = 0  # frames of an unused window
    keeps_place: bool = False
    on_link: set[Hashable] = field(default_factory=set)  # not essential, taken and not arrived
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def reset(self, frames: int, size: int) -> None:
        async with self.changed:
            self.frames, self.granted, self.bytes, self.whole = frames, frames, size, size
            self.on_link.clear()
            self.changed.notify_all()

    async def credit(self, frames: int, size: int) -> None:
        async with self.changed:
            self.frames += frames
            self.bytes += size
            self.changed.notify_all()

    async def arrived(self, key: Hashable) -> None:
        """This frame is not on the link any more."""
        async with self.changed:
            self.on_link.discard(key)
            self.changed.notify_all()

    def has_room(self, priority: Priority) -> bool:
        """Whether one more frame of this priority may go."""
        if priority is Priority.ESSENTIAL:
            return self.frames > 0
        # While nothing is out one may go: a window that the cloud node narrowed widens only as frames come back.
        kept = 1 if self.keeps_place and self.granted > 1 and self.bytes < self.whole else 0
        on_link = min(len(self.on_link), self.granted - self.frames)  # what was credited did arrive
        return self.frames > kept and on_link < self.ahead(self.granted)

    async def open(self, priority: Priority = Priority.STANDARD) -> None:
        """Wait until one more frame may go."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.has_room(priority))

    async def take(self, size: int, priority: Priority = Priority.STANDARD, key: Hashable = None) -> None:
        """Wait for room, and use it. A frame larger than the window goes alone."""
        async with self.changed:
            if priority is Priority.ESSENTIAL:
                self.keeps_place = True
            await self.changed.wait_for(
                lambda: self.has_room(priority) and (size <= self.bytes or self.bytes >= self.whole)
            )
            self.frames -= 1
            self.bytes -= size
            if priority is not Priority.ESSENTIAL and key is not None:
                self.on_link.add(key)
