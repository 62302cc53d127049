"""How many frames the node has in hand."""

import asyncio
from collections.abc import Callable


class InHand:
    """Frames that were taken and are not read yet; those from the spool do not count.

    `here` are those of them that no cloud node sees.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.here = 0
        self._changed = asyncio.Condition()

    def took(self, here: bool) -> None:
        self.frames += 1
        self.here += here

    async def left(self, here: bool) -> None:
        self.frames -= 1
        self.here -= here
        await self.changed()

    async def changed(self) -> None:
        """What `until` waits for may have come true."""
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(condition)
