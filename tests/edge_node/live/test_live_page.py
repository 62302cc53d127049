"""The live page's server, over real sockets."""

import asyncio
import http.client
import io
import json
import re
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, cast

import httpx
import numpy as np
import pytest
from live import Watching, camera_of, live_page, shown
from PIL import Image
from sights import make_sight
from starlette.responses import FileResponse, Response
from starlette.websockets import WebSocket
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from common.color import to_rgb
from common.errors import PortInUse, SettingsError
from common.pixels import ColorMatrix, ColorRange, PixelFormat, RawImage, content_size
from common.settings import load
from edge_node.alerts.alert import Alert
from edge_node.live import camera
from edge_node.live.app import FILES, STATIC
from edge_node.live.camera import ALERTS
from edge_node.live.guard import Guard
from edge_node.live.options import Page
from edge_node.live.page import LivePage
from edge_node.live.pictures import to_bgr
from edge_node.live.viewer import MOST_WAITING, Viewer
from edge_node.settings import EdgeSettings

TOKEN = "lantern-over-water"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[LivePage]:
    with live_page(tmp_path, "gate", "yard") as made:
        yield made


def ask(
    page: LivePage, path: str = "/", method: str = "GET", body: str = "", **headers: str
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", int(page.url.split(":")[-1].rstrip("/")), timeout=60)
    connection.request(method, path, body or None, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    answer.text = answer.read().decode()  # type: ignore[attr-defined]
    connection.close()
    return answer


# --- who may see it ---


def test_other_hosts_do_not_reach_it_by_default(page: LivePage) -> None:
    assert page.url.startswith("http://127.0.0.1:")
    port = int(page.url.split(":")[-1].rstrip("/"))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=60)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--live", "0.0.0.0:8080"], "give a --live-token"),
        (["--live", "camera-box:8080"], "give a --live-token"),
        (["--live", "0.0.0.0:8080", "--live-token", "short"], "at least 16"),
        (["--live", "host"], "a port, as 8080"),
        (["--live", "::1:8080"], "a port, as 8080"),
        (["--live", "70000"], "a port, as 8080"),
    ],
)
def test_settings_that_would_let_others_in_are_refused(flags: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(EdgeSettings, ["--camera", "0", *flags], {})


def test_a_range_in_thousands_of_pieces_costs_no_more_than_its_length(page: LivePage) -> None:
    """Starlette before 0.49.1 compared each with each (CVE-2025-62727)."""

    def header(pieces: int) -> str:
        return "bytes=" + ",".join(f"{2 * start}-{2 * start}" for start in range(pieces))

    async def answer(pieces: int) -> None:
        async def nothing(*_: object) -> Any:
            return {}

        scope = {"type": "http", "method": "HEAD", "headers": [(b"range", header(pieces).encode())]}
        await FileResponse(FILES["style.css"])(scope, nothing, nothing)

    def lines_run(pieces: int) -> int:
        run, before = 0, sys.gettrace()

        def count(frame: FrameType, event: str, _: object) -> Any:
            nonlocal run
            run += event == "line"
            return count

        sys.settrace(count)
        try:
            asyncio.run(answer(pieces))
        finally:
            sys.settrace(before)
        return run

    assert ask(page, "/style.css", Range=header(100)).status in (200, 206, 400, 416, 431)
    lines_run(1)  # what is run once
    assert lines_run(2000) < 3 * lines_run(1000)


def test_the_token_is_never_printed() -> None:
    settings = load(EdgeSettings, ["--camera", "0", "--live", "0.0.0.0:80"], {"LAMPLIGHT_LIVE_TOKEN": TOKEN})
    assert settings.page.address == ("0.0.0.0", 80) and TOKEN not in repr(settings)


def test_an_address_in_use_is_said(page: LivePage) -> None:
    with pytest.raises(PortInUse, match="--live cannot listen"):
        LivePage(Page(live=page.url.split("//")[1].rstrip("/")))


def test_other_names_and_other_pages_are_refused(page: LivePage) -> None:
    port = page.url.split(":")[-1].rstrip("/")
    assert ask(page).status == ask(page, Host=f"localhost:{port}").status == 200
    for host in ("evil.example", f"127.0.0.1.evil.example:{port}", "10.0.0.7", "", "["):
        assert ask(page, Host=host).status == 421, host
    assert ask(page, "/search?text=a", Origin="http://evil.example").status == 403
    assert ask(page, "/search?text=a", Sec_Fetch_Site="cross-site").status == 403
    assert ask(page, "/", "POST", "x=1").status == 403, "something that may change, from nobody knows where"
    for origin in (None, "http://evil.example", "null", "http://127.0.0.1:1"):
        with pytest.raises(InvalidStatus):
            connect(page.url.replace("http", "ws") + "stream", origin=origin, proxy=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("headers", [{"Authorization": "Bearer wrong"}, {"Cookie": "lamplight=0"}], ids=str)
async def test_a_wrong_token_is_answered_late_wherever_it_is_shown(
    headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_node.live.guard.GUESS_S", 3600)
    guarded = Guard(Response("here"), Page(live="8080", live_token=TOKEN))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guarded), base_url="http://localhost") as client:
        guess = asyncio.create_task(client.get("/search", headers=headers))
        for _ in range(3):
            await asyncio.sleep(0.01)
            assert (await client.get("/search")).status_code == 401
            assert (await client.get("/search", headers={"Authorization": f"Bearer {TOKEN}"})).text == "here"
        assert not guess.done()
        guess.cancel()
        await asyncio.gather(guess, return_exceptions=True)


def test_with_a_token_nothing_is_seen_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_node.live.guard.GUESS_S", 0.01)
    with live_page(tmp_path, "gate", token=TOKEN, address="0.0.0.0:0") as page:
        origin = f"http://127.0.0.1:{page.url.split(':')[-1].rstrip('/')}"
        for path in ("/search?text=a", *(f"/{name}" for name in FILES), "/crop?id=1", "/nothing"):
            assert ask(page, path).status == 401, path
        with pytest.raises(InvalidStatus):
            connect(origin.replace("http", "ws") + "/stream", origin=origin, proxy=None)  # type: ignore[arg-type]
        form = ask(page)
        assert form.status == 401 and "token" in form.text and "Waiting" not in form.text
        style = re.search(r"style-src ('sha256-[^']+')", form.headers["content-security-policy"])
        assert style and "script-src" not in form.headers["content-security-policy"]
        assert "That is not it" in ask(page, "/token", "POST", "token=wrong", Origin=origin).text
        assert ask(page, "/token", "POST", f"token={TOKEN}").status == 403, "sent by another page"
        taken = ask(page, "/token", "POST", f"token={TOKEN}", Origin=origin)
        cookie = taken.headers["set-cookie"]
        assert taken.status == 303 and TOKEN not in cookie and "HttpOnly" in cookie and "SameSite=strict" in cookie
        known = {"Cookie": cookie.split(";")[0]}
        assert ask(page, **known).status == ask(page, Authorization=f"Bearer {TOKEN}").status == 200
        assert ask(page, Cookie="lamplight=0").status == 401
        with connect(origin.replace("http", "ws") + "/stream", origin=origin, proxy=None, additional_headers=known):  # type: ignore[arg-type]
            pass


def test_the_page_needs_nothing_from_elsewhere(page: LivePage) -> None:
    index = STATIC.joinpath("index.html").read_text()
    for path in ("/", *(f"/{name}" for name in FILES)):
        answer = ask(page, path)
        policy = answer.headers["content-security-policy"]
        assert answer.status == 200 and "default-src 'none'" in policy and "unsafe" not in policy
        assert not set(re.findall(r"https?://[\w.]+", answer.text)) - {"http://www.w3.org"}, path
        assert not re.search(r"innerHTML|insertAdjacent|document\.write", answer.text), path
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", index)
    assert ask(page, "/../options.py").status == ask(page, "/token.html").status == 404


# --- what it sends ---


def test_the_newest_frame_is_there_at_once_and_nothing_is_made_while_nobody_looks(page: LivePage) -> None:
    gate = camera_of(page, "gate")
    for number in range(5):
        gate.write(shown(number, "EXIT"))
    assert gate.picture is None and gate.tile is None
    with Watching(page) as browser:
        assert browser.next("hello")[0]["cameras"] == ["gate", "yard"]
        before = browser.next("before")[0]["messages"]
        assert [one["reading"]["sequence"] for one in before] == [0, 1, 2, 3, 4]
        about, images = browser.next("picture")
        assert about["reading"]["sequence"] == 4 and about["reading"]["regions"][0]["text"] == "EXIT"
        dark, lit = (np.asarray(Image.open(io.BytesIO(image))) for image in images)
        assert dark.shape == lit.shape == (64, 96, 3) and abs(lit.mean() - 44) < 2 and abs(dark.mean() - 5) < 2
        state = browser.next("state")[0]["cameras"]["gate"]
        assert state["cloud"]["connected"] is False and state["spool"]["waiting"] == 0
        browser.say(shown=1)
        gate.write(shown(5, "EXIT 12"))
        assert browser.next("reading")[0]["reading"]["sequence"] == 5
        assert browser.next("picture")[0]["reading"]["sequence"] == 5
    while page.viewers:
        time.sleep(0.01)
    assert gate.picture is None


def test_a_browser_gets_no_more_pictures_than_it_shows(page: LivePage) -> None:
    gate = camera_of(page, "gate")
    with Watching(page) as browser:
        for number in range(2):
            gate.write(shown(number))
            browser.next("picture")
        for number in range(2, 9):
            gate.write(shown(number))
        [viewer] = page.viewers
        assert not viewer.takes_pictures
        browser.next("state")
        made = gate.picture
        browser.say(shown=2)
        assert browser.next("picture")[0]["reading"]["sequence"] == 8 and gate.picture is not made


def test_a_frame_from_the_spool_is_not_shown_as_live(page: LivePage, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = camera_of(page, "gate")
    with Watching(page) as browser:
        browser.next("before")
        gate.write(shown(100))
        assert browser.next("reading")[0]["spooled"] is False
        assert browser.next("picture")[0]["reading"]["sequence"] == 100
        gate.write(shown(3, spooled=True))
        assert browser.next("reading")[0]["spooled"] is True
        assert gate.newest is not None and gate.newest.reading.id.sequence == 100
        monkeypatch.setattr(camera, "STANDS_S", -1.0)  # no live one has come for a while
        gate.write(shown(4, spooled=True))
        about, _ = browser.next("picture")
        assert about["reading"]["sequence"] == 4 and about["spooled"] is True


def test_a_camera_that_is_opened_again_shows_no_old_picture(page: LivePage) -> None:
    gate = camera_of(page, "gate")
    gate.write(shown(0))
    with Watching(page) as browser:
        assert browser.next("picture")[0]["reading"]["sequence"] == 0
        browser.say(shown=1)
        browser.say(open="yard")
        browser.next("tile")
        browser.say(shown=1)
        while gate.picture is not None:
            time.sleep(0.01)
        gate.write(shown(1))
        browser.say(open="gate")
        assert browser.next("picture")[0]["reading"]["sequence"] == 1


def test_a_failure_is_said_and_the_page_goes_on(
    page: LivePage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(page, "_states", None)
    monkeypatch.setattr(page, "_made", None)
    with Watching(page) as browser:
        browser.next("before")
        camera_of(page, "gate").write(shown(0))
        for words in ("cannot say how the node stands", "cannot show gate"):
            while words not in caplog.text:
                time.sleep(0.01)
        monkeypatch.undo()
        browser.next("state")
        assert browser.next("picture")[0]["reading"]["sequence"] == 0


def test_alerts_come_first_stay_for_those_who_come_later_and_end_with_their_sight(page: LivePage) -> None:
    gate, sight = camera_of(page, "gate"), make_sight(text="EX1T")
    with Watching(page) as browser:
        browser.next("before")
        gate.alerted(Alert("exit", sight, 1_767_225_601_000_000_000).to_json())
        alert = browser.next("alert")[0]
        assert alert["camera"] == "gate" and alert["alert"]["alert"] == "exit" and alert["alert"]["text"] == "EX1T"
        assert alert["alert"]["sight"] == sight.id and alert["alert"]["over"] is False
        assert alert["alert"]["frame"] == str(sight.best)
        gate.sights([replace(sight, ended=True), make_sight(2)])
        assert browser.next("alert")[0]["alert"]["over"] is True
    gate.alerted(Alert("taxi", make_sight(3, "TAXI", ended=True), 1_767_225_602_000_000_000).to_json())
    with Watching(page) as browser:
        messages = browser.next("before")[0]["messages"]
        found = [(one["alert"]["alert"], one["alert"]["over"]) for one in messages if one["type"] == "alert"]
        assert found == [("exit", True), ("taxi", True)]


def test_alerts_of_several_cameras_come_by_time(page: LivePage) -> None:
    for number in range(ALERTS):
        for name in ("yard", "gate"):
            camera_of(page, name).alerted(Alert("exit", make_sight(number), 2 * number + (name == "gate")).to_json())
    with Watching(page) as browser:
        raised = [one["alert"]["raised_unix_ns"] for one in browser.next("before")[0]["messages"]]
    assert raised == list(range(ALERTS, 2 * ALERTS))


def test_no_alert_overtakes_what_a_browser_begins_with(page: LivePage) -> None:
    gate = camera_of(page, "gate")
    viewer = Viewer(cast(WebSocket, None), [gate], gate)
    page.enter(viewer)
    viewer.put_alert("alert")
    assert [json.loads(str(viewer._next()))["type"] for _ in range(2)] == ["hello", "before"]
    assert viewer._next() == "alert"
    page.leave(viewer)


def test_readings_push_out_no_alert(page: LivePage) -> None:
    gate = camera_of(page, "gate")
    viewer = Viewer(cast(WebSocket, None), [gate], gate)
    viewer.put_alert("alert")
    for number in range(MOST_WAITING + 50):
        viewer.put(str(number))
    assert viewer._next() == "alert" and "dropped" in str(viewer._next()) and viewer._next() == "50"
    for number in range(3 * ALERTS):
        gate.alerted(Alert("exit", make_sight(number), 1).to_json())
    assert len(gate.alerts) == ALERTS and gate.alerts[-1].sight == f"5f0c-{3 * ALERTS - 1}"


def test_the_others_come_as_small_pictures(page: LivePage) -> None:
    camera_of(page, "yard").write(shown(0, size=(800, 400), edge="y"))
    with Watching(page) as browser:
        about, images = browser.next("tile")
        assert about["camera"] == "yard" and Image.open(io.BytesIO(images[1])).size == (320, 160)
        browser.say(open="yard")
        about, images = browser.next("picture")
        assert about["camera"] == "yard" and Image.open(io.BytesIO(images[1])).size == (800, 400)


def test_what_a_browser_may_not_say_ends_its_stream(page: LivePage) -> None:
    for message in ("{", "[]", '{"open": "cellar"}', '{"shown": 7}', "9" * 5000):
        with Watching(page) as browser:
            browser.socket.send(message)
            with pytest.raises(ConnectionClosed):
                browser.next("nothing")
    assert ask(page).status == 200


def test_a_browser_that_stops_reading_costs_nothing(page: LivePage) -> None:
    page._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)  # else the kernel takes megabytes for it
    page._server.config.ws_ping_interval = None  # 20 s without an answer and it would be gone, not stuck
    gate, host, port = camera_of(page, "gate"), "127.0.0.1", int(page.url.split(":")[-1].rstrip("/"))
    with socket.socket() as stuck, Watching(page) as browser:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect((host, port))
        stuck.sendall(
            f"GET /stream HTTP/1.1\r\nHost: {host}:{port}\r\nOrigin: http://{host}:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        while len(page.viewers) < 2:
            time.sleep(0.01)
        text = "0123456789" * 50
        for number in range(MOST_WAITING * 4):
            gate.write(shown(number, text))
            if number % 50 == 0:
                browser.next("reading")
        while browser.next("reading")[0]["reading"]["sequence"] != MOST_WAITING * 4 - 1:
            pass
        waiting = max(len(viewer._waiting) for viewer in page.viewers)
        assert waiting == MOST_WAITING and sum(viewer.dropped for viewer in page.viewers) > MOST_WAITING


@pytest.mark.parametrize("pixel_format", PixelFormat)
@pytest.mark.parametrize("color_range", ColorRange)
@pytest.mark.parametrize("color_matrix", ColorMatrix)
def test_the_quick_way_to_a_picture_agrees_with_the_exact_one(
    pixel_format: PixelFormat, color_range: ColorRange, color_matrix: ColorMatrix
) -> None:
    width, height = 34, 18
    data = np.zeros(content_size(pixel_format, width, height), np.uint8)
    image = RawImage(data, width, height, pixel_format, color_range, color_matrix)
    colors = {
        PixelFormat.YUYV: ([90, 110, 90, 150],),
        PixelFormat.RGB24: ([20, 90, 200],),
        PixelFormat.NV12: (90, [110, 150]),
    }
    for plane, value in zip(image.planes, colors.get(pixel_format, (90, 110, 150)), strict=False):
        plane[...] = value
    quick, exact = to_bgr(image, 1280)[..., ::-1].astype(int), to_rgb(image)
    assert quick.shape == exact.shape and np.abs(quick - exact).max() <= 2
    assert to_bgr(image, 17).shape == (9, 17, 3)
