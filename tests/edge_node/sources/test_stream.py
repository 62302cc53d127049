"""Streams from real servers on free ports: MJPEG over HTTP, and H.264 from a small RTSP server that speaks TCP.

`test_rtsp.py` has GStreamer's server.
"""

import io
import itertools
import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from common.backoff import Backoff
from common.errors import SourceError
from common.packing import to_rgb
from common.pixels import ColorRange, PixelFormat
from edge_node.sources import LiveOptions, open_source
from edge_node.sources.connection import STRICT_TRIES
from edge_node.sources.stream import open_stream, without_password

WIDTH, HEIGHT = 96, 64


def picture(i: int) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    return (50 + 100 * np.stack([x, y, np.full_like(x, i % 10 / 10)], axis=2)).astype(np.uint8)


class MjpegCamera(BaseHTTPRequestHandler):
    """/endless goes on, /short ends after 30 pictures, /stalls goes silent after 30.

    /frozen repeats one picture, /grows doubles its size after 10, /broken cuts every third one off, /odd cuts all.
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/words":
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")
            return
        if self.path not in ("/endless", "/short", "/stalls", "/frozen", "/grows", "/broken", "/odd"):
            self.send_error(401 if self.path == "/locked" else 404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.send_header("Connection", "close")
        self.end_headers()
        stop: threading.Event = self.server.stop  # type: ignore[attr-defined]
        count = range(30) if self.path in ("/short", "/stalls") else itertools.count()
        try:
            for i in count:
                if stop.wait(0.01):
                    return
                shown = Image.fromarray(picture(0 if self.path == "/frozen" else i))
                if self.path == "/grows" and i >= 10:
                    shown = shown.resize((2 * WIDTH, 2 * HEIGHT))
                content = io.BytesIO()
                shown.save(content, "JPEG", subsampling=1, quality=90)
                jpeg = content.getvalue()
                if self.path == "/odd" or (self.path == "/broken" and i % 3 == 2):
                    jpeg = jpeg[: len(jpeg) * 2 // 3]
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
            if self.path == "/stalls":
                stop.wait(60)
        except OSError:
            pass
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    server.stop = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.stop.set()  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def mjpeg() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), MjpegCamera)
    with serving(server) as port:
        yield f"http://127.0.0.1:{port}"


def test_mjpeg_over_http(mjpeg: str) -> None:
    stream = open_source(source=f"{mjpeg}/endless")
    assert (stream.live, stream.total) == (True, None)
    captured = list(itertools.islice(stream.frames(), 4))
    stream.close()
    for frame in captured:
        image = frame.image
        assert (image.width, image.height, image.pixel_format) == (WIDTH, HEIGHT, PixelFormat.I422)
        assert image.color_range is ColorRange.FULL
        assert np.abs(to_rgb(image).astype(int)[:, :, :2] - picture(0)[:, :, :2]).mean() < 5


FAST = LiveOptions(frozen_s=0.5, open_timeout_s=30)


def test_a_stream_that_ends_is_opened_again(mjpeg: str, follow, caplog: pytest.LogCaptureFixture) -> None:
    stream = open_stream(f"{mjpeg}/short", backoff=Backoff(0.01, 0.02))
    follow(stream, lambda _: stream.status.reopened >= 2 and not stream.status.problem)
    assert re.search("/short (has ended|broke off).*opening it again", caplog.text)
    assert "gives pictures again" in caplog.text


def test_a_stream_that_goes_silent_is_opened_again(mjpeg: str, follow, caplog: pytest.LogCaptureFixture) -> None:
    stream = open_stream(f"{mjpeg}/stalls", FAST, backoff=Backoff(0.01, 0.02))
    follow(stream, lambda _: stream.status.reopened >= 1 and not stream.status.problem)
    assert stream.status.frozen >= 1
    assert caplog.text.count("has given no new picture for 0.5 s") == 1


def test_a_stream_that_repeats_one_picture_is_opened_again(mjpeg: str, follow) -> None:
    stream = open_stream(f"{mjpeg}/frozen", FAST, backoff=Backoff(0.01, 0.02))
    follow(stream, lambda _: stream.status.reopened >= 1)
    assert stream.status.frozen >= 1


def test_a_change_of_size_on_the_way(mjpeg: str, follow, caplog: pytest.LogCaptureFixture) -> None:
    stream = open_stream(f"{mjpeg}/grows")
    seen = follow(stream, lambda seen: seen[-1].image.width == 2 * WIDTH)
    assert (seen[-1].image.height, stream.status.resized, stream.status.reopened) == (2 * HEIGHT, 1, 0)
    assert f"gives {2 * WIDTH}x{2 * HEIGHT} now, not {WIDTH}x{HEIGHT}" in caplog.text


def test_broken_jpegs_are_left_out_and_counted(mjpeg: str, follow) -> None:
    stream = open_stream(f"{mjpeg}/broken")
    seen = follow(stream, lambda seen: stream.status.broken >= 5 and len(seen) >= 5)
    for captured in seen:  # none is half grey
        assert np.abs(to_rgb(captured.image).astype(int)[:, :, :2] - picture(0)[:, :, :2]).mean() < 5
    assert stream.status.reopened == 0


def test_pictures_that_nobody_wants_are_not_decoded(mjpeg: str, follow) -> None:
    stream = open_stream(f"{mjpeg}/endless", fps=5)
    follow(stream, lambda seen: len(seen) == 5)
    status = stream.status
    assert status.thinned > status.frames  # it sends up to 100 a second
    assert (status.frozen, status.reopened) == (0, 0)


def test_a_camera_whose_jpegs_are_all_odd_is_taken_as_it_is(mjpeg: str, follow) -> None:
    stream = open_stream(f"{mjpeg}/odd")
    follow(stream, lambda seen: len(seen) >= 3)
    assert stream.status.broken >= STRICT_TRIES


def test_close_ends_a_blocked_read(mjpeg: str) -> None:
    stream = open_stream(f"{mjpeg}/stalls")
    silent = threading.Event()

    def consume() -> None:
        for _ in stream.frames():
            silent.set()

    consumer = threading.Thread(target=consume)
    consumer.start()
    assert silent.wait(60)
    stream.close()
    consumer.join(60)
    assert not consumer.is_alive()


@pytest.mark.parametrize(
    ("path", "words"),
    [("/nothing", "nothing at this path"), ("/locked", "name and a password"), ("/words", "no video")],
)
def test_what_a_server_refuses(mjpeg: str, path: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        open_source(source=mjpeg + path)


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_nothing_listens(scheme: str, free_port: int) -> None:
    with pytest.raises(SourceError, match="nothing listens") as error:
        open_source(source=f"{scheme}://user:secret@127.0.0.1:{free_port}/live")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_server_that_never_answers(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"{scheme}://127.0.0.1:{deaf.getsockname()[1]}/live"
        with pytest.raises(SourceError, match="no picture within 0.5 s"):
            open_stream(url, LiveOptions(open_timeout_s=0.5))


def test_unknown_schemes_and_passwords() -> None:
    with pytest.raises(SourceError, match="rtsp://, rtsps://, http://, https://"):
        open_source(source="ftp://example.org/a.mp4")
    assert without_password("rtsp://me:secret@cam:554/live?token=1#x") == "rtsp://cam:554/live"


class RtspCamera(socketserver.StreamRequestHandler):
    """H.264 of 60 pictures over interleaved TCP, then the connection closes."""

    def handle(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtp:
            rtp.bind(("127.0.0.1", 0))
            rtp.settimeout(60)
            self.answer(rtp)

    def answer(self, rtp: socket.socket) -> None:
        while True:
            request = self.rfile.readline().decode().split()
            headers = {}
            while line := self.rfile.readline().decode().strip():
                key, _, value = line.partition(":")
                headers[key.lower()] = value.strip()
            if not request:
                return
            method, body, extra = request[0], "", ""
            if method == "OPTIONS":
                extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            elif method == "DESCRIBE":
                body = (
                    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
                    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n"
                    "a=control:track0\r\n"
                )
                extra = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
            elif method == "SETUP":
                assert "TCP" in headers["transport"]
                extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            self.wfile.write(f"RTSP/1.0 200 OK\r\nCSeq: {headers['cseq']}\r\nSession: 1\r\n{extra}\r\n{body}".encode())
            if method == "PLAY":
                self.play(rtp)
                return

    def play(self, rtp: socket.socket) -> None:
        stop: threading.Event = self.server.stop  # type: ignore[attr-defined]
        address = f"rtp://127.0.0.1:{rtp.getsockname()[1]}?pkt_size=1300"
        stream: Any
        try:
            with av.open(address, "w", format="rtp") as container:
                stream = container.add_stream("libx264", rate=50)
                stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
                stream.codec_context.gop_size = 5
                stream.options = {"preset": "ultrafast", "tune": "zerolatency", "x264-params": "repeat-headers=1"}
                for i in range(60):
                    if stop.wait(0.01):
                        return
                    for packet in stream.encode(av.VideoFrame.from_ndarray(picture(i), format="rgb24")):
                        container.mux(packet)
                        self.forward(rtp)
        except OSError:
            pass  # the client went

    def forward(self, rtp: socket.socket) -> None:
        rtp.setblocking(False)
        while True:
            try:
                datagram = rtp.recv(2000)
            except BlockingIOError:
                return
            self.wfile.write(b"$\0" + len(datagram).to_bytes(2, "big") + datagram)


class RtspServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def test_rtsp_over_tcp() -> None:
    with serving(RtspServer(("127.0.0.1", 0), RtspCamera)) as port:
        stream = open_source(source=f"rtsp://me:secret@127.0.0.1:{port}/live")
        assert stream.name == f"rtsp://127.0.0.1:{port}/live"
        frames = stream.frames()
        first = next(frames)
        image = first.image
        assert (image.width, image.height, image.pixel_format) == (WIDTH, HEIGHT, PixelFormat.I420)
        assert first.name == stream.name
        assert np.abs(to_rgb(image).astype(int)[:, :, :2] - picture(0)[:, :, :2]).mean() < 8
        follow_on = threading.Timer(120, stream.close)
        follow_on.start()
        for _ in frames:  # the server closes after 60 pictures
            if stream.status.reopened and not stream.status.problem:
                break
        follow_on.cancel()
        stream.close()
        assert stream.status.reopened >= 1
