"""What a load run found, as numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from common.frame import Priority
from common.nats_connection import masked
from edge_node.load.figures import Fairness, Quantiles, percentiles
from edge_node.load.records import ENDINGS, Ending, Measured, Rows
from edge_node.load.settings import LoadSettings
from edge_node.sinks.json_lines import in_order

SCHEMA = 1
LATE_MS = 10.0  # a generator later than this at p99 has not offered what it says

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Share:
    """The frames of one priority, or of all.

    Counts are of frames due in the counted time, and latencies of those of them that were enhanced. Rates are of what
    came or left in the counted time, whenever it was due, so that a backlog that drains afterwards adds nothing.
    """

    offered: int
    endings: dict[Ending, int]
    latency_ms: Quantiles
    offered_per_s: float
    served_per_s: float
    up_mb_per_s: float  # payloads
    down_mb_per_s: float  # results


@dataclass(frozen=True, slots=True)
class Second:
    """What was due in one second of the run; latencies of what was enhanced, NaN for none."""

    start_s: float
    offered: int
    enhanced: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class LoadReport:
    """A load run. Seconds count from its start; all but `total`, `over_time` and `models` leave out the warm-up."""

    settings: LoadSettings
    started: datetime
    seconds: float  # that count
    ended_early: bool
    total_offered: int
    total: dict[Ending, int]
    sums_hold: bool  # every frame ended exactly once
    all: Share
    priorities: dict[Priority, Share]
    fairness: Fairness
    served_by_edge: list[int]
    late_ms: Quantiles  # how much later than intended the generator came to each frame
    stages_ms: dict[str, Quantiles]
    reasons: dict[tuple[Ending, str], int]
    models: dict[str, int]
    frames_per_batch: float
    connected_at_end: int
    reopened: int
    late_results: int
    over_time: dict[Priority, list[Second]]
    rows: Rows = field(repr=False, compare=False)  # every frame, see records.ROW

    @property
    def generator_late(self) -> bool:
        """It did not keep its own times: the node saw another load than asked for, and latencies include it."""
        return self.late_ms.p99 > LATE_MS

    @property
    def unserved_percent(self) -> float:
        """Frames without an enhanced image, and so without a latency."""
        offered = self.all.offered
        return 100 * (offered - self.all.endings[Ending.ENHANCED]) / offered if offered else 0.0

    @classmethod
    def of(cls, settings: LoadSettings, measured: Measured, started_unix_s: float) -> "LoadReport":
        rows, warm_up_s = measured.rows, settings.warm_up_s
        end_s = max(measured.ended_s, warm_up_s)
        counted = rows[rows["due_s"] >= warm_up_s]
        served = rows[(rows["ending"] == Ending.ENHANCED) & _within(rows, "latency_ms", warm_up_s, end_s)]
        by_edge = np.bincount(served["edge"], minlength=settings.edges)
        stages = {name: Quantiles.of(np.asarray(values)) for name, values in measured.stages_ms.items()}
        batches = counted["batch"][counted["batch"] > 0]
        by_priority = {priority: rows[rows["priority"] == priority] for priority in Priority}
        return cls(
            settings=settings,
            started=datetime.fromtimestamp(started_unix_s, UTC),
            seconds=end_s - warm_up_s,
            ended_early=measured.ended_s < settings.end_s,
            total_offered=int(measured.offered.sum()),
            total={ending: int(measured.endings[:, ending].sum()) for ending in ENDINGS},
            sums_hold=_sums_hold(measured),
            all=_share(rows, warm_up_s, end_s),
            priorities={priority: _share(mine, warm_up_s, end_s) for priority, mine in by_priority.items()},
            fairness=Fairness.of(by_edge),
            served_by_edge=by_edge.tolist(),
            late_ms=Quantiles.of(counted["late_ms"]),
            stages_ms={name: stages[name] for name in in_order(stages)},
            reasons=dict(measured.reasons.most_common()),
            models=dict(measured.models.most_common()),
            frames_per_batch=float(1 / np.mean(1 / batches)) if batches.size else math.nan,
            connected_at_end=measured.connected_at_end,
            reopened=measured.reopened,
            late_results=measured.late_results,
            over_time={priority: _over_time(mine, measured.ended_s) for priority, mine in by_priority.items()},
            rows=rows,
        )

    def to_json(self) -> dict[str, Any]:
        """What load.json holds; docs/load.md has the schema."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "rows"}
        settings = self.settings
        fields["settings"] = replace(settings, source=masked(settings.source), nats=masked(settings.nats))
        fields["started"] = self.started.isoformat(timespec="seconds")
        fields["generator_late"] = self.generator_late
        fields["reasons"] = [
            {"ending": ending, "reason": reason, "frames": count} for (ending, reason), count in self.reasons.items()
        ]
        plain: dict[str, Any] = _plain({"schema": SCHEMA, **fields})
        return plain


def _within(rows: Rows, name: str, start_s: float, end_s: float) -> Mask:
    """Rows whose moment, `name` ms after they were due, lies in the counted time; NaN does not."""
    moment_s = rows["due_s"] + rows[name] / 1000
    inside: Mask = (moment_s >= start_s) & (moment_s < end_s)
    return inside


def _share(rows: Rows, start_s: float, end_s: float) -> Share:
    counted = rows[rows["due_s"] >= start_s]
    enhanced = counted[counted["ending"] == Ending.ENHANCED]
    came = rows[_within(rows, "latency_ms", start_s, end_s) & (rows["bytes_down"] > 0)]
    left = rows[_within(rows, "sent_ms", start_s, end_s)]
    seconds = end_s - start_s

    def per_s(amount: float) -> float:
        return float(amount) / seconds if seconds > 0 else 0.0

    return Share(
        offered=counted.size,
        endings={ending: int((counted["ending"] == ending).sum()) for ending in ENDINGS},
        latency_ms=Quantiles.of(enhanced["latency_ms"]),
        offered_per_s=per_s(counted.size),
        served_per_s=per_s((came["ending"] == Ending.ENHANCED).sum()),
        up_mb_per_s=per_s(left["bytes_up"].sum() / 1e6),
        down_mb_per_s=per_s(came["bytes_down"].sum() / 1e6),
    )


def _over_time(rows: Rows, end_s: float) -> list[Second]:
    order = np.argsort(rows["due_s"], kind="stable")
    rows = rows[order]
    starts = np.arange(math.ceil(end_s))
    cuts = np.searchsorted(rows["due_s"], [*starts, np.inf])
    seconds = []
    for start, first, last in zip(starts, cuts, cuts[1:], strict=False):
        due = rows[first:last]
        latencies = due["latency_ms"][due["ending"] == Ending.ENHANCED]
        seconds.append(Second(float(start), due.size, latencies.size, *percentiles(latencies, (50, 99))))
    return seconds


def _sums_hold(measured: Measured) -> bool:
    """Whether every frame that was counted in has exactly one row, and ended exactly once."""
    rows = np.bincount(measured.rows["ending"], minlength=len(Ending))
    return bool(
        rows[Ending.OPEN] == 0
        and np.array_equal(measured.endings.sum(axis=0), rows)
        and np.array_equal(measured.endings.sum(axis=1), measured.offered)
    )


def _plain(value: Any) -> Any:
    """For JSON: names in lower case, numbers that are not finite as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    match value:
        case Enum():
            return value.name.lower()
        case Mapping():
            return {str(_plain(key)): _plain(item) for key, item in value.items()}
        case float():
            return round(value, 4) if math.isfinite(value) else None
        case str() | int() | None:
            return value
        case Sequence():
            return [_plain(item) for item in value]
    return str(value)
