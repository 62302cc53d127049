"""Care: the node stays within the memory and the temperature that its user allows, and tells systemd how it is.

(The bound on the disk is kept where pictures are written: `edge_node/sinks/while_room.py`.)
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from common.memory import give_back
from common.systemd import Notifier, report
from edge_node import machine
from edge_node.settings import Care as Bounds

if TYPE_CHECKING:
    from edge_node.node import EdgeNode

log = logging.getLogger(__name__)

COOLER_C: Final = 5.0  # so far below the bound the node speeds up again
SLOWEST: Final = 32  # of so many frames one is taken at the least
CHECK_S: Final = 0.5
THERMAL_S: Final = 15.0  # a case of metal takes its time to answer
PATIENCE: Final = 5  # memory above the bound in so many checks in a row


class Slowdown:
    """Lets one of `factor` frames pass: a live source skips the others, a file waits for as long."""

    def __init__(self) -> None:
        self.factor = 1

    def pass_for(self, live: bool) -> Callable[[], bool]:
        """For one source: a function to call with each frame, in the source's thread; False = leave the frame out."""
        count, passed_s = 0, time.monotonic()

        def passes() -> bool:
            nonlocal count, passed_s
            if live:
                count += 1
                return count % self.factor == 0
            time.sleep(min(2.0, (self.factor - 1) * (time.monotonic() - passed_s)))
            passed_s = time.monotonic()
            return True

        return passes


def next_factor(factor: int, celsius: float, limit: float) -> int:
    """The factor of `Slowdown` after a look at the temperature: doubled above the limit, halved well below it.

    >>> next_factor(1, 81.0, 80.0), next_factor(4, 78.0, 80.0), next_factor(4, 74.9, 80.0)
    (2, 4, 2)
    """
    if celsius > limit:
        return min(factor * 2, SLOWEST)
    return max(1, factor // 2) if celsius < limit - COOLER_C else factor


class Care:
    """Looks after memory and temperature.

    Args:
        bounds: what the user allows; 0 = no bound.
        slowdown: of the node's sources.
        stop: set when only a new process helps; `wants_restart` is True then.
        thermal, proc: where the kernel tells of them.
    """

    def __init__(
        self,
        bounds: Bounds,
        slowdown: Slowdown,
        stop: asyncio.Event,
        *,
        thermal: Path = machine.THERMAL,
        proc: Path = machine.PROC,
    ) -> None:
        self.wants_restart = False
        self._bounds, self._slowdown, self._stop = bounds, slowdown, stop
        self._thermal, self._proc = thermal, proc
        self._above = 0
        self._unknown: set[str] = set()

    async def run(self) -> None:
        """Until cancelled."""
        due_s = 0.0
        while True:
            self.check_memory()
            if time.monotonic() >= due_s:
                self.check_temperature()
                due_s = time.monotonic() + THERMAL_S
            await asyncio.sleep(CHECK_S)

    def check_memory(self) -> None:
        """One look at the memory.

        What malloc holds back is returned first. What is above the bound then cannot be shed, since every queue is
        bounded: the node stops in good order, and a new process takes over where it was.
        """
        limit = self._bounds.max_rss_mib
        if not limit or self.wants_restart:
            return
        if (used := machine.rss_mib(self._proc)) is None:
            return self._say_unknown("--max-rss-mib", f"the memory of a process is not told in {self._proc}")
        self._above = self._above + 1 if used > limit else 0
        if self._above == PATIENCE - 1:
            give_back()
        elif self._above >= PATIENCE:
            self.wants_restart = True
            log.error("memory: %.0f MiB, more than --max-rss-mib %d: stopping, to be started again", used, limit)
            self._stop.set()

    def check_temperature(self) -> None:
        """One look at the temperature: fewer frames above the bound, more again below it."""
        limit = self._bounds.max_celsius
        if not limit:
            return
        if (hottest := machine.celsius(self._thermal)) is None:
            return self._say_unknown("--max-celsius", f"no temperature is told in {self._thermal}")
        degrees, kind = hottest
        before = self._slowdown.factor
        self._slowdown.factor = factor = next_factor(before, degrees, limit)
        if factor != before:
            share = "every frame" if factor == 1 else f"one frame of {factor}"
            log.warning("%s has %.0f °C (--max-celsius %g): taking %s", kind, degrees, limit, share)

    def status(self) -> str:
        """Memory, temperature, and what is done about them, in a few words."""
        used, hottest, factor = machine.rss_mib(self._proc), machine.celsius(self._thermal), self._slowdown.factor
        parts = [f"{used:.0f} MiB"] if used is not None else []
        parts += [f"{hottest[0]:.0f} °C"] if hottest is not None else []
        parts += [f"one frame of {factor} to cool down"] if factor > 1 else []
        return ", ".join(parts)

    def _say_unknown(self, flag: str, why: str) -> None:
        if flag not in self._unknown:
            self._unknown.add(flag)
            log.warning("%s has no effect: %s", flag, why)


@asynccontextmanager
async def cared_for(
    nodes: "Sequence[EdgeNode]", bounds: Bounds, slowdown: Slowdown, stop: asyncio.Event, summary: Callable[[], str]
) -> AsyncIterator[Care]:
    """Care for nodes that share a slowdown, and keep systemd informed, while the body runs them.

    Args:
        summary: what became of their frames, in a line.
    """
    care = Care(bounds, slowdown, stop)

    def status() -> str:
        connected = sum(node.connected for node in nodes)
        link = "connected" if connected == len(nodes) else f"{connected} connected" if connected else "no cloud node"
        return "; ".join(filter(None, (link, summary(), care.status())))

    def stuck(limit_s: float) -> str:
        return next(filter(None, (node.steps.stuck(limit_s) for node in nodes)), "")

    def ready() -> bool:
        return any(node.moving for node in nodes)

    telling = report(Notifier(), stop, ready=ready, stuck=stuck, status=status)
    tasks = [asyncio.create_task(care.run(), name="care"), asyncio.create_task(telling, name="systemd")]
    try:
        yield care
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
