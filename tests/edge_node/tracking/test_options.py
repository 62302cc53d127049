"""Each kind of source gets the tracker it needs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import SettingsError
from common.settings import load
from edge_node.settings import EdgeSettings, Tracking
from edge_node.sources import open_source
from edge_node.tracking import TextTracker
from edge_node.tracking.options import tracker_of


def test_a_folder_is_not_ordered_and_a_camera_is(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "a.png")
    folder, camera = open_source(source=str(tmp_path)), open_source("lavfi:testsrc=size=64x48:rate=10")
    try:
        made = [tracker_of(Tracking(), source) for source in (folder, camera)]
        assert all(isinstance(tracker, TextTracker) for tracker in made)
        assert [tracker and (tracker._ordered, tracker._live) for tracker in made] == [(False, False), (True, True)]
        assert tracker_of(Tracking(track=False), folder) is None
    finally:
        folder.close()
        camera.close()


def test_the_flags() -> None:
    given = load(EdgeSettings, ["--camera", "0", "--no-track", "--sight-timeout-s", "30"], {})
    assert given.tracking == Tracking(track=False, sight_timeout_s=30.0)
    with pytest.raises(SettingsError, match="--sight-timeout-s"):
        load(EdgeSettings, ["--camera", "0", "--sight-timeout-s", "0"], {})
