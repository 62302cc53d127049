"""Which steps of the node's work are under way, and for how long: a step that never ends is a node that hangs."""

import itertools
import time
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class Steps:
    """Watches steps that always end soon: packing a frame, reading one. Waiting for others is no such step."""

    def __init__(self) -> None:
        self._began: dict[int, tuple[str, float]] = {}
        self._numbers = itertools.count()

    async def watch(self, name: str, step: Awaitable[T]) -> T:
        """Await a step under this name; gives what it gives, raises what it raises."""
        number = next(self._numbers)
        self._began[number] = (name, time.monotonic())
        try:
            return await step
        finally:
            del self._began[number]

    def stuck(self, limit_s: float) -> str:
        """The step that is under way for longer than this, in words; "" when there is none."""
        now = time.monotonic()
        for name, began_s in self._began.values():
            if now - began_s > limit_s:
                return f"{name} has stood still for {now - began_s:.0f} s"
        return ""
