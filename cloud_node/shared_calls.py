"""The same work asked for again and again is done once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedCalls(Generic[T]):
    """For each key one call at a time, whose outcome all who ask meanwhile share; a success is remembered for a while.

    Args:
        call: what is done for a key. It goes on when those who asked are gone.
        remembered_s: how long an answer holds.
    """

    def __init__(self, call: Callable[[str], Awaitable[T]], remembered_s: float) -> None:
        self._call, self._remembered_s = call, remembered_s
        self._tasks: dict[str, asyncio.Task[T]] = {}  # that run, or whose answer holds

    async def __call__(self, key: str) -> T:
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(self._run(key))
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(task)

    async def _run(self, key: str) -> T:
        return await self._call(key)

    def _done(self, key: str, task: asyncio.Task[T]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._forget(key)
        else:
            task.get_loop().call_later(self._remembered_s, self._forget, key)

    def _forget(self, key: str) -> None:
        self._tasks.pop(key, None)
