"""Simulated edges: each sends frames when they are due, whatever became of those before, and reads its results."""

import asyncio
import itertools
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import senders

from common.broker import Broker
from common.frame import Frame, FrameId, Outcome, Priority, Result
from common.packing import PackedImage
from edge_node.downlink import Downlink


@dataclass(slots=True)
class Sample:
    """One frame: when it was due, when its result was read (0 = not yet), and the time it spent in each stage."""

    due_s: float
    read_s: float = 0.0
    stages_ns: dict[str, int] = field(default_factory=dict)
    batch_size: int = 0


class Edge:
    """One edge with its own connections. Frames that are due wait here until the sender takes them."""

    def __init__(self, system: str, address: str, nats: str, name: str, images: Sequence[PackedImage]) -> None:
        self.name, self.priority = name, Priority.STANDARD
        self.samples: dict[int, Sample] = {}
        self.outstanding: set[int] = set()
        self.rejected = self.failed = 0
        self._nats, self._session = nats, f"s{time.time_ns()}"
        self._images, self._sequence = itertools.cycle(images), itertools.count(1)
        self._waiting: deque[Frame] = deque()
        self._more = asyncio.Event()
        self._sender = senders.create(system, address, name, self._session, self._turned_away)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, broker: Broker) -> None:
        consumers = await broker.ensure_consumers(self.name)
        self._downlink = Downlink(self._nats, consumers, edge=self.name, session=self._session)
        await self._sender.start()
        self._tasks = [asyncio.create_task(self._send()) for _ in range(self._sender.lanes)]
        self._tasks.append(asyncio.create_task(self._downlink.run(self._read)))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._downlink.close()
        await self._sender.close()

    def offer(self, due_s: float) -> None:
        """A frame is due."""
        sequence = next(self._sequence)
        self.samples[sequence] = Sample(due_s)
        self.outstanding.add(sequence)
        id = FrameId(self.name, self._session, sequence)
        self._waiting.append(Frame(id, next(self._images), time.time_ns(), self.priority))
        self._more.set()

    def forget(self) -> None:
        """Start anew: what is still out is not waited for."""
        self._waiting.clear()
        self.samples.clear()
        self.outstanding.clear()
        self.rejected = self.failed = 0

    async def _send(self) -> None:
        while True:
            if not self._waiting:
                self._more.clear()
                await self._more.wait()
                continue
            frame = self._waiting.popleft()
            try:
                await self._sender.send(frame)
            except Exception as error:
                if not self.failed:
                    reason = f"{type(error).__name__}: {error}"
                    print(f"{self.name}: a frame could not be sent: {reason}", file=sys.stderr, flush=True)
                self._settle(frame.id.sequence)
                self.failed += 1
                await asyncio.sleep(0.1)

    def _turned_away(self, sequence: int) -> None:
        self._settle(sequence)
        self.rejected += 1

    def _settle(self, sequence: int) -> None:
        self.outstanding.discard(sequence)

    async def _read(self, result: Result, size: int) -> None:
        sample = self.samples.get(result.id.sequence)
        if sample is None:  # of a run before
            return
        self._settle(result.id.sequence)
        if result.outcome is not Outcome.ENHANCED:
            self.failed += 1
            return
        sample.read_s = time.perf_counter()
        sample.stages_ns, sample.batch_size = dict(result.stages_ns), result.batch_size
