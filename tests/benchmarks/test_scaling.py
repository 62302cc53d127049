"""The simulation of a fleet: it reproduces what was measured, and loses nothing."""

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "scaling"
sys.path.insert(0, str(FOLDER))

import fleet as fleets  # noqa: E402
import node as nodes  # noqa: E402
import run  # noqa: E402

DEVICE = nodes.Device((0.05, 0.06), 2)


def test_it_is_as_near_to_what_was_measured_as_it_says() -> None:
    for row in run.validate(json.loads(run.MEASURED.read_text())):
        assert all(abs(value) <= run.CLOSE for value in row["off"].values())


def test_what_is_offered_is_served_below_the_load_of_the_device_and_no_more_above() -> None:
    below = nodes.simulate(DEVICE, 0.01, nodes.poisson(0.5 * DEVICE.most_fps), 400.0)
    assert below["served_fps"] == pytest.approx(0.5 * DEVICE.most_fps, rel=0.1)
    above = nodes.simulate(DEVICE, 0.01, nodes.poisson(2 * DEVICE.most_fps), 400.0)
    assert above["served_fps"] == pytest.approx(DEVICE.most_fps, rel=0.02) and above["use"] > 0.99
    assert above["essential_p99_ms"] < 500 < above["p50_ms"], "essential frames go first"


def test_a_region_that_goes_is_carried_by_the_others() -> None:
    fleet = fleets.Fleet(1_000, 4, 0.2, DEVICE, 0.01, 1_000.0, spare=0.4)
    failures = (fleets.Failure(50, 100, 1, 1.0),)
    regions = fleets.simulate(fleet, failures, 250.0)
    gone, other = regions[1], regions[0]
    served = {second: frames for second, _, frames in gone.seconds}
    assert served[60] == pytest.approx(served[140], abs=5), "nothing is served where nothing is"
    assert max(queue for _, queue, _ in other.seconds) < 60 and served[240] > served[140]
