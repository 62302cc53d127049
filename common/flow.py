"""The bounded queue between two stages: every queue has a bound, a policy and a count of what it dropped."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")


class Policy(Enum):
    """What a full queue does with one more item."""

    WAIT = "wait"  # the producer waits: nothing is lost
    DROP_OLDEST = "drop oldest"  # the newest matters most


class QueueClosed(Exception):
    """The queue was closed; nothing more goes in."""


class BoundedQueue(Generic[T]):
    """A queue for one event loop.

    `dropped` counts what the policy threw away since the start.
    """

    def __init__(self, name: str, limit: int, policy: Policy) -> None:
        if limit < 1:
            raise ValueError(f"queue {name} needs room for at least one item, not {limit}")
        self.name, self.limit, self.policy = name, limit, policy
        self.dropped = 0
        self._items: deque[T] = deque()
        self._changed = asyncio.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, item: T) -> T | None:
        """Add an item; returns the one that was dropped for it, if any. Raises QueueClosed."""
        async with self._changed:
            dropped = None
            if self.policy is Policy.DROP_OLDEST:
                if len(self._items) >= self.limit and not self._closed:
                    dropped = self._items.popleft()
                    self.dropped += 1
            else:
                await self._changed.wait_for(lambda: len(self._items) < self.limit or self._closed)
            if self._closed:
                raise QueueClosed(self.name)
            self._items.append(item)
            self._changed.notify_all()
            return dropped

    async def get(self) -> T:
        """The oldest item. Raises QueueClosed once the queue is closed and empty."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._items or self._closed)
            if not self._items:
                raise QueueClosed(self.name)
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    async def first(self) -> T:
        """As `get`, but the item stays: one that is full drops it for a newer one all the same."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._items or self._closed)
            if not self._items:
                raise QueueClosed(self.name)
            return self._items[0]

    async def gone(self, item: T) -> None:
        """Wait until `first` would give another item than this one."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._items or self._items[0] is not item)

    async def take(self, item: T) -> bool:
        """Take this item if it is still the first."""
        async with self._changed:
            if not self._items or self._items[0] is not item:
                return False
            self._items.popleft()
            self._changed.notify_all()
            return True

    async def ready(self) -> bool:
        """Wait until there is an item; False once the queue is closed and empty."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._items or self._closed)
            return bool(self._items)

    async def close(self, discard: bool = False) -> None:
        """Let nothing more in; what is inside can still be taken, unless it is discarded."""
        async with self._changed:
            self._closed = True
            if discard:
                self._items.clear()
            self._changed.notify_all()

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            try:
                item = await self.get()
            except QueueClosed:
                return
            yield item
