"""Rows that an earlier run measured, beside those of this one: peers need not be run again for new weights."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloud_node.evaluation.measure import Figures, Records
from cloud_node.evaluation.rows import BRIGHT, RAW, Row, Say
from common.errors import SettingsError, SourceError


@dataclass(frozen=True)
class Earlier:
    """What an earlier run found."""

    path: Path
    rows: Sequence[Row]
    records: Records = field(repr=False)

    def joined(self, records: Records, say: Say) -> Records:
        """`records` and these rows, in sets where the earlier run had all pictures, and saw them as this one does.

        The dark picture's own figures tell: they are in both. A set where they differ is left as it is, with a word.
        """
        made = {cases: dict(rows) for cases, rows in records.items()}
        for cases, rows in made.items():
            known = self.records.get(cases, {})
            if not known:
                continue
            if not _same(json.loads(json.dumps(rows[RAW])), known.get(RAW, {})):
                say(f"set {cases!r}: no rows are taken from {self.path}, whose dark pictures were not these")
                continue
            for row in self.rows:
                figures = known.get(row.name, {})
                if row.name not in rows and all(picture in figures for picture in rows[RAW]):
                    rows[row.name] = {picture: figures[picture] for picture in rows[RAW]}
        return made


def read(path: Path, detector: str, measured: Sequence[str]) -> Earlier:
    """The rows of a results.json that are not among the `measured` ones.

    Raises:
        SourceError: the file cannot be read, or is no results.json. SettingsError: another detector was used.
    """
    try:
        results = json.loads(path.read_text())
        used = results["about"]["detector"]
        listed = [Row(one["name"], _not_run, one["ours"], ablation=one["ablation"]) for one in results["rows"]]
        records: Records = {
            str(cases): {str(row): {str(name): dict(one) for name, one in found.items()} for row, found in rows.items()}
            for cases, rows in results["pictures"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"--earlier {path} is no results.json of an evaluation: {error}") from None
    if used != detector:
        raise SettingsError(f"--earlier {path} is of detector {used}, this run of {detector}: give --detector {used}")
    return Earlier(path, [row for row in listed if row.name not in (*measured, BRIGHT)], records)


def _same(now: dict[str, Figures], then: dict[str, Figures]) -> bool:
    return all(picture in then and _agree(figures, then[picture]) for picture, figures in now.items())


def _agree(one: Figures, other: Figures) -> bool:
    def close(a: Any, b: Any) -> bool:
        return math.isclose(a, b, rel_tol=1e-4) if isinstance(a, float) else a == b

    both = one.keys() & other.keys()
    return bool(both) and all(close(one[key], other[key]) for key in both)


def _not_run(low: Any) -> Any:
    raise AssertionError("a row of an earlier run is not run")
