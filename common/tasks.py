"""Ends tasks that may swallow a cancellation, as nats-py does in places: asyncio alone would wait for them for good.

And the other way about: work that must not stop half way.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, TypeVar

log = logging.getLogger(__name__)

AGAIN_S = 2.0  # a task may need as long to leave in good order over a slow link
T = TypeVar("T")


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, again and again until they are over, and wait for them; a cancellation meanwhile comes after."""
    left, cancelled = set(tasks), False
    while left:
        for task in left:
            task.cancel()
        try:
            done, left = await asyncio.wait(left, timeout=AGAIN_S)
        except asyncio.CancelledError:  # whoever repeats this one's would leave them behind
            cancelled = True
            continue
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                # Whoever wants it has it already, but for what went wrong on the way out.
                log.debug("%r", task, exc_info=error)
    if cancelled:
        raise asyncio.CancelledError


async def run_all(runs: Iterable[Coroutine[Any, Any, None]], name: str) -> None:
    """Run side by side until all return, or one raises, which is raised. Whatever ends it ends all of them.

    `asyncio.gather` alone passes a cancellation on once and waits until each has heeded it.
    """
    tasks = [asyncio.create_task(run, name=name) for run in runs]
    together = asyncio.gather(*tasks)
    together.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen
    try:
        await asyncio.wait([together])
        together.result()  # raises also what cancelled itself
    finally:
        await end_tasks(tasks)


class Uninterrupted:
    """Work that goes on to its end, also when whoever waits for it is cancelled."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def result(self, work: Coroutine[Any, Any, T], unwanted: Callable[[T], object] | None = None) -> T:
        """What the work returns or raises; `unwanted` has what it returns where nobody waits for it any more."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(partial(_unwanted, unwanted))
            raise

    async def end(self) -> None:
        """Cancel what has not come to its end."""
        await end_tasks(self._tasks)


def _unwanted(take: Callable[[T], object] | None, task: "asyncio.Task[T]") -> None:
    if task.cancelled():
        return
    if (error := task.exception()) is not None:
        log.error("%s", error, exc_info=error)
    elif take is not None:
        take(task.result())
