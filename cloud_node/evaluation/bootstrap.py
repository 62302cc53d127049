"""Figures over a set of images, each with a 95 % percentile-bootstrap interval over groups of images.

What an image gives is a row of numbers that may be added: (found, right, truth) for detection, (value, 1) for a
mean. A statistic turns their sum into the figure, so that every resample is one weighted sum. Images of one scene
are not independent: `by_group` adds them up, and the scene is drawn as one (cluster bootstrap); most images are a
group of their own. Two methods are compared on the same resamples (paired): what both find hard cancels out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
SEED = 0
LEVELS = (2.5, 97.5)  # percentiles

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]  # sums (..., k) -> figures (...)


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval."""

    value: float
    low: float
    high: float

    @property
    def above_zero(self) -> bool:
        return self.low > 0


def mean(sums: Floats) -> Floats:
    """Of (value, 1) rows; NaN where there are none."""
    return _ratio(sums[..., 0], sums[..., 1], float("nan"))


def precision(sums: Floats) -> Floats:
    """Of (found, right, truth) rows; 0 where nothing was found."""
    return _ratio(sums[..., 1], sums[..., 0])


def recall(sums: Floats) -> Floats:
    """Of (found, right, truth) rows; 0 where there is nothing to find."""
    return _ratio(sums[..., 1], sums[..., 2])


def hmean(sums: Floats) -> Floats:
    """Harmonic mean of precision and recall, 2 right / (found + truth), of (found, right, truth) rows."""
    return _ratio(2 * sums[..., 1], sums[..., 0] + sums[..., 2])


def by_group(rows: Floats, groups: Sequence[str]) -> Floats:
    """(images, k) rows added up by the group of each -> (groups, k), in the order in which groups first appear."""
    place = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    sums = np.zeros((len(place), rows.shape[1]))
    np.add.at(sums, [place[group] for group in groups], rows)
    return sums


def estimate(rows: Floats, statistic: Statistic) -> Estimate:
    """The figure of (groups, k) rows, see `by_group`. ValueError for none."""
    return _estimate(statistic(rows.sum(axis=0)), statistic(_weights(len(rows)) @ rows))


def difference(rows: Floats, others: Floats, statistic: Statistic) -> Estimate:
    """The figure of `rows` minus that of `others`, paired: row i of both is the same group."""
    if rows.shape != others.shape:
        raise ValueError(f"a paired difference needs the same images, got {len(rows)} and {len(others)}")
    weights = _weights(len(rows))
    whole = statistic(rows.sum(axis=0)) - statistic(others.sum(axis=0))
    return _estimate(whole, statistic(weights @ rows) - statistic(weights @ others))


def share_closed(rows: Floats, raw: Floats, bright: Floats, statistic: Statistic) -> Estimate:
    """Which share of the gap between `raw` and `bright` the rows close: 0 none, 1 all. Paired, as `difference`."""
    weights = _weights(len(rows))

    def share(sums: Callable[[Floats], Floats]) -> Floats:
        low, high = statistic(sums(raw)), statistic(sums(bright))
        return _ratio(statistic(sums(rows)) - low, high - low, float("nan"))

    return _estimate(share(lambda x: x.sum(axis=0)), share(lambda x: weights @ x))


def _weights(groups: int) -> Floats:
    """How often each group is drawn in each resample, (RESAMPLES, groups)."""
    if not groups:
        raise ValueError("no images to take a figure of")
    rng = np.random.default_rng(SEED)
    return rng.multinomial(groups, np.full(groups, 1 / groups), RESAMPLES).astype(np.float64)


def _estimate(whole: Floats, resampled: Floats) -> Estimate:
    kept = resampled[np.isfinite(resampled)]
    low, high = np.percentile(kept, LEVELS) if kept.size else (np.nan, np.nan)
    return Estimate(float(whole), float(low), float(high))


def _ratio(top: Floats, bottom: Floats, empty: float = 0.0) -> Floats:
    top, bottom = np.asarray(top, float), np.asarray(bottom, float)
    return np.divide(top, bottom, out=np.full(top.shape, empty), where=bottom != 0)
