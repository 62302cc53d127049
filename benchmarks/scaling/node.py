"""One cloud node, simulated frame by frame: a queue by priority, and a device that takes batches.

What is known of the node: how long a batch of n frames takes on the device, and how long a frame spends beside that
(travel, checks, encoding, publishing). Everything else, waiting above all, comes of the simulation. As in the node a
priority whose oldest frame has waited for MAX_WAIT_S leads one of any two batches.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import simpy

MAX_WAIT_S = 2.0  # the node's --max-wait-ms
Arrivals = Iterable[tuple[float, int]]  # when a frame is due, in s; its priority, 0..2


@dataclass(frozen=True)
class Device:
    """`batch_s[n - 1]` is the time of a batch of n frames; longer ones grow as the last step did."""

    batch_s: tuple[float, ...]
    most: int  # frames of a batch

    def takes(self, frames: int) -> float:
        known = len(self.batch_s)
        if frames <= known:
            return self.batch_s[frames - 1]
        step = self.batch_s[-1] - self.batch_s[-2] if known > 1 else self.batch_s[-1]
        return self.batch_s[-1] + (frames - known) * step

    @property
    def most_fps(self) -> float:
        return max(n / self.takes(n) for n in range(1, self.most + 1))


@dataclass
class Node:
    """A node in a simulation. `offer` may be called at any time; latencies (seconds) are by priority."""

    env: simpy.Environment
    device: Device
    beside_s: float
    latencies: dict[int, list[float]] = field(default_factory=lambda: {0: [], 1: [], 2: []})
    batches: list[int] = field(default_factory=list)
    busy_s: float = 0.0
    waiting: dict[int, deque[tuple[float, float]]] = field(default_factory=lambda: {0: deque(), 1: deque(), 2: deque()})
    _wake: simpy.Event | None = None
    _led: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0, 2: 0})  # the last batch that each led
    _overdue_led: bool = False  # the last batch

    def offer(self, priority: int, due_s: float | None = None, farther_s: float = 0.0) -> None:
        """A frame comes: it was due at `due_s` (without it, now), and its way is `farther_s` longer."""
        self.waiting[priority].append((self.env.now if due_s is None else due_s, farther_s))
        if self._wake is not None and not self._wake.triggered:
            self._wake.succeed()

    @property
    def queued(self) -> int:
        return sum(map(len, self.waiting.values()))

    def run(self) -> Iterator[simpy.Event]:
        """The device: takes what waits, most urgent first, as long as there is something."""
        while True:
            if not self.queued:
                self._wake = self.env.event()
                yield self._wake
            batch = self._take()
            took_s = self.device.takes(len(batch))
            yield self.env.timeout(took_s)
            self.busy_s += took_s
            self.batches.append(len(batch))
            for priority, (due_s, farther_s) in batch:
                self.latencies[priority].append(self.env.now - due_s + self.beside_s + farther_s)

    def _take(self) -> list[tuple[int, tuple[float, float]]]:
        batch: list[tuple[int, tuple[float, float]]] = []
        first = self._lead()
        for priority, queue in sorted(self.waiting.items(), key=lambda item: item[0] != first):
            while queue and len(batch) < self.device.most:
                batch.append((priority, queue.popleft()))
        return batch

    def _lead(self) -> int:
        """The most urgent priority that waits; by turns one less urgent that is overdue."""
        first, *others = (priority for priority, queue in self.waiting.items() if queue)
        overdue = [priority for priority in others if self.env.now - self.waiting[priority][0][0] >= MAX_WAIT_S]
        self._overdue_led = bool(overdue) and not self._overdue_led
        chosen = min(overdue, key=lambda priority: self._led[priority]) if self._overdue_led else first
        self._led[chosen] = len(self.batches) + 1
        return chosen


def poisson(fps: float, seed: int = 0, mix: Sequence[float] = (0.1, 0.6, 0.3)) -> Iterator[tuple[float, int]]:
    """Arrivals by chance, for ever."""
    rng, now_s = np.random.default_rng(seed), 0.0
    while True:
        now_s += rng.exponential(1 / fps)
        yield now_s, int(rng.choice(3, p=mix))


def simulate(
    device: Device, beside_s: float, arrivals: Arrivals, seconds: float, since_s: float = 0.0
) -> dict[str, float]:
    """One node for so long: frames/s served, batch size, latency quantiles in ms, of what is back from `since_s` on."""
    env = simpy.Environment()
    node = Node(env, device, beside_s)

    def come() -> Iterator[simpy.Event]:
        for due_s, priority in arrivals:
            yield env.timeout(max(0.0, due_s - env.now))
            node.offer(priority)

    env.process(node.run())
    env.process(come())
    if since_s:
        env.run(until=since_s)
    for values in node.latencies.values():
        values.clear()
    env.run(until=seconds)
    every = np.array([value for values in node.latencies.values() for value in values])
    quantiles = np.quantile(every, (0.5, 0.95, 0.99)) * 1e3
    essential = np.quantile(node.latencies[0] or [np.nan], 0.99) * 1e3
    return {
        "served_fps": len(every) / (seconds - since_s),
        "p50_ms": float(quantiles[0]),
        "p95_ms": float(quantiles[1]),
        "p99_ms": float(quantiles[2]),
        "essential_p99_ms": float(essential),
        "frames_per_batch": float(np.mean(node.batches)),
        "use": node.busy_s / seconds,
    }
