"""Tests of edge_node/detector_size.py."""

import copy
import logging
import pickle
from pathlib import Path
from typing import ClassVar

import pytest

from common import settings
from common.errors import SettingsError
from common.frame import Region
from common.pixels import Bytes
from common.text_detection import DBNet
from edge_node import detector_size
from edge_node.detector_size import SIDES, Side, Size, choose, common_size, fit, rate
from edge_node.reader import create_reader
from edge_node.settings import EdgeSettings, Reading


def given(tmp_path: Path, side: str) -> EdgeSettings:
    file = tmp_path / "edge.toml"
    file.write_text(f'camera = "0"\n[reading]\ndetector_side = {side}\n')
    return settings.load(EdgeSettings, ["--config", str(file)], {})


def test_the_side_is_a_number_or_auto(tmp_path: Path) -> None:
    assert given(tmp_path, '"auto"').reading.detector_side == 0 and str(Side("auto")) == "auto"
    assert given(tmp_path, "320").reading.detector_side == 320 and str(Side(320)) == "320"
    assert copy.deepcopy(Side("auto")) == 0 and pickle.loads(pickle.dumps(Side(320))) == 320


@pytest.mark.parametrize("side", ['"large"', "0", "-1", "320.7", "320.0", '"0"', "true"])
def test_no_other_side_is_taken(tmp_path: Path, side: str) -> None:
    with pytest.raises(SettingsError, match=r"edge\.toml:3: .* is not a whole number of 1 or more, or auto"):
        given(tmp_path, side)


def test_with_auto_the_longer_side_has_to_be_a_side_too() -> None:
    flags = ["--camera", "0", "--detector-side", "auto", "--detector-max-side", "0"]
    with pytest.raises(SettingsError, match="--detector-max-side 0: at least 1"):
        settings.load(EdgeSettings, flags, {})


def test_the_largest_that_keeps_the_rate_is_taken() -> None:
    asked: list[int] = []

    def measure(side: int) -> float:
        asked.append(side)
        return side / 10

    chosen = choose(measure, 50)
    assert (chosen.side, asked) == (480, [320, 480, 640])  # no slower one is tried
    assert chosen.taken_ms == {320: 32, 480: 48, 640: 64}
    assert choose(measure, 96).side == SIDES[-1]
    assert choose(measure, 1).side == SIDES[0]


def test_a_size_that_fails_leaves_the_one_before(caplog: pytest.LogCaptureFixture) -> None:
    class Small:
        limit_side, max_side = 480, 2048

        def detect(self, rgb: Bytes) -> tuple[Region, ...]:
            if max(rgb.shape) > 900:
                raise MemoryError("no room for it")
            return ()

    detector = Small()
    assert fit(detector, 0.001).side == 480 and (detector.limit_side, detector.max_side) == (480, 853)
    assert "auto: 480, as 640 failed: no room for it" in caplog.text
    Small.detect = lambda self, rgb: 1 / 0  # type: ignore[assignment,method-assign,return-value]
    assert fit(Small(), 0.001).side == SIDES[0]


@pytest.mark.parametrize(
    ("size", "shapes"),
    [
        (None, [(569, 569), (853, 853), (1138, 1138), (1707, 1707)]),  # a square takes most
        ((640, 480), [(320, 427), (480, 640)]),  # none above the camera's
        ((240, 320), [(320, 427), (480, 640)]),  # as far as frames are enlarged
        ((1280, 720), [(320, 569), (480, 853), (640, 1138), (720, 1280)]),
        ((3840, 2160), [(320, 569), (480, 853), (640, 1138), (960, 1707)]),
    ],
)
def test_what_is_measured_is_the_costliest_frame(size: Size | None, shapes: list[tuple[int, int]]) -> None:
    class Noting:
        limit_side, max_side = 480, 2048
        seen: ClassVar[list[tuple[int, ...]]] = []

        def detect(self, rgb: Bytes) -> tuple[Region, ...]:
            self.seen.append(rgb.shape[:2])
            return ()

    detector = Noting()
    fit(detector, 0.001, size=size)
    assert list(dict.fromkeys(detector.seen)) == shapes and detector.max_side == max(shapes[-1])


def test_a_size_is_known_where_all_cameras_have_it() -> None:
    assert common_size([(640, 480), (640, 480)]) == (640, 480)
    assert common_size([(640, 480), None]) is common_size([None]) is common_size([(1, 2), (2, 1)]) is None


def test_cameras_share_the_detector() -> None:
    assert rate([0.0, 5.0]) == 15.0


def test_a_slow_device_sees_smaller_frames_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    detector = DBNet(limit_side=480, max_side=2048, threads=1)
    fit(detector, frames_per_s=1e6)
    assert (detector.limit_side, detector.max_side) == (320, 569)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "--detector-side auto: 320 is the least there is, and too slow; a frame takes 320: " in record.getMessage()


def test_a_quick_device_gets_the_largest(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(detector_size, "SIDES", (32, 64))
    reader = create_reader(Reading(detector_side=Side("auto"), detector_threads=1, recognize=False), 1e-3)
    with caplog.at_level(logging.INFO):
        reader.load()
        reader.load()  # measured once
    detector = reader.detector
    assert isinstance(detector, DBNet) and (detector.limit_side, detector.max_side) == (64, 114)
    assert "auto: 64, longer side at most 114; a frame takes 32: " in caplog.text and caplog.text.count("auto") == 1


def test_a_number_is_never_measured(caplog: pytest.LogCaptureFixture) -> None:
    reader = create_reader(Reading(detector_side=Side(256), detector_threads=1, recognize=False), 1e6)
    with caplog.at_level(logging.INFO):
        reader.load()
    assert isinstance(reader.detector, DBNet) and reader.detector.limit_side == 256 and not caplog.records
