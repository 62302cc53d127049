"""A short turn of the laboratory, with one of each: real processes, killed, cut off and stopped, by a fixed plan."""

from pathlib import Path

import pytest
from laboratory import NotPossible
from plan import Fault
from town import Town
from trial import run

FAULTS = [
    Fault(0.5, 1.5, "kill", "cloud-1", 0.5),
    Fault(1.0, 3.0, "cut", "edge-1", 0.5),
    Fault(3.5, 4.0, "kill", "edge-1", 0.5),
    Fault(3.8, 4.5, "kill", "nats-1", 0.5),
    Fault(5.0, 6.0, "pause", "cloud-1", 0.5),
    Fault(5.5, 7.0, "disk", "edge-1", 0.2),
    Fault(5.5, 7.0, "skew", "edge-1", 0.7),
]


def test_every_promise_is_kept(tmp_path: Path) -> None:
    try:
        with Town(tmp_path, clouds=1, brokers=1, edges=1) as town:
            trial = run(town, FAULTS, 7.0, lambda words: None, rest_s=1.0)
            [verdict] = trial.verdicts
            assert not trial.problems, "\n".join([*trial.problems, town.members["edge-1"].log.read_text()])
            assert verdict.readings >= verdict.promised >= 10
            assert verdict.outcomes["enhanced"] >= verdict.promised
            assert len(trial.levels) == 3
    except NotPossible as error:
        pytest.skip(f"no fault laboratory on this machine: {error}")
