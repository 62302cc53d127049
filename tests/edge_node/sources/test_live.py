"""Live sources in trouble: made-up cameras that stop, freeze, change and hang."""

import itertools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.backoff import Backoff
from common.errors import SourceError
from common.pixels import RawImage
from edge_node.sources import live
from edge_node.sources.camera import connect_lavfi
from edge_node.sources.connection import Connection, Silent
from edge_node.sources.frame_age import LONGEST_S, FrameAge
from edge_node.sources.live import LiveSource, SourceRefused
from edge_node.sources.options import LiveOptions

FAST = Backoff(0.001, 0.002)
MOVING = "testsrc2=size=64x48:rate=50"


def one_after_the_other(*graphs: str | Exception) -> Callable[[], Connection]:
    """A camera that is another one each time it is opened; the last one stays."""
    calls = itertools.count()

    def connect() -> Connection:
        graph = graphs[min(next(calls), len(graphs) - 1)]
        if isinstance(graph, Exception):
            raise graph
        return connect_lavfi(graph, endless=True)

    return connect


def test_an_unplugged_camera_is_opened_again_when_it_is_back(follow, caplog: pytest.LogCaptureFixture) -> None:
    away = SourceError("there is no camera 7")
    connect = one_after_the_other(f"{MOVING}:duration=0.1", away, away, away, "testsrc2=size=80x60:rate=50")
    camera = LiveSource(connect, "camera 7", backoff=FAST)
    seen = follow(camera, lambda seen: seen[-1].image.width == 80)
    assert seen[0].image.width == 64
    assert (camera.status.reopened, camera.status.resized, camera.status.problem) == (1, 1, "")
    assert caplog.text.count("has ended: it was switched off or unplugged") == 1
    assert caplog.text.count("there is no camera 7") == 1
    assert caplog.text.count("camera 7 gives pictures again") == 1
    assert caplog.text.count("gives 80x60 now, not 64x48") == 1


def test_a_frozen_camera_is_opened_again(follow, caplog: pytest.LogCaptureFixture) -> None:
    connect = one_after_the_other("color=red:size=64x48:rate=50", MOVING)
    camera = LiveSource(connect, "camera 7", LiveOptions(frozen_s=0.3), backoff=FAST)
    follow(camera, lambda _: camera.status.reopened and not camera.status.problem)
    assert camera.status.frozen >= 1 and camera.status.reopened >= 1
    assert caplog.text.count("camera 7 has given the same picture again and again for 0.3 s") == 1


def test_a_silent_camera_is_opened_again(follow, caplog: pytest.LogCaptureFixture) -> None:
    connect = one_after_the_other("testsrc2=size=64x48:rate=0.001", MOVING)
    camera = LiveSource(connect, "camera 7", LiveOptions(frozen_s=0.3), backoff=FAST)
    follow(camera, lambda seen: len(seen) > 3)
    assert camera.status.frozen >= 1 and camera.status.reopened >= 1
    assert caplog.text.count("camera 7 has given no new picture for 0.3 s") == 1


def test_a_device_that_blocks_is_left_after_the_time_given(tmp_path: Path) -> None:
    """The file stands for a camera whose driver has nothing to say."""
    path = tmp_path / "video"
    os.mkfifo(path)
    file = os.open(path, os.O_RDWR)
    container = connect_lavfi(MOVING)._container
    connection = Connection(container, device=str(path))
    with pytest.raises(Silent):
        next(connection.packets(0.05))
    os.write(file, b"a picture")
    assert next(connection.packets(0.05)).size > 0
    connection.close()
    os.close(file)


def test_one_that_is_not_there_at_the_start_is_an_error() -> None:
    with pytest.raises(SourceError, match="there is no camera 7"):
        LiveSource(one_after_the_other(SourceError("there is no camera 7")), "camera 7")


def test_or_is_waited_for(follow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "REFUSED_S", 0.003)
    away = SourceError("there is no camera 7")
    connect = one_after_the_other(away, SourceRefused("wrong password"), RuntimeError("a bug"), MOVING)
    camera = LiveSource(connect, "camera 7", LiveOptions(wait_for_source=True), backoff=FAST)
    assert camera.status.problem == ""
    follow(camera, lambda seen: len(seen) >= 2)
    assert (camera.status.reopened, camera.status.problem) == (0, "")


def test_cameras_that_refuse_are_not_all_asked_at_once(follow, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed password locks an account less soon if they do not come together."""
    monkeypatch.setattr(live, "REFUSED_S", 0.003)
    waits: list[float] = []

    class Watched(Backoff):
        def next_s(self, **bounds: float) -> float:
            waits.append(super().next_s(**bounds))
            return waits[-1]

    connect = one_after_the_other(*[SourceRefused("wrong password")] * 20, MOVING)
    options = LiveOptions(wait_for_source=True)
    follow(LiveSource(connect, "camera 7", options, backoff=Watched(0.001, 0.002)), lambda seen: bool(seen))
    assert len(set(waits[:20])) > 10 and 0.003 <= min(waits[:20]) < max(waits[:20]) <= 0.0045


def test_close_while_it_waits_for_the_next_attempt() -> None:
    away = SourceError("there is no camera 7")
    camera = LiveSource(
        one_after_the_other(away), "camera 7", LiveOptions(wait_for_source=True), backoff=Backoff(1000, 1000)
    )
    frames: list[object] = []
    consumer = threading.Thread(target=lambda: frames.extend(camera.frames()))
    consumer.start()
    while not camera.status.problem:
        time.sleep(0.01)
    camera.close()
    consumer.join(60)
    assert not consumer.is_alive() and frames == []


def test_a_driver_that_hangs_ends_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    hung = threading.Event()
    first = one_after_the_other(f"{MOVING}:duration=0.05")
    calls = itertools.count()

    def connect() -> Connection:
        if next(calls):
            hung.wait(120)
        return first()

    camera = LiveSource(connect, "camera 7", LiveOptions(open_timeout_s=0.1), backoff=FAST)
    monkeypatch.setattr(live, "HANGS_S", 0.1)
    with pytest.raises(SourceError, match="camera 7 hangs inside its driver"):
        list(camera.frames())
    hung.set()


def test_a_driver_that_hangs_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HANGS_S", 0.05)
    hung = threading.Event()
    with pytest.raises(SourceError, match="does not open within 0.1 s"):
        LiveSource(lambda: hung.wait(120) and connect_lavfi(MOVING), "camera 7", LiveOptions(open_timeout_s=0.05))
    hung.set()


def test_every_picture_is_given_or_counted_as_dropped(follow) -> None:
    connect = one_after_the_other(f"{MOVING}:duration=0.4")
    camera = LiveSource(connect, "camera 7", backoff=FAST)
    seen = follow(camera, lambda seen: time.sleep(0.03) or camera.status.reopened >= 3)
    status = camera.status
    assert status.dropped > 0
    assert len(seen) + status.dropped in (status.frames, status.frames - 1)  # the newest may wait to be taken


def grey(value: int) -> RawImage:
    return RawImage.from_rgb(np.full((48, 64, 3), value, np.uint8))


def test_frame_age_bears_a_dark_scene_longer_each_time() -> None:
    age, now = FrameAge(10), 0.0
    age.opened(now)
    verdicts = []
    while len(verdicts) < 4:
        now += 1
        age.seen(grey(0), now)
        if verdict := age.verdict(now):
            verdicts.append((now, verdict))
            age.opened(now)
    gaps = np.diff([0, *(moment for moment, _ in verdicts)])
    assert list(gaps) == [11, 20, 40, 80]
    assert verdicts[1][1] == "has given the same picture again and again for 20 s"
    age.seen(grey(1), now := now + 1)
    for _ in range(11):
        age.seen(grey(1), now := now + 1)
    assert age.verdict(now).endswith("for 10 s")  # it moved: no more patience than at first
    assert LONGEST_S == 3600


def test_frame_age_one_byte_makes_a_new_picture() -> None:
    age, picture = FrameAge(10), grey(0)
    age.opened(0)
    for now in range(30):
        picture = RawImage(picture.data.copy(), 64, 48, picture.pixel_format)
        picture.data[now + 5] += 1
        age.seen(picture, now)
        assert age.verdict(now) == ""
    assert age.verdict(40) == "has given no new picture for 10 s"
