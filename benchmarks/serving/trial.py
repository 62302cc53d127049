"""One open-loop run: frames come at fixed rates, whatever the system does; latency counts from when they were due."""

import asyncio
import heapq
import statistics
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from edges import Edge, Sample

from common.frame import Priority

SERVED = 0.98  # of what is offered, for a rate to count as sustained
GROWTH = 0.02  # of what is offered in half a run, by which the backlog may grow
LOOSE = 4  # frames of backlog that prove nothing
TOO_FAR_BEHIND_S = 3.0  # of the offered load, unanswered: the run ends early
DRAIN_S = 20.0
STANDSTILL_S = 4.0


@dataclass(frozen=True, slots=True)
class Load:
    """What one edge sends."""

    edge: str
    fps: float
    priority: int = int(Priority.STANDARD)


@dataclass(frozen=True, slots=True)
class Row:
    """Figures of some edges' frames that were due in the measured time; a lost one took until waiting for it ended."""

    due: int
    served: int  # results read in the measured time, whenever their frames were due
    lost: int  # due, and not read to the end
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Trial:
    """Figures of a run; times in milliseconds."""

    offered_fps: float
    served_fps: float
    sustained: bool
    early: bool  # ended before its time: it was hopeless
    backlog_middle: int
    backlog_end: int
    rejected: int
    failed: int
    all: Row
    edges: dict[str, Row]
    stages_ms: dict[str, float] = field(default_factory=dict)  # medians
    beside_network_ms: float = 0.0  # median of the time in the node without engine/enhance
    batch_size: float = 0.0  # mean

    def as_json(self) -> dict[str, object]:
        return asdict(self)


async def run(
    edges: Mapping[str, Edge], loads: Sequence[Load], warm_up_s: float, seconds: float, hopeless_ends: bool
) -> Trial:
    """Offer the loads for `warm_up_s` + `seconds`; the second part counts. Waits for what is out at the end.

    With `hopeless_ends` a run ends early once the system is far behind.
    """
    used = [edges[load.edge] for load in loads]
    for edge, load in zip(used, loads, strict=True):
        edge.forget()
        edge.priority = Priority(load.priority)
    offered = sum(load.fps for load in loads)
    start = time.perf_counter() + 0.05
    begin, end = start + warm_up_s, start + warm_up_s + seconds
    middle, early, backlog_middle = (begin + end) / 2, False, 0
    due = [(start + number / len(loads) / load.fps, number) for number, load in enumerate(loads)]
    heapq.heapify(due)
    while due[0][0] < end:
        now = time.perf_counter()
        while due[0][0] <= min(now, end):
            at, number = due[0]
            used[number].offer(at)
            heapq.heapreplace(due, (at + 1 / loads[number].fps, number))
        if now < middle:
            backlog_middle = _backlog(used)
        elif hopeless_ends and _backlog(used) > max(50.0, TOO_FAR_BEHIND_S * offered):
            early, end = True, now
            break
        await asyncio.sleep(max(0.0, due[0][0] - time.perf_counter()))
    await asyncio.sleep(max(0.0, end - time.perf_counter()))
    backlog_end = _backlog(used)
    served = sum(begin <= sample.read_s <= end for edge in used for sample in edge.samples.values())
    await _drain(used)
    waited_until = time.perf_counter()
    rows = {edge.name: _row(edge.samples.values(), begin, end, waited_until) for edge in used}
    samples = [sample for edge in used for sample in edge.samples.values()]
    growth = backlog_end - backlog_middle
    enough = served > 0 and served >= SERVED * offered * (end - begin) - 1
    failed = sum(edge.failed for edge in used)
    return Trial(
        offered_fps=offered,
        served_fps=served / (end - begin),
        sustained=enough and not early and not failed and growth <= max(LOOSE, GROWTH * offered * seconds / 2),
        early=early,
        backlog_middle=backlog_middle,
        backlog_end=backlog_end,
        rejected=sum(edge.rejected for edge in used),
        failed=failed,
        all=_row(samples, begin, end, waited_until),
        edges=rows,
        **_stages([sample for sample in samples if sample.read_s and begin <= sample.due_s <= end]),
    )


def _backlog(edges: Sequence[Edge]) -> int:
    return sum(len(edge.outstanding) for edge in edges)


async def _drain(edges: Sequence[Edge]) -> None:
    """Wait for what is out, but not for ever."""
    until = time.perf_counter() + DRAIN_S
    before, changed = _backlog(edges), time.perf_counter()
    while (left := _backlog(edges)) and (now := time.perf_counter()) < until:
        if left != before:
            before, changed = left, now
        if now - changed > STANDSTILL_S:
            return
        await asyncio.sleep(0.05)


def _row(samples: Collection[Sample], begin: float, end: float, waited_until: float) -> Row:
    due = [sample for sample in samples if begin <= sample.due_s < end]
    took = sorted(((sample.read_s or waited_until) - sample.due_s) * 1e3 for sample in due)
    return Row(
        due=len(due),
        served=sum(begin <= sample.read_s <= end for sample in samples),
        lost=sum(not sample.read_s for sample in due),
        p50_ms=percentile(took, 0.50),
        p99_ms=percentile(took, 0.99),
        max_ms=took[-1] if took else 0.0,
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """Of an ordered list, the nearest rank above; 0 of an empty one."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _stages(samples: Sequence[Sample]) -> dict[str, Any]:
    if not samples:
        return {}
    names = {name: None for sample in samples for name in sample.stages_ns}
    beside = [
        sum(ns for name, ns in sample.stages_ns.items() if "/" not in name) - sample.stages_ns.get("engine/enhance", 0)
        for sample in samples
    ]
    return {
        "stages_ms": {name: statistics.median(s.stages_ns.get(name, 0) for s in samples) / 1e6 for name in names},
        "beside_network_ms": statistics.median(beside) / 1e6,
        "batch_size": statistics.fmean(sample.batch_size for sample in samples),
    }
