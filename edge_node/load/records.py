"""What became of every frame: a row each, and running counts for the display."""

from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from common.frame import Outcome, Priority, Result
from edge_node.load.figures import BINS, Counts, bin_of
from edge_node.load.schedule import Arrival

ROW = np.dtype(
    [
        ("due_s", "f8"),  # when it was meant to be sent, from the start
        ("edge", "u4"),
        ("priority", "u1"),
        ("ending", "u1"),
        ("late_ms", "f4"),  # how much later the generator came to it
        ("sent_ms", "f4"),  # from due until its last byte went to gRPC; NaN = never
        ("latency_ms", "f4"),  # from due until it ended; NaN = dropped or lost
        ("bytes_up", "u4"),  # of all attempts
        ("bytes_down", "u4"),
        ("attempts", "u2"),
        ("batch", "u2"),  # frames that shared the device with it
    ]
)
Rows = npt.NDArray[Any]  # (frames,) of ROW

REASONS = 100  # different ones that are told apart
OTHER_REASONS = "other reasons"


class Ending(IntEnum):
    """What became of a frame: exactly one of these."""

    OPEN = 0  # not ended yet
    ENHANCED = 1
    REJECTED = 2  # the cloud node turned it away
    EXPIRED = 3  # its deadline passed, here or there
    FAILED = 4  # it came back broken, or without an image
    DROPPED = 5  # it never left: the edge's backlog was full, or the run was over
    LOST = 6  # it was sent, and no answer came


ENDINGS = tuple(ending for ending in Ending if ending is not Ending.OPEN)
OUTCOMES = {
    Outcome.ENHANCED: Ending.ENHANCED,
    Outcome.EXPIRED: Ending.EXPIRED,
    Outcome.FAILED: Ending.FAILED,
}


@dataclass(slots=True)
class Progress:
    """How it goes, of one process or of several together. The first axis of each array is the priority."""

    elapsed_s: float = 0.0
    edges: int = 0
    connected: int = 0
    queued: int = 0  # in the edges, for the window
    on_the_way: int = 0
    late_ms: float = 0.0  # the most that the generator was late since the last progress
    offered: Counts = field(default_factory=lambda: np.zeros(len(Priority) + 1, np.int64))
    endings: Counts = field(default_factory=lambda: np.zeros((len(Priority) + 1, len(Ending)), np.int64))
    latencies: Counts = field(default_factory=lambda: np.zeros((len(Priority) + 1, BINS), np.int64))

    def __add__(self, other: "Progress") -> "Progress":
        return Progress(
            max(self.elapsed_s, other.elapsed_s),
            self.edges + other.edges,
            self.connected + other.connected,
            self.queued + other.queued,
            self.on_the_way + other.on_the_way,
            max(self.late_ms, other.late_ms),
            self.offered + other.offered,
            self.endings + other.endings,
            self.latencies + other.latencies,
        )


@dataclass(slots=True)
class Measured:
    """What one process measured."""

    rows: Rows
    offered: Counts
    endings: Counts
    stages_ms: dict[str, "array[float]"]  # of enhanced frames that count
    reasons: Counter[tuple[Ending, str]]  # of frames that count
    models: Counter[str]
    ended_s: float = 0.0  # when the last frame could come
    connected_at_end: int = 0
    reopened: int = 0  # streams that broke and were opened again
    late_results: int = 0  # of frames that had ended before

    def __add__(self, other: "Measured") -> "Measured":
        stages = {name: array("f", values) for name, values in self.stages_ms.items()}
        for name, values in other.stages_ms.items():
            stages.setdefault(name, array("f")).extend(values)
        return Measured(
            np.concatenate([self.rows, other.rows]),
            self.offered + other.offered,
            self.endings + other.endings,
            stages,
            self.reasons + other.reasons,
            self.models + other.models,
            max(self.ended_s, other.ended_s),
            self.connected_at_end + other.connected_at_end,
            self.reopened + other.reopened,
            self.late_results + other.late_results,
        )


class Recorder:
    """Keeps the rows of one process.

    Args:
        counts_from_s: frames that are due before it are kept, but not counted in stages and reasons.
    """

    def __init__(self, counts_from_s: float) -> None:
        self.progress = Progress()
        self.late_results = 0
        self._counts_from_s = counts_from_s
        self._rows: Rows = np.zeros(4096, ROW)
        self._used = 0
        self._stages_ms: defaultdict[str, array[float]] = defaultdict(lambda: array("f"))
        self._reasons: Counter[tuple[Ending, str]] = Counter()
        self._models: Counter[str] = Counter()

    def add(self, edge: int, arrival: Arrival, late_ms: float) -> int:
        """A frame that came; returns its row."""
        row = self._used
        if row == self._rows.size:
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
        self._rows[row] = (
            arrival.due_s, edge, arrival.priority, Ending.OPEN, late_ms, np.nan, np.nan, 0, 0, 0, 0,
        )  # fmt: skip
        self._used += 1
        self.progress.offered[arrival.priority] += 1
        self.progress.late_ms = max(self.progress.late_ms, late_ms)
        return row

    def sent(self, row: int, sent_ms: float, size: int) -> None:
        """An attempt of it went out whole."""
        found = self._rows[row]
        found["sent_ms"] = sent_ms
        found["bytes_up"] += size
        found["attempts"] += 1

    def end(self, row: int, ending: Ending, latency_ms: float = np.nan, reason: str = "") -> None:
        """It ended, here or by a word of the cloud node."""
        found = self._rows[row]
        found["ending"], found["latency_ms"] = ending, latency_ms
        priority = found["priority"]
        self.progress.endings[priority, ending] += 1
        if ending is Ending.ENHANCED:
            self.progress.latencies[priority, bin_of(latency_ms)] += 1
        if reason and found["due_s"] >= self._counts_from_s:
            known = (ending, reason) in self._reasons or len(self._reasons) < REASONS
            self._reasons[ending, reason if known else OTHER_REASONS] += 1

    def came(self, row: int, result: Result, latency_ms: float, size: int) -> None:
        """Its result is here."""
        self.end(row, OUTCOMES[result.outcome], latency_ms, result.reason)
        found = self._rows[row]
        found["bytes_down"], found["batch"] = size, result.batch_size
        if result.model:
            self._models[result.model] += 1
        if result.outcome is not Outcome.ENHANCED or found["due_s"] < self._counts_from_s:
            return
        sent_ms, inside_ms = float(found["sent_ms"]), 0.0
        for stage, ns in result.stages_ns.items():
            self._stages_ms[stage].append(ns / 1e6)
            inside_ms += ns / 1e6 if "/" not in stage else 0.0
        if sent_ms == sent_ms:  # a result may overtake the word that its frame went out whole
            self._stages_ms["uplink"].append(sent_ms)
            self._stages_ms["downlink"].append(max(0.0, latency_ms - sent_ms - inside_ms))

    def measured(self) -> Measured:
        """Everything so far."""
        return Measured(
            self._rows[: self._used].copy(),
            self.progress.offered.copy(),
            self.progress.endings.copy(),
            dict(self._stages_ms),
            self._reasons,
            self._models,
            late_results=self.late_results,
        )
