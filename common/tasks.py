"""Ends tasks that may swallow a cancellation, as nats-py does in places: asyncio alone would wait for them for good."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

AGAIN_S = 2.0  # a task may need as long to leave in good order over a slow link


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
            if not task.cancelled():
                task.exception()  # seen: whoever wants it has it already
    if cancelled:
        raise asyncio.CancelledError


async def run_all(runs: Iterable[Coroutine[Any, Any, None]], name: str) -> None:
    """Run side by side until all return, or one raises, which is raised. Whatever ends it ends all of them.

    `asyncio.gather` passes a cancellation on once and waits until each has heeded it.
    """
    tasks = [asyncio.create_task(run, name=name) for run in runs]
    try:
        left = set(tasks)
        while left:
            done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # raises also what cancelled itself
    finally:
        await end_tasks(tasks)
