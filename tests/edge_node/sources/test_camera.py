import itertools
import threading
import time

import numpy as np
import pytest

from common.errors import SourceError
from common.packing import to_rgb
from common.pixels import PixelFormat
from edge_node.sources import open_source
from edge_node.sources.camera import present_cameras


def test_a_made_up_camera_gives_frames_with_growing_times() -> None:
    camera = open_source(camera="lavfi:testsrc=size=64x48:rate=50")
    assert (camera.live, camera.total) == (True, None)
    before = time.time_ns()
    captured = list(itertools.islice(camera.frames(), 5))
    camera.close()
    assert [(c.image.width, c.image.height, c.image.pixel_format) for c in captured] == [
        (64, 48, PixelFormat.RGB24)
    ] * 5
    times = [c.captured_unix_ns for c in captured]
    assert times == sorted(times)
    assert times[0] >= before
    assert len(np.unique(to_rgb(captured[0].image))) > 2
    assert {c.name for c in captured} == {camera.name}


def test_frames_come_at_the_pace_of_the_graph() -> None:
    camera = open_source(camera="lavfi:testsrc=size=16x16:rate=50:duration=0.4")
    captured = list(camera.frames())
    assert len(captured) + camera.status.dropped == 20
    # Only a lower bound: a busy machine may be slower, a camera never faster.
    assert captured[-1].captured_unix_ns - captured[0].captured_unix_ns >= (len(captured) - 1) * 10_000_000


def test_native_planes_and_size() -> None:
    camera = open_source(source="lavfi:testsrc=size=64x48:rate=50,format=yuv420p", size=(100, 60))
    image = next(iter(camera.frames())).image
    assert (image.width, image.height) == (100, 60)
    assert image.pixel_format in (PixelFormat.I420, PixelFormat.I422, PixelFormat.RGB24)
    camera.close()


def test_a_slow_node_sees_the_newest_frame() -> None:
    camera = open_source(camera="lavfi:testsrc=size=16x16:rate=200:duration=0.5")
    frames = camera.frames()
    next(frames)
    deadline = time.monotonic() + 60
    while camera.status.dropped < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    rest = list(frames)
    assert camera.status.dropped >= 20
    assert 1 + len(rest) + camera.status.dropped == 100


def test_close_ends_a_wait_for_the_next_frame() -> None:
    camera = open_source(camera="lavfi:testsrc=size=16x16:rate=0.001")
    first = threading.Event()
    names = []

    def consume() -> None:
        for captured in camera.frames():
            names.append(captured.name)
            first.set()

    consumer = threading.Thread(target=consume)
    consumer.start()
    assert first.wait(60)
    camera.close()
    consumer.join(60)
    assert not consumer.is_alive()
    assert len(names) == 1


def test_close_before_the_start_and_twice() -> None:
    camera = open_source(camera="lavfi:testsrc=size=16x16:rate=10")
    camera.close()
    camera.close()
    assert list(camera.frames()) == []


@pytest.mark.parametrize("camera", ["97", "/dev/video97"])
def test_a_missing_camera_says_which_there_are(camera: str) -> None:
    with pytest.raises(SourceError, match="there is no camera 97") as error:
        open_source(camera=camera)
    assert present_cameras() in str(error.value)


def test_a_device_that_is_no_camera() -> None:
    with pytest.raises(SourceError, match="/dev/null gives no pictures"):
        open_source(camera="/dev/null")


@pytest.mark.parametrize("graph", ["nonsense", "testsrc=size=wrong", "sine", ""])
def test_a_graph_that_ffmpeg_refuses(graph: str) -> None:
    with pytest.raises(SourceError, match="lavfi:testsrc"):
        open_source(camera=f"lavfi:{graph}")


@pytest.mark.parametrize("given", [{}, {"camera": "0", "source": "a.mp4"}, {"source": " "}, {"camera": ""}])
def test_not_exactly_one_thing_to_open(given: dict[str, str]) -> None:
    with pytest.raises(SourceError, match="--camera 0"):
        open_source(**given)


def test_a_size_is_for_cameras() -> None:
    with pytest.raises(SourceError, match="leave the size out"):
        open_source(source="clip.mp4", size=(640, 480))


def test_a_file_given_as_a_camera(tmp_path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"")
    with pytest.raises(SourceError, match="--source"):
        open_source(camera=str(tmp_path / "clip.mp4"))
