"""An hour of three times the load that the engine can do, on a clock of its own."""

import heapq
import random
from collections import Counter
from dataclasses import replace

import pytest
from devices import HEIGHT, WIDTH, make_job

from cloud_node import admission as module
from cloud_node import jobs
from cloud_node.admission import Admission
from cloud_node.jobs import Job
from cloud_node.load import Load
from cloud_node.policy import Policy
from cloud_node.scheduler import Scheduler
from cloud_node.settings import CloudSettings, Window
from cloud_node.streams import Streams
from common.frame import FrameId, Priority

HOUR_NS = 3_600 * 10**9
FRAME_NS = 500_000_000  # on the engine


class Hour:
    """Edges that keep to their windows: what is due meanwhile replaces what waits at the edge. One is essential."""

    def __init__(self, edges: int) -> None:
        self.settings, load = CloudSettings(), Load()
        self.scheduler: Scheduler[Job] = Scheduler(1, 1, self.settings.batch.max_wait_ms * 10**6)
        self.admission = Admission(
            self.settings,
            Policy(),
            self.scheduler,
            load,
            Streams(Window(), edges),
            ticket=jobs.ticket,
            devices=lambda: 1,
            wake=lambda: None,
        )
        self.admission.give_back = self._sacrificed  # type: ignore[method-assign]
        load.on_batch(WIDTH * HEIGHT, FRAME_NS, 1)
        self.priorities = {f"e{n}": Priority.SECONDARY if n else Priority.ESSENTIAL for n in range(edges)}
        self.every_ns = edges * FRAME_NS // 3
        self.sent, self.done, self.turned_away, self.out = (Counter[str]() for _ in range(4))
        self.waits_ns: dict[str, list[int]] = {edge: [] for edge in self.priorities}
        self.pauses = dict.fromkeys(self.priorities, 0)  # until when an edge was told to wait
        self.most, self._now_ns, self._free_ns, self._template = 0, 0, 0, make_job(0)

    def run(self) -> None:
        start = random.Random(4)  # no two edges keep step for an hour
        due = [(start.randrange(self.every_ns), edge) for edge in self.priorities]
        heapq.heapify(due)
        while due[0][0] < HOUR_NS:
            self._now_ns, edge = due[0]
            heapq.heapreplace(due, (self._now_ns + int(self.every_ns * start.uniform(0.8, 1.2)), edge))
            self._work()
            window = self.admission.window(edge, self.priorities[edge])
            if self.out[edge] < window and self._now_ns >= self.pauses[edge]:
                self._send(edge)

    def _work(self) -> None:
        while self._free_ns <= self._now_ns and (batch := self.scheduler.select(self._free_ns).batch):
            [ticket] = batch
            ticket.job.release()
            self.out[ticket.edge] -= 1
            self.done[ticket.edge] += 1
            self.waits_ns[ticket.edge].append(self._free_ns - ticket.arrived_ns)
            self._free_ns += FRAME_NS
        self._free_ns = max(self._free_ns, self._now_ns)

    def _send(self, edge: str) -> None:
        id = FrameId(edge, "s", self.sent[edge])
        frame = replace(self._template.frame, id=id, priority=self.priorities[edge])
        job = Job(frame, self._template.encoding, self._template.timeline, arrived_ns=self._now_ns)
        self.sent[edge] += 1
        self.out[edge] += 1
        refusal = self.admission.admit(job, WIDTH, HEIGHT, self._now_ns)
        if refusal is not None:
            self._sacrificed(job, "", 0, refusal.retry_after_ms)
        self.most = max(self.most, len(self.scheduler))

    def _sacrificed(self, job: Job, detail: str, reason: int = 0, retry_after_ms: int | None = None) -> None:
        job.release()
        edge = job.frame.id.edge
        self.out[edge] -= 1
        self.turned_away[edge] += 1
        self.pauses[edge] = self._now_ns + (retry_after_ms or 0) * 10**6


@pytest.mark.parametrize(("edges", "even"), [(6, 1.05), (40, 1.05)], ids=["windows suffice", "frames are refused, too"])
def test_an_hour_of_too_much_is_served_evenly_from_a_bounded_queue(
    edges: int, even: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "random", random.Random(7))
    hour = Hour(edges)
    hour.run()
    left = Counter(ticket.edge for ticket in hour.scheduler.withdraw(lambda ticket: True))
    assert hour.sent == hour.done + hour.turned_away + left
    assert sum(hour.done.values()) >= 0.99 * HOUR_NS / FRAME_NS, "the engine never waits"
    assert hour.most <= hour.settings.limits.shed_after_ms * 10**6 // FRAME_NS + 1
    assert bool(hour.turned_away) is (edges > 6)
    assert hour.sent["e0"] - hour.done["e0"] <= 1, "all that was essential"
    aged_ns = hour.settings.batch.max_wait_ms * 10**6  # those that waited so long go before it
    assert max(hour.waits_ns["e0"]) <= aged_ns + 2 * FRAME_NS
    others = [hour.done[edge] for edge in list(hour.priorities)[1:]]
    assert max(others) / min(others) < even, others
