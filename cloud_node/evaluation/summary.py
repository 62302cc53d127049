"""From the figures of single pictures to estimates over sets, and to what a row is compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cloud_node.evaluation.bootstrap import (
    Estimate,
    Floats,
    Statistic,
    by_group,
    difference,
    estimate,
    hmean,
    share_closed,
)
from cloud_node.evaluation.measure import Records
from cloud_node.evaluation.rows import BRIGHT, RAW, Row

COUNTS = ("found", "right", "truth")


@dataclass(frozen=True)
class Comparison:
    """A row against the one of its peers that it has the hardest time with: the lowest lower end of all."""

    peer: str
    by: Estimate


@dataclass(frozen=True)
class Summary:
    """Records with what is known of their rows; every method answers None where a set or a row was not measured."""

    records: Records
    rows: Sequence[Row]
    groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # set -> picture -> group, see `Case`

    @property
    def names(self) -> list[str]:
        """Rows of the main tables, in order."""
        return [row.name for row in self.rows if not row.ablation]

    @property
    def ours(self) -> list[str]:
        return [row.name for row in self.rows if row.ours and not row.ablation]

    @property
    def peers(self) -> list[str]:
        """What ours are compared with: all that is not ours, the dark picture itself included."""
        return [row.name for row in self.rows if not row.ours]

    @property
    def ablations(self) -> list[str]:
        return [row.name for row in self.rows if row.ablation]

    def table(self, cases: str, row: str, key: str) -> Floats | None:
        """Rows to be added up, one for each group of pictures: (found, right, truth) for 'counts', else (value, 1).

        A picture that `groups` does not name is a group of its own.
        """
        found = self.records.get(cases, {}).get(row)
        if not found:
            return None
        known = self.groups.get(cases, {})
        groups = [known.get(name, name) for name in found]
        if key == "counts":
            return by_group(np.array([[one[name] for name in COUNTS] for one in found.values()], float), groups)
        table = np.array([[one[key], 1.0] if key in one else [0.0, 0.0] for one in found.values()])
        return by_group(table, groups) if table.any() else None

    def figure(self, cases: str, row: str, key: str, statistic: Statistic) -> Estimate | None:
        table = self.table(cases, row, key)
        return None if table is None else estimate(table, statistic)

    def against(self, cases: str, row: str, other: str, key: str, statistic: Statistic) -> Estimate | None:
        """The row's figure minus the other's, paired."""
        one, two = self.table(cases, row, key), self.table(cases, other, key)
        return None if one is None or two is None or row == other else difference(one, two, statistic)

    def hardest(self, cases: str, row: str, key: str, statistic: Statistic) -> Comparison | None:
        """The comparison with the hardest peer: where its interval lies above zero, the row beats every one of them."""
        compared = [
            Comparison(peer, by)
            for peer in self.peers
            if (by := self.against(cases, row, peer, key, statistic)) is not None
        ]
        return min(compared, key=lambda one: one.by.low, default=None)

    def closed(self, cases: str, row: str) -> Estimate | None:
        """Share of the gap in H-mean between raw and bright that the row closes."""
        one, raw, bright = (self.table(cases, name, "counts") for name in (row, RAW, BRIGHT))
        if one is None or raw is None or bright is None or row in (RAW, BRIGHT):
            return None
        return share_closed(one, raw, bright, hmean)

    def lost(self, cases: str, row: str) -> dict[str, int] | None:
        """Outlines that are found in the raw picture and not in the row's: how many, by file."""
        raw, found = self.records.get(cases, {}).get(RAW), self.records.get(cases, {}).get(row)
        if raw is None or found is None:
            return None
        gone = {name: len(set(raw[name]["hits"]) - set(one["hits"])) for name, one in found.items()}
        return {name: number for name, number in gone.items() if number}
