"""The arithmetic of a load report: percentiles of real values, and how even the shares are."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Counts = npt.NDArray[np.int64]

BINS_PER_OCTAVE = 16
LEAST_MS = 0.01
BINS = 30 * BINS_PER_OCTAVE  # up to about three hours


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Percentiles in ms; NaN where there is no value."""

    count: int
    p50: float
    p95: float
    p99: float
    p999: float
    max: float

    @classmethod
    def of(cls, values_ms: Floats) -> "Quantiles":
        return cls(values_ms.size, *percentiles(values_ms, (50, 95, 99, 99.9, 100)))


def percentiles(values: Floats, ranks: tuple[float, ...]) -> list[float]:
    """Nearest-rank percentiles: each is a value that was measured, the least that `rank` % do not exceed.

    A percentile of fewer values than it needs (99.9 of 50) is the largest of them. NaN for no values.
    """
    if not values.size:
        return [math.nan] * len(ranks)
    return [float(value) for value in np.percentile(values, ranks, method="inverted_cdf")]


def bin_of(latency_ms: float) -> int:
    """The bin of a histogram whose bins grow by 4.4 %."""
    return min(BINS - 1, max(0, int(math.log2(max(latency_ms, LEAST_MS) / LEAST_MS) * BINS_PER_OCTAVE)))


def binned_percentile(histogram: Counts, rank: float) -> float:
    """A percentile in ms of what was counted by `bin_of`, within half a bin; NaN for no values."""
    total = int(histogram.sum())
    if not total:
        return math.nan
    index = int(np.searchsorted(np.cumsum(histogram), math.ceil(total * rank / 100)))
    return float(LEAST_MS * 2.0 ** ((index + 0.5) / BINS_PER_OCTAVE))


@dataclass(frozen=True, slots=True)
class Fairness:
    """Frames served to each of several equal edges; the deviation is the largest from their mean, in percent of it."""

    edges: int
    least: int
    mean: float
    most: int
    deviation_percent: float

    @classmethod
    def of(cls, served: Counts) -> "Fairness":
        least, mean, most = int(served.min()), float(served.mean()), int(served.max())
        deviation = 100 * max(mean - least, most - mean) / mean if mean else 0.0
        return cls(served.size, least, mean, most, deviation)
