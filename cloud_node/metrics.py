"""What a cloud node counts, and where the rest of its metrics is read (the table: common/metrics.py)."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from cloud_node.admission import Admission
from cloud_node.publisher import Publisher
from cloud_node.scheduler import Scheduler
from cloud_node.streams import Streams
from cloud_node.supervisor import Supervisor
from common import usage
from common.frame import Outcome, Priority, Result
from common.metrics import Observe, Points, Sources, discard
from lamplight.v1 import enhancement_pb2 as pb

REASONS: Final = {
    value.number: value.name.removeprefix("REJECT_REASON_").lower() for value in pb.RejectReason.DESCRIPTOR.values
}
RECENT: Final = 4_096  # frames of the last second, for the page; of more, these are enough


@dataclass(slots=True)
class Activity:
    """What happened, counted as it happens. `observe` feeds the histograms."""

    observe: Observe = discard
    settled: Counter[tuple[Outcome, Priority]] = field(default_factory=Counter)
    busy_ns: Counter[str] = field(default_factory=Counter)  # by device
    pixels: Counter[str] = field(default_factory=Counter)  # the same
    batches: int = 0
    batched_frames: int = 0
    recent_ms: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))  # enhanced frames, time in the node

    def on_batch(self, device: str, pixels: int, device_ns: int, frames: int) -> None:
        """A batch came back from a device."""
        self.busy_ns[device] += device_ns
        self.pixels[device] += pixels
        self.batches += 1
        self.batched_frames += frames
        self.observe("lamplight.cloud.batch.frames", frames, device)
        self.observe("lamplight.cloud.batch.duration", device_ns / 1e9, device)

    def on_settled(self, result: Result) -> None:
        """A frame has its result."""
        self.settled[result.outcome, result.priority] += 1

    def on_delivered(self, result: Result, publisher_ns: int = 0) -> None:
        """NATS, or the caller, has the result."""
        if result.outcome is Outcome.ENHANCED:
            spent_ns = publisher_ns + sum(ns for stage, ns in result.stages_ns.items() if "/" not in stage)
            self.recent_ms.append(spent_ns / 1e6)
            self.observe("lamplight.cloud.frame.duration", spent_ns / 1e9, word(result.priority))


def word(priority: Priority) -> str:
    """A priority as a label."""
    return priority.name.lower()


def by_priority(value: Callable[[Priority], float]) -> Points:
    return [(value(priority), word(priority)) for priority in Priority]


def sources(
    activity: Activity,
    scheduler: "Scheduler[Any]",
    supervisor: Supervisor,
    admission: Admission,
    streams: Streams,
    publisher: Publisher,
    *,
    ready: Callable[[], bool],
    connected: Callable[[], bool],
) -> Sources:
    """Where each counter and gauge of the node is read. Safe from another thread: nothing is walked while it changes.

    Args:
        ready: whether it takes frames.
        connected: whether NATS is there.
    """
    workers, traffic, name = supervisor.workers, streams.traffic, "lamplight.cloud.".__add__

    def oldest_s(priority: Priority) -> float:
        frames, arrived_ns = scheduler.waiting(priority)
        return (time.monotonic_ns() - arrived_ns) / 1e9 if frames else 0.0

    read: Mapping[str, Callable[[], Points]] = {
        "frames.received": lambda: [(traffic.frames,)],
        "frames.settled": lambda: [
            (activity.settled[outcome, priority], outcome.name.lower(), word(priority))
            for outcome in (Outcome.ENHANCED, Outcome.EXPIRED, Outcome.FAILED)
            for priority in Priority
        ],
        "frames.rejected": lambda: [(traffic.rejected[number], reason) for number, reason in REASONS.items() if number],
        "frames.shed": lambda: [(admission.sacrificed,)],
        "received": lambda: [(traffic.bytes,)],
        "published": lambda: [(publisher.published_bytes,)],
        "queue.frames": lambda: by_priority(lambda priority: scheduler.waiting(priority)[0]),
        "working.frames": lambda: [(supervisor.pending,)],
        "queue.oldest": lambda: by_priority(oldest_s),
        "queue.wait": lambda: by_priority(lambda priority: admission.wait_ms(priority) / 1e3),
        "queue": lambda: [(admission.queued_bytes,)],
        "spool": lambda: [(publisher.pending_bytes,)],
        "spool.oldest": lambda: [(publisher.oldest_s(),)],
        "spool.results": lambda: by_priority(publisher.waiting),
        "results.published": lambda: [(publisher.published,)],
        "results.dropped": partial(_dropped, publisher),
        "device.busy": lambda: [(activity.busy_ns[worker.name] / 1e9, worker.name) for worker in workers],
        "device.pixels": lambda: [(activity.pixels[worker.name], worker.name) for worker in workers],
        "device.faults": lambda: [
            (worker.counts[fault], worker.name, fault)
            for worker in workers
            for fault in ("lost", "out of memory", "not numbers")
        ],
        "device.cpu": lambda: [(worker.cpu_s, worker.name) for worker in workers if worker.cpu_s],
        "device.resident": lambda: _resident(supervisor),
        "device.healthy": lambda: [(int(worker.healthy), worker.name) for worker in workers],
        "ready": lambda: [(int(ready()),)],
        "nats.connected": lambda: [(int(connected()),)],
        "model.info": lambda: [(1, preset, model) for preset, model in list(supervisor.models.items())],
        "edges": lambda: [(len(streams.live),)],
        "streams.opened": lambda: [(traffic.opened,)],
    }
    return {name(key): source for key, source in read.items()}


def _resident(supervisor: Supervisor) -> Points:
    used = [(usage.of_process(worker.pid), worker.name) for worker in supervisor.workers if worker.pid]
    return [(told[1], name) for told, name in used if told is not None]


def _dropped(publisher: Publisher) -> Points:
    return [(publisher.dropped[reason], reason) for reason in ("spool full", "refused", "error")]
