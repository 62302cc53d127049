"""The committed night clip, its truth, and that its maker still makes it."""

import itertools
import json

import numpy as np
import pytest

from common.errors import SourceError
from common.polygons import match
from common.text_detection import create_detector
from deploy.demo import make_clip
from deploy.demo.clip import CLIP, TRUTH, decode, load_truth
from deploy.demo.scenes import PHOTOGRAPHS, SCENES
from deploy.demo.signs import SCALE, Line, Sign, hang


@pytest.fixture(scope="module")
def frames():
    return decode()


@pytest.fixture(scope="module")
def truth():
    return load_truth()


def test_clip_is_small_enough_for_a_repository():
    assert CLIP.stat().st_size + TRUTH.stat().st_size < 4_000_000


def test_every_frame_has_a_truth(frames, truth):
    assert len(frames) == len(truth) == len(SCENES) * make_clip.FRAMES_PER_SCENE
    assert {frame.shape for frame in frames} == {(400, 600, 3)}
    assert [scene for scene, _ in itertools.groupby(frame.scene for frame in truth)] == [s.name for s in SCENES]


def test_outlines_are_clockwise_inside_the_frame_and_of_the_promised_sizes(truth):
    heights = []
    for frame in truth:
        assert 2 <= len(frame.outlines) <= 5
        for outline in frame.outlines:
            points = np.array(outline)
            assert points.shape == (4, 2)
            assert (points >= 0).all() and (points <= (599, 399)).all()
            edges = np.roll(points, -1, axis=0) - points
            following = np.roll(edges, -1, axis=0)
            assert (edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0] > 0).all()
            heights.append(np.hypot(*(points[3] - points[0])))
    assert min(heights) > 10 and max(heights) < 60


def test_frames_are_dark_and_noisy(frames):
    means = [frame.mean() for frame in frames]
    assert 8 < min(means) and max(means) < 25
    for frame in frames:
        corner = frame[:60, :60, 1].astype(float)
        assert np.diff(corner, axis=1).std() > 2  # an encoder that smooths leaves nearly nothing


def test_truth_lies_on_the_text(frames, truth):
    detector = create_detector()
    found = there = 0
    for number in (17, 22):  # the launch pad and the park, readable with gain alone
        lit = np.clip(frames[number].astype(float) * 4, 0, 255).astype(np.uint8)
        found += len(match(detector.detect(lit), truth[number].outlines))
        there += len(truth[number].outlines)
    assert found >= there / 2


def test_every_photograph_is_credited():
    credits = json.loads(TRUTH.read_text(encoding="utf-8"))["photographs"]
    assert set(credits) == set(PHOTOGRAPHS)
    used = {s.photograph for s in SCENES} | {sign.picture for s in SCENES for sign in s.signs if sign.picture}
    assert used | {window.photograph for s in SCENES for window in s.windows} == set(PHOTOGRAPHS)
    for photograph in credits.values():
        assert photograph["author"] and photograph["source"]
        assert photograph["licence"] in {"CC0 1.0", "CC BY 2.0", "public domain"}


def test_maker_makes_this_clip_again_from_its_seed(frames, truth):
    photographs = make_clip.load_photographs(["brick", "cat"])
    made, again = (next(make_clip.make_frames(photographs=photographs)) for _ in range(2))
    assert (made.night == again.night).all()
    np.testing.assert_allclose(made.outlines, np.array(truth[0].outlines), atol=0.06)
    squared = np.mean((made.night.astype(float) - frames[0]) ** 2)
    assert 10 * np.log10(255**2 / squared) > 28  # 4:2:0 and H.264 lie between


@pytest.mark.parametrize(("yaw", "roll"), [(0, 0), (-18, 3), (12, -6)])
def test_outline_of_a_sign_is_tight_around_its_ink(yaw, roll):
    grey = np.full((400 * SCALE, 600 * SCALE, 3), 0.5, np.float32)
    sign = Sign((Line("HAMBURG", 40),), (300, 200), ground=(250, 250, 250), ink=(0, 0, 0), yaw=yaw, roll=roll)
    canvas, outlines = hang(grey, sign, {})
    ys, xs = np.nonzero(canvas.mean(axis=2) < 0.2)
    outline = outlines[0]
    assert abs(xs.min() - outline[:, 0].min()) < 8 and abs(xs.max() - outline[:, 0].max()) < 8
    assert abs(ys.min() - outline[:, 1].min()) < 8 and abs(ys.max() - outline[:, 1].max()) < 8


def test_a_missing_or_foreign_file_says_what_to_do(tmp_path):
    with pytest.raises(SourceError, match="git checkout"):
        load_truth(tmp_path / "gone.json")
    with pytest.raises(SourceError, match="git checkout"):
        decode(tmp_path / "gone.mp4")
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(SourceError, match="make_clip"):
        load_truth(tmp_path / "other.json")
