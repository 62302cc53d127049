"""Tests of edge_node/detector_size.py."""

import logging
from pathlib import Path

import pytest

from common import settings
from common.errors import SettingsError
from common.text_detection import DBNet
from edge_node import detector_size
from edge_node.detector_size import SIDES, Side, choose, fit, rate
from edge_node.reader import create_reader
from edge_node.settings import EdgeSettings, Reading


def given(tmp_path: Path, side: str) -> EdgeSettings:
    file = tmp_path / "edge.toml"
    file.write_text(f'camera = "0"\n[reading]\ndetector_side = {side}\n')
    return settings.load(EdgeSettings, ["--config", str(file)], {})


def test_the_side_is_a_number_or_auto(tmp_path: Path) -> None:
    assert given(tmp_path, '"auto"').reading.detector_side == 0 and str(Side("auto")) == "auto"
    assert given(tmp_path, "320").reading.detector_side == 320 and str(Side(320)) == "320"
    with pytest.raises(SettingsError, match="a whole number, or auto"):
        given(tmp_path, '"large"')


def test_the_largest_that_keeps_the_rate_is_taken() -> None:
    asked: list[int] = []

    def measure(side: int) -> float:
        asked.append(side)
        return side / 10

    chosen = choose(measure, 50)
    assert (chosen.side, asked) == (480, [320, 480, 640])  # no slower one is tried
    assert chosen.taken_ms == {320: 32, 480: 48, 640: 64} and not chosen.is_full
    assert choose(measure, 96).is_full
    assert choose(measure, 1).side == SIDES[0]


def test_cameras_share_the_detector() -> None:
    assert rate([0.0, 5.0]) == 15.0


def test_a_slow_device_sees_smaller_frames_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    detector = DBNet(limit_side=480, max_side=2048, threads=1)
    fit(detector, frames_per_s=1e6)
    assert (detector.limit_side, detector.max_side) == (320, 569)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "--detector-side auto: 320 is the least there is, and too slow; a frame takes 320: " in record.getMessage()


def test_a_quick_device_loses_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(detector_size, "SIDES", (32, 64))
    reader = create_reader(Reading(detector_side=Side("auto"), detector_threads=1, recognize=False), 1e-3)
    with caplog.at_level(logging.INFO):
        reader.load()
        reader.load()  # measured once
    detector = reader.detector
    assert isinstance(detector, DBNet) and (detector.limit_side, detector.max_side) == (480, 2048)
    assert "auto: 64, longer side at most 2048; a frame takes 32: " in caplog.text and caplog.text.count("auto") == 1


def test_a_number_is_never_measured(caplog: pytest.LogCaptureFixture) -> None:
    reader = create_reader(Reading(detector_side=Side(256), detector_threads=1, recognize=False), 1e6)
    with caplog.at_level(logging.INFO):
        reader.load()
    assert isinstance(reader.detector, DBNet) and reader.detector.limit_side == 256 and not caplog.records
