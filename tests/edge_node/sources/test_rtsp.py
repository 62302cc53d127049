"""RTSP from GStreamer's server, a process that can be stopped, killed and started again with another picture."""

import signal
import threading
from collections.abc import Callable, Iterator

import pytest
from gstreamer import GSTREAMER, MISSING, RtspServer

from common.backoff import Backoff
from common.errors import SourceError
from common.pixels import ColorRange, PixelFormat
from edge_node.sources import LiveOptions, live
from edge_node.sources.live import LiveSource, SourceRefused
from edge_node.sources.stream import open_stream

OPTIONS = LiveOptions(frozen_s=1.0, open_timeout_s=10)

pytestmark = pytest.mark.skipif(not (GSTREAMER / "libgstrtspserver-1.0.so.0").exists(), reason=MISSING)


@pytest.fixture
def rtsp() -> Iterator[Callable[..., RtspServer]]:
    servers: list[RtspServer] = []

    def start(*arguments: int, **options: object) -> RtspServer:
        servers.append(RtspServer(*arguments, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.end()


def opened(url: str) -> LiveSource:
    return open_stream(url, OPTIONS, backoff=Backoff(0.05, 0.1))


def test_frames_of_a_server_with_a_password(rtsp, follow) -> None:
    server = rtsp(login="me:secret")
    stream = opened(server.url("me:secret"))
    [first, *_] = follow(stream, lambda seen: len(seen) >= 3)
    assert (first.image.width, first.image.height, first.image.pixel_format) == (160, 120, PixelFormat.I420)
    assert first.image.color_range is ColorRange.FULL
    assert first.name == server.url()


@pytest.mark.parametrize(("login", "words"), [("me:wrong", "refuses this name"), ("", "wants a name and a password")])
def test_a_wrong_password_is_told_without_showing_it(rtsp, login: str, words: str) -> None:
    server = rtsp(login="me:secret")
    with pytest.raises(SourceRefused, match=words) as error:
        opened(server.url(login))
    assert "wrong" not in str(error.value) and server.url() in str(error.value)


def test_a_wrong_path(rtsp) -> None:
    with pytest.raises(SourceError, match="nothing at this path"):
        opened(rtsp().url(path="nowhere"))


def test_a_killed_server_comes_back_with_another_size(rtsp, follow, caplog: pytest.LogCaptureFixture) -> None:
    server = rtsp()
    stream = opened(server.url())

    def done(seen: list) -> bool:
        if len(seen) == 3:
            server.end()
            threading.Timer(0.5, lambda: rtsp(server.port, size=(320, 240))).start()
        return seen[-1].image.width == 320

    follow(stream, done)
    assert stream.status.reopened >= 1 and (stream.status.resized, stream.status.problem) == (1, "")
    assert caplog.text.count("nothing listens at this host and port") == 1
    assert "gives pictures again" in caplog.text


def test_a_server_that_hangs_is_left_and_found_again(rtsp, follow, caplog: pytest.LogCaptureFixture) -> None:
    server = rtsp()
    stream = opened(server.url())

    def done(seen: list) -> bool:
        if len(seen) == 3:
            server.process.send_signal(signal.SIGSTOP)
            threading.Timer(2.0, server.process.send_signal, [signal.SIGCONT]).start()
        return bool(stream.status.reopened) and not stream.status.problem

    follow(stream, done)
    assert stream.status.frozen >= 1
    assert caplog.text.count("has given no new picture for 1 s") == 1


def test_a_camera_that_sends_one_picture_for_ever(rtsp, follow) -> None:
    stream = opened(rtsp(pattern="smpte75").url())
    follow(stream, lambda _: stream.status.reopened >= 1)
    assert stream.status.frozen >= 1 and stream.status.broken == 0


def test_a_password_that_was_changed_is_asked_for_slowly(
    rtsp, follow, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert live.REFUSED_S == 60
    monkeypatch.setattr(live, "REFUSED_S", 0.2)
    server = rtsp(login="me:secret")
    attempts = []

    class Watched(Backoff):
        def next_s(self, *, least_s: float = 0.0, **more: float) -> float:
            attempts.append(least_s > 0)
            if attempts.count(True) == 3:  # someone sets the old password again
                changed[-1].end()
                rtsp(server.port, login="me:secret")
            return super().next_s(least_s=least_s, **more)

    stream = open_stream(server.url("me:secret"), OPTIONS, backoff=Watched(0.05, 0.1))
    changed: list[RtspServer] = []

    def done(seen: list) -> bool:
        if len(seen) == 3:
            server.end()
            changed.append(rtsp(server.port, login="me:other"))
        return bool(stream.status.reopened) and not stream.status.problem

    follow(stream, done)
    assert attempts.count(True) >= 3
    assert caplog.text.count("it refuses this name and password") == 1
    assert "secret" not in caplog.text
