"""What a check found, and how long it may look."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from common.errors import LamplightError

T = TypeVar("T")
Figure = float | int | str | bool


class Mark(Enum):
    """OK; WARN = the node works, but not at its best; FAIL = it does not; SKIP = not asked, or not told."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    group: str  # source, cloud, nats, sinks, models, disk, clock, machine
    name: str
    mark: Mark
    value: str  # what was seen and measured, or what is wrong, in words
    advice: str = ""  # what to do
    figures: dict[str, Figure] = field(default_factory=dict)  # the same in numbers, units in their names


class Group:
    """Collects the findings of one group, in their order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.findings: list[Finding] = []

    def ok(self, name: str, value: str, **figures: Figure) -> None:
        self._add(name, Mark.OK, value, "", figures)

    def warn(self, name: str, value: str, advice: str = "", **figures: Figure) -> None:
        self._add(name, Mark.WARN, value, advice, figures)

    def fail(self, name: str, value: str, advice: str = "", **figures: Figure) -> None:
        self._add(name, Mark.FAIL, value, advice, figures)

    def skip(self, name: str, value: str) -> None:
        self._add(name, Mark.SKIP, value, "", {})

    def _add(self, name: str, mark: Mark, value: str, advice: str, figures: dict[str, Figure]) -> None:
        self.findings.append(Finding(self.name, name, mark, value, advice, figures))

    async def within(
        self, limit_s: float, name: str, check: Awaitable[T], advice: str = "", mark: Mark = Mark.FAIL
    ) -> T | None:
        """Await a check; what it raises, and no answer in time, are findings of their own, and None is returned."""
        problem = ""
        try:
            async with asyncio.timeout(limit_s):
                return await check
        except TimeoutError:
            problem = f"no answer within {limit_s:g} s"
        except LamplightError as error:  # says what to do
            problem, advice = str(error), ""
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        self._add(name, mark, problem, advice, {})
        return None


@contextmanager
def timed(figures: dict[str, Any], name: str = "ms") -> Iterator[None]:
    """Milliseconds of the body as `figures[name]`."""
    began = time.perf_counter()
    yield
    figures[name] = round((time.perf_counter() - began) * 1e3, 1)


async def in_thread(function: Callable[[], T]) -> T:
    """Run what blocks. When cancelled its thread is left behind: a driver that hangs must not hold the report."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        try:
            outcome: tuple[T | None, BaseException | None] = (function(), None)
        except Exception as error:
            outcome = (None, error)
        with suppress(RuntimeError):  # the loop is gone
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, name="check", daemon=True).start()
    return await done
