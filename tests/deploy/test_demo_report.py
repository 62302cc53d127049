"""The demo's figures, pictures and processes. The readings come from the real detector on real frames."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from common.errors import SourceError
from common.frame import FrameId, Outcome, Priority, Reading, Region
from common.pixels import RawImage
from common.text_detection import create_detector
from deploy.demo import pictures, report, run
from deploy.demo.clip import FrameTruth, decode, load_truth
from edge_node.sinks import AnnotatedImages, JsonLines, Shown

FRAMES = (0, 15, 17)
BOX = ((10.0, 10.0), (50.0, 10.0), (50.0, 30.0), (10.0, 30.0))
FAR = ((200.0, 10.0), (250.0, 10.0), (250.0, 30.0), (200.0, 30.0))


def lit(frame):
    return np.clip(frame.astype(float) * 4, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """What an edge node leaves of three frames of the clip, by its own sinks, and what belongs to it."""
    folder = tmp_path_factory.mktemp("demo")
    detector = create_detector()
    clip, every_truth = decode(), load_truth()
    dark_frames = [clip[number] for number in FRAMES]
    truth = [every_truth[number] for number in FRAMES]
    json_lines, images = JsonLines(folder / "readings.jsonl"), AnnotatedImages(folder / "annotated")
    for number in (2, 0, 1):  # results may come in any order
        enhanced = lit(dark_frames[number])
        reading = Reading(
            id=FrameId("demo", "session", number + 1),
            name=f"night.mp4#{number}",
            captured_unix_ns=time.time_ns(),
            priority=Priority.STANDARD,
            outcome=Outcome.ENHANCED,
            regions=detector.detect(enhanced),
            model="gain",
            latency_ns=100_000_000 + number * 10_000_000,
            stages_ns={"reader": 60_000_000, "pack": 5_000_000},
            bytes_raw=360_000,
            bytes_up=150_000,
            bytes_down=50_000,
        )
        shown = Shown(reading, enhanced, RawImage.from_rgb(dark_frames[number]))
        json_lines.write(shown)
        images.write(shown)
    json_lines.close()
    images.close()
    dark_regions = [detector.detect(frame) for frame in dark_frames]
    return folder, truth, dark_frames, dark_regions


def test_the_readme_picture_is_a_small_jpeg(tmp_path):
    clip, truth = decode(), load_truth()
    path = tmp_path / "images" / "before-after.jpg"
    pairs = [
        pictures.Pair(clip[number], lit(clip[number]), truth[number].outlines, "scene", "caption")
        for number in (2, 7, 12, 17)
    ]
    pictures.before_after(pairs, path, panel_width=400)
    with Image.open(path) as picture:
        assert picture.format == "JPEG"
        assert 1_600 < picture.width < 1_700
    assert path.stat().st_size < 400_000


def line(number, **changes):
    reading = {
        "schema": 1,
        "name": f"night.mp4#{number}",
        "sequence": number,
        "outcome": "enhanced",
        "reason": "",
        "model": "m",
        "latency_ms": 10.0,
        "stages_ms": {"pack": 2.0},
        "bytes": {"raw": 3, "up": 2, "down": 1},
        "regions": [{"polygon": BOX, "score": 0.9}],
    }
    return json.dumps(reading | changes)


def write(folder, *lines):
    path = folder / "readings.jsonl"
    path.write_text("".join(f"{one}\n" for one in lines))
    return path


def test_readings_come_in_the_order_of_the_clip(demo):
    folder, *_ = demo
    readings = report.load_readings(folder / "readings.jsonl", 3)
    assert [reading.number for reading in readings] == [0, 1, 2]
    assert [reading.sequence for reading in readings] == [1, 2, 3]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], "line 1: no reading"),
        ([line(0), "[]"], "line 2: no reading"),
        ([line(0, schema=2)], "schema 2"),
        ([line(0, name="camera")], "line 1: no reading"),
        ([line(0, bytes={})], "line 1: no reading"),
        ([line(2)], "frame #2, but the clip has #0 to #1"),
        ([line(1), line(0), line(1)], "line 3: frame #1 was read twice"),
    ],
)
def test_broken_readings_are_refused_with_the_line(tmp_path, lines, message):
    with pytest.raises(SourceError, match=message):
        report.load_readings(write(tmp_path, *lines), 2)


def test_missing_readings_are_an_error(tmp_path):
    with pytest.raises(SourceError, match="the edge node writes it"):
        report.load_readings(tmp_path / "readings.jsonl", 2)


def test_score_counts_each_outline_once():
    truth = FrameTruth("s", ("a", "b"), (BOX, FAR))
    found = report.score([Region(BOX, 0.9), Region(BOX, 0.8)], truth)
    assert found == report.Score(matched=1, found=2, true=2)
    assert found.recall == 0.5 and found.precision == 0.5
    assert np.isnan(report.Score(0, 0, 3).precision)


def test_a_frame_that_was_not_enhanced_counts_as_nothing_found(tmp_path):
    path = write(tmp_path, line(0), line(1, outcome="expired", reason="too late"))
    readings = report.load_readings(path, 3)
    truth = [FrameTruth("s", ("a",), (BOX,))] * 3
    dark = [np.zeros((40, 60, 3), np.uint8)] * 3
    made = report.figures(readings, truth, [(), (Region(BOX, 0.9),), ()], dark)
    assert made.lit == report.Score(matched=1, found=1, true=3)
    assert made.dark == report.Score(matched=1, found=1, true=3)
    assert made.outcomes == {"enhanced": 1, "expired": 1}
    assert made.enhanced == 1 and made.missing == 1


def test_nothing_enhanced_is_an_error(tmp_path):
    readings = report.load_readings(write(tmp_path, line(0, outcome="failed", reason="no")), 1)
    truth, dark = [FrameTruth("s", ("a",), (BOX,))], [np.zeros((4, 6, 3), np.uint8)]
    with pytest.raises(SourceError, match="no frame was enhanced"):
        report.figures(readings, truth, [()], dark)


def test_stages_follow_the_walk_and_unclaimed_time_is_waiting(tmp_path):
    path = write(
        tmp_path,
        line(0, latency_ms=10.0, stages_ms={"reader": 4.0, "reader/part": 3.0, "new": 1.0, "pack": 1.0}),
        line(1, latency_ms=20.0, stages_ms={"reader": 8.0, "pack": 2.0}),
    )
    stages = report.stage_figures(report.load_readings(path, 2))
    assert [stage.name for stage in stages] == ["pack", "reader", "new", "waiting"]
    assert sum(stage.share for stage in stages) == pytest.approx(1)
    reader = stages[1]
    assert (reader.p50_ms, reader.p95_ms, reader.share) == (6.0, pytest.approx(7.8), pytest.approx(12 / 30))
    assert stages[3].share == pytest.approx(14 / 30)


def test_sizes_compare_the_same_frames(demo):
    folder, truth, dark_frames, dark_regions = demo
    made = report.figures(report.load_readings(folder / "readings.jsonl", 3), truth, dark_regions, dark_frames)
    assert made.sizes.rgb == 720_000
    assert 100_000 < made.sizes.png < 720_000
    assert (made.sizes.raw, made.sizes.up, made.sizes.down) == (360_000, 150_000, 50_000)


def test_summary_says_what_was_measured(demo):
    folder, truth, dark_frames, dark_regions = demo
    made = report.figures(report.load_readings(folder / "readings.jsonl", 3), truth, dark_regions, dark_frames)
    console = Console(width=100, record=True, quiet=False, file=(folder / "table.txt").open("w"))
    console.print(pictures.summary(made))
    console.file.close()
    text = console.export_text()
    assert "3 of 3 frames enhanced by gain" in text
    assert f"{made.lit.matched} of {made.lit.true}" in text
    assert "reader" in text and "waiting" in text and "150" in text


def test_lit_panel_is_the_edge_nodes_picture_of_the_enhanced_frame(demo):
    folder, _, dark_frames, _ = demo
    path = next((folder / "annotated").glob("000003-*.jpg"))
    panel = pictures.lit_panel(path, 600, 400)
    assert panel.shape == (400, 600, 3)
    assert np.abs(panel.mean() - lit(dark_frames[2]).mean()) < 10


def test_lit_panel_refuses_a_picture_that_is_too_small(tmp_path):
    Image.new("RGB", (800, 400)).save(tmp_path / "small.jpg")
    with pytest.raises(SourceError, match="800x400"):
        pictures.lit_panel(tmp_path / "small.jpg", 600, 400)
    with pytest.raises(SourceError, match="--annotate"):
        pictures.lit_panel(tmp_path / "gone.jpg", 600, 400)


def test_pictures_are_made_from_what_the_nodes_left(demo, tmp_path):
    folder, truth, dark_frames, dark_regions = demo
    readings = report.load_readings(folder / "readings.jsonl", 3)
    chosen = run.choose(truth, readings, 6)
    assert [reading.number for reading in chosen] == [0, 2]  # the middle one of each of two scenes
    pairs = run.make_pairs(chosen, truth, dark_frames, dark_regions, folder / "annotated")
    assert pairs[1].title == "pad, frame 2"
    pictures.before_after(pairs, tmp_path / "a" / "before-after.png", columns=2, panel_width=300)
    pictures.latency_plot(readings, tmp_path / "latency.png")
    with Image.open(tmp_path / "a" / "before-after.png") as grid:
        assert grid.width == 2 * (2 * 300 + 6) + 3 * 14
        left, right = (np.asarray(grid.crop(box)).mean() for box in ((14, 14, 314, 214), (320, 14, 620, 214)))
        assert right > 2 * left
    with Image.open(tmp_path / "latency.png") as plot:
        assert plot.width > 1000 and len(np.unique(np.asarray(plot.convert("L")))) > 20


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("lamplight: ready on 127.0.0.1:50051 (fast-0 on cpu)\n", "127.0.0.1:50051"),
        ("ready on [::1]:7, all well", "[::1]:7"),
        ("starting\n", None),
    ],
)
def test_address_is_taken_from_the_ready_line(output, expected):
    assert run.address(output) == expected


def test_a_node_that_fails_is_reported_with_its_last_lines(tmp_path):
    missing = tmp_path / "missing.json"
    with run.running("cloud", ["json.tool", str(missing)], tmp_path / "cloud.log") as node:
        with pytest.raises(run.DemoFailed, match=r"(?s)ended with exit code \d+ before it was ready.*missing"):
            node.wait(lambda: "ready on" in node.output, 60, "it was ready")


def test_a_node_that_does_not_answer_is_given_up_and_stopped(tmp_path):
    with run.running("edge", ["http.server", "0", "--bind", "127.0.0.1"], tmp_path / "edge.log") as node:
        with pytest.raises(run.DemoFailed, match="needed more than 0 s"):
            node.wait(lambda: False, 0.2, "all was read")
        assert node.code is None
    assert node.code is not None


def test_clear_leaves_what_is_not_the_demos(tmp_path):
    (tmp_path / "annotated").mkdir()
    mine = [Path("readings.jsonl"), Path("edge.log"), Path("annotated/000001-night.jpg"), Path("latency.png")]
    for name in [*mine, Path("notes.txt")]:
        (tmp_path / name).write_text("x")
    run.clear(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["notes.txt"]
