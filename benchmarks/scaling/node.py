"""One cloud node, simulated frame by frame: a queue by priority, and a device that takes batches.

What is known of the node: how long a batch of n frames takes on the device, and how long a frame spends beside that
(travel, checks, encoding, publishing). Everything else, waiting above all, comes of the simulation.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import simpy


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
        for priority, queue in self.waiting.items():
            while queue and len(batch) < self.device.most:
                batch.append((priority, queue.popleft()))
        return batch


def simulate(
    device: Device, beside_s: float, fps: float, seconds: float, mix: Sequence[float] = (0.1, 0.6, 0.3), seed: int = 0
) -> dict[str, float]:
    """One node under Poisson arrivals: frames/s served, batch size, latency quantiles in ms."""
    env, rng = simpy.Environment(), np.random.default_rng(seed)
    node = Node(env, device, beside_s)

    def arrivals() -> Iterator[simpy.Event]:
        while True:
            yield env.timeout(rng.exponential(1 / fps))
            node.offer(int(rng.choice(3, p=mix)))

    env.process(node.run())
    env.process(arrivals())
    env.run(until=seconds)
    every = np.array([value for values in node.latencies.values() for value in values])
    quantiles = np.quantile(every, (0.5, 0.95, 0.99)) * 1e3
    essential = np.quantile(node.latencies[0] or [np.nan], 0.99) * 1e3
    return {
        "served_fps": len(every) / seconds,
        "p50_ms": float(quantiles[0]),
        "p95_ms": float(quantiles[1]),
        "p99_ms": float(quantiles[2]),
        "essential_p99_ms": float(essential),
        "frames_per_batch": float(np.mean(node.batches)),
        "use": node.busy_s / seconds,
    }
