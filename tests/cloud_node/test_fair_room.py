"""Who gets what when more comes than the queue holds: on a clock of its own, and from a node whose engine is slow."""

import asyncio
import heapq
import random
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import pytest
from devices import PlainEngine, make_job
from examples import examples
from hand_edges import Front, HandEdge, good, hand_edges, rules, serving, ticket
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from local_device import LocalDevice

from cloud_node import admission as module
from cloud_node import load as loads
from cloud_node.admission import Admission, Refusal
from cloud_node.jobs import Job
from cloud_node.load import Load
from cloud_node.scheduler import Scheduler
from cloud_node.settings import CloudSettings, Limits, Window
from cloud_node.streams import Streams
from cloud_node.worker import Worker
from common.frame import FrameId, Priority, Result
from common.pixels import RawImage

UNIT = 1_000  # pixels, which keep the device busy for
UNIT_NS = 100_000_000
JOB = make_job(0)
SIZE = len(JOB.frame.image.payload)


@dataclass(frozen=True)
class Sender:
    """An edge that always has a frame to send."""

    units: int = 1  # of pixels, of its frames
    window: int = 4  # frames that it may have out, if the node does not tell it less
    offers: float = 3.0  # times its share of what the device can do
    phase: float = 0.0  # of its first frame, in periods
    share: float = 1.0  # by the policy
    heeds: bool = True  # it waits for as long as it is told, with all its frames
    priority: Priority = Priority.STANDARD


class Overload:
    """A device that takes one frame at a time, and edges that offer more than it can do.

    A frame that finds no credit, or waits to be sent again, is replaced by the next.
    """

    def __init__(self, senders: list[Sender], limits: Limits) -> None:
        self.senders = {f"e{number}": sender for number, sender in enumerate(senders)}
        settings = CloudSettings(limits=limits, window=Window(window_frames=max(each.window for each in senders)))
        self.scheduler: Scheduler[Job] = Scheduler(1, 1, settings.batch.max_wait_ms * 10**6)
        load = Load()
        load.on_batch(UNIT, UNIT_NS, 1)
        self.admission = Admission(
            settings,
            rules(**{edge: {"share": sender.share} for edge, sender in self.senders.items()}),
            self.scheduler,
            load,
            Streams(Window(), len(senders)),
            ticket=ticket,
            devices=lambda: 1,
            wake=lambda: None,
        )
        self.admission.give_back = self._given_back  # type: ignore[method-assign]
        self.got: Counter[str] = Counter()  # units
        self.sent, self.done, self.turned_away, self.out = (Counter[str]() for _ in range(4))
        self.idled = False  # the device had nothing to do, as all come at once
        self._ready: set[str] = set()  # edges that have a frame
        self._pause_ns = dict.fromkeys(self.senders, 0)
        self._now_ns, self._numbers, self._busy = 0, count(), False
        shares = sum(sender.share for sender in senders)
        self._every_ns = {
            edge: int(each.units * UNIT_NS * shares / each.share / each.offers) for edge, each in self.senders.items()
        }
        self._events = [
            (int(each.phase * self._every_ns[edge]), next(self._numbers), "due", edge)
            for edge, each in self.senders.items()
        ]
        heapq.heapify(self._events)

    def run(self, units: int) -> Counter[str]:
        """Until the device did so much more; returns what each edge got of it."""
        before, end = self.got.copy(), self.got.total() + units
        while self.got.total() < end:
            self._now_ns, _, what, edge = heapq.heappop(self._events)
            if what == "due":
                self._ready.add(edge)
                self._at(self._now_ns + self._every_ns[edge], "due", edge)
            elif what == "done":
                self._busy = False
                self.got[edge] += self.senders[edge].units
                self.done[edge] += 1
            self._send(edge)
            self._work()
            self.idled |= not self._busy
        return Counter({edge: self.got[edge] - before[edge] for edge in self.senders})

    def _at(self, when_ns: int, what: str, edge: str) -> None:
        heapq.heappush(self._events, (when_ns, next(self._numbers), what, edge))

    def _send(self, edge: str) -> None:
        sender = self.senders[edge]
        window = min(sender.window, self.admission.window(edge, sender.priority))
        if edge not in self._ready or self.out[edge] >= window or self._now_ns < self._pause_ns[edge]:
            return
        self._ready.remove(edge)
        frame = replace(JOB.frame, id=FrameId(edge, "s", self.sent[edge]), priority=sender.priority)
        job = Job(frame, JOB.encoding, JOB.timeline, arrived_ns=self._now_ns)
        self.sent[edge] += 1
        self.out[edge] += 1
        refusal = self.admission.admit(job, sender.units * UNIT, 1, self._now_ns)
        if refusal is not None:
            self._given_back(job, "", 0, refusal.retry_after_ms)

    def _work(self) -> None:
        if not self._busy and (batch := self.scheduler.select(self._now_ns).batch):
            [taken] = batch
            taken.job.release()
            self.out[taken.edge] -= 1
            self._busy = True
            self._at(self._now_ns + self.senders[taken.edge].units * UNIT_NS, "done", taken.edge)
            self._send(taken.edge)

    def _given_back(self, job: Job, detail: str, reason: int = 0, retry_after_ms: int | None = None) -> None:
        job.release()
        edge = job.frame.id.edge
        self.out[edge] -= 1
        self.turned_away[edge] += 1
        if self.senders[edge].heeds:
            self._pause_ns[edge] = self._now_ns + (retry_after_ms or 0) * 10**6
            self._at(self._pause_ns[edge], "again", edge)


senders = st.builds(
    Sender,
    units=st.integers(1, 3),
    window=st.sampled_from([1, 2, 4, 8]),
    offers=st.sampled_from([2.0, 3.0, 4.5]),
    phase=st.sampled_from([0.0, 1.0]) | st.floats(0, 1),
    heeds=st.booleans(),
)
limits = st.one_of(
    st.builds(Limits, max_queued=st.integers(3, 20)),
    st.builds(Limits, shed_after_ms=st.sampled_from([500, 1_000, 3_000])),
)


def bursts(edges: list[Sender]) -> bool:
    """Whether more come at one time than the shortest queue holds, and leave it short in between."""
    return sum(each.phase in (0, 1) for each in edges) > 3


TIES = [Sender(window=1, offers=2.0, heeds=False)] * 10  # all come in the same instants, in the same order


@settings(max_examples=examples(24), deadline=None)
@given(st.lists(senders, min_size=2, max_size=10), limits, st.integers())
@example(TIES, Limits(max_queued=3), 0)
@example([replace(each, phase=1.0) for each in TIES], Limits(max_queued=3), 0)
@example([replace(TIES[0], units=3), *TIES[1:]], Limits(max_queued=3), 0)
@example(TIES * 4, Limits(max_queued=3), 0)
def test_equal_edges_differ_by_less_than_a_twentieth(edges: list[Sender], limits: Limits, chance: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "random", random.Random(chance))
        node = Overload(edges, limits)
        node.run(20 * len(edges))
        got = node.run(320 * len(edges))
    if node.idled or bursts(edges):  # who finds the queue short is served whatever the others had
        assert min(got.values()) > got.total() / len(edges) / 2, got
    else:
        assert max(got.values()) < 1.05 * min(got.values()), got
    left = Counter(each.edge for each in node.scheduler.withdraw(lambda each: True))
    on_device = Counter(node.sent) - node.done - node.turned_away - left
    assert on_device.total() <= 1, "no frame is lost"


@settings(max_examples=examples(24), deadline=None)
@given(
    st.lists(
        st.builds(replace, senders, share=st.sampled_from([0.5, 1.0, 2.0, 3.0])),
        min_size=2,
        max_size=8,
    ),
    limits,
)
def test_shares_follow_the_policy(edges: list[Sender], limits: Limits) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "random", random.Random(1))
        node = Overload(edges, limits)
        node.run(20 * len(edges))
        got = node.run(200 * len(edges))
    assume(not node.idled and not bursts(edges))  # as above
    by_share = [got[edge] / sender.share for edge, sender in node.senders.items()]
    assert max(by_share) - min(by_share) <= 5 * max(each.units / each.share for each in edges), "whatever the time"


async def test_a_node_that_is_full_serves_every_edge_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edges that heed what they are told, and such that insist; the engine waits until each of them wants more."""
    monkeypatch.setattr(loads, "RETRY_MS", (4, 30_000))
    settings = CloudSettings(limits=Limits(max_queued=3), window=Window(window_frames=2))
    names = [f"edge-{number}" for number in range(6)]
    turned_away: set[str] = set()
    async with serving(settings) as (front, address), hand_edges(address) as edge:
        admit = front.admission.admit

        def noting(job: Job, width: int, height: int, now_ns: int) -> Refusal | None:
            refusal = admit(job, width, height, now_ns)
            if refusal is not None:
                turned_away.add(job.frame.id.edge)
            return refusal

        def wanted(images: Sequence[RawImage]) -> None:
            while not {*names} <= turned_away | {each.edge for each in list(front.scheduler._waiting)}:
                time.sleep(0.001)
            turned_away.clear()

        front.admission.admit = noting  # type: ignore[method-assign]
        worker = Worker(
            partial(LocalDevice, lambda: PlainEngine(wanted), ThreadPoolExecutor(1)),
            front.scheduler,
            partial(settle, front),
            stuck_after_s=0,
        )
        front.work = worker.wake  # type: ignore[method-assign]
        tasks = [asyncio.create_task(worker.run())]
        tasks += [asyncio.create_task(insist(edge(), name, heeds=number % 2 == 0)) for number, name in enumerate(names)]
        async with asyncio.timeout(120):
            while len(front.results) < 60 * len(names):
                await asyncio.sleep(0.01)
                assert not any(task.done() for task in tasks), tasks
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        turned_away.update(names)
        await worker.close()
    got = Counter(result.id.edge for result in front.results[10 * len(names) :])
    assert max(got.values()) - min(got[name] for name in names) <= 6, got
    assert front.admission.sacrificed


def settle(front: Front, job: Job, result: Result) -> None:
    front.results.append(result)
    front.streams.settled(result.id.edge, result.id.session, result.id.sequence)


async def insist(edge: HandEdge, name: str, heeds: bool) -> None:
    """Send whenever there is credit."""
    credits = (await edge.open(name, "s")).window_frames
    for sequence in count():
        while not credits:
            message = await edge.expect("credit", "rejected")
            if message.HasField("rejected"):
                await asyncio.sleep(message.rejected.retry_after_ms / 1_000 if heeds else 0.001)
            else:
                credits += message.credit.frames
        await edge.frame(good(sequence))
        credits -= 1
