"""The live page in a real browser: fed by the test, and by a real edge node with a real cloud node."""

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from chromium import MISSING, TIMEOUT_S, browser, chromium, text_of, until
from cut import Cuttable
from live import camera_of, live_page, shown
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page
from processes import ROOT, Cloud, Process, edge_arguments
from sights import make_sight

from common.frame import FrameId, Priority, Route
from edge_node.alerts.alert import Alert
from edge_node.live.kept import Kept
from edge_node.sights import Sight

pytestmark = pytest.mark.skipif(chromium() is None, reason=MISSING)

MARKUP = '<img src=x onerror="window.harmed = 1"><script>window.harmed = 2</script>'


@pytest.fixture(scope="module")
def launched() -> Iterator[Browser]:
    with browser() as made:
        yield made


@pytest.fixture
def context(launched: Browser) -> Iterator[BrowserContext]:
    made = launched.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce", has_touch=True)
    made.set_default_timeout(TIMEOUT_S * 1000)
    yield made
    made.close()


def opened(context: BrowserContext, url: str) -> Page:
    page = context.new_page()
    page.errors = []  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: page.errors.append(str(error)))  # type: ignore[attr-defined]
    page.on("console", lambda said: page.errors.append(said.text) if "Content Security" in said.text else None)  # type: ignore[attr-defined]
    page.goto(url)
    page.locator("#stage.filled").wait_for()
    return page


def split(page: Page) -> int:
    return int(page.locator("#handle").get_attribute("aria-valuenow") or -1)


def light_at(page: Page, canvas: str) -> float:
    """Mean of a canvas' pixels, 0..255."""
    return page.evaluate(
        "id => { const c = document.getElementById(id);"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "return d.reduce((sum, v, i) => sum + (i % 4 < 3 ? v : 0), 0) / (d.length / 4 * 3) }",
        canvas,
    )


def test_real_frames_flow_and_a_lost_cloud_shows_and_recovers(
    context: BrowserContext, cloud: Cloud, start: Callable[..., Process], tmp_path: Path
) -> None:
    link = Cuttable(cloud.address)
    clip = ROOT / "deploy/demo/night.mp4"
    flags = ("--loop", "--fps", "5", "--live", "0", "--local", "off", "--detector", "none")
    edge = start(Process, *edge_arguments(link.address, clip, tmp_path / "out", *flags))
    page = opened(context, edge.wait_for(r"live page: (\S+)").group(1))
    frames = lambda: int(page.locator("#stage").get_attribute("data-frames") or 0)  # noqa: E731
    until(lambda: frames() >= 3, "frames")
    assert light_at(page, "lit") > 2 * light_at(page, "dark") > 0
    until(lambda: "lit up" in text_of(page, "#waterfall") and "on the way" in text_of(page, "#waterfall"), "stages")
    until(lambda: link.address in text_of(page, "#facts"), "the address of the cloud node")
    assert page.locator("#banner").is_hidden() and "good" in (
        page.locator("#chips li").first.get_attribute("class") or ""
    )

    link.cut()
    until(lambda: "No cloud node answers" in text_of(page, "#banner"), "that the cloud is away")
    assert "away" in text_of(page, "#chips")
    link.mend()
    until(lambda: page.locator("#banner").is_hidden(), "that the cloud is back")
    before = frames()
    until(lambda: frames() > before, "frames after that")

    edge.end(signal.SIGKILL)
    until(lambda: "does not answer" in text_of(page, "#banner"), "that the edge node is away")
    assert light_at(page, "lit") > 0 and not page.errors  # type: ignore[attr-defined]
    link.close()


def test_the_divider_moves_by_pointer_touch_and_keyboard(context: BrowserContext, tmp_path: Path) -> None:
    with live_page(tmp_path, "gate") as served:
        camera_of(served, "gate").write(shown(0, "EXIT", size=(600, 400)))
        page = opened(context, served.url)
        stage = page.locator("#stage").bounding_box()
        assert stage is not None and split(page) == 50
        at = lambda part: (stage["x"] + stage["width"] * part, stage["y"] + stage["height"] / 2)  # noqa: E731
        page.mouse.move(*at(0.5))
        page.mouse.down()
        page.mouse.move(*at(0.25), steps=4)
        page.mouse.up()
        assert split(page) == 25 and page.locator("#handle").evaluate("one => one === document.activeElement")
        page.touchscreen.tap(*at(0.75))
        assert split(page) == 75
        page.keyboard.press("ArrowLeft")
        assert split(page) == 73
        page.keyboard.press("Home")
        assert split(page) == 0 and page.locator("#lit").evaluate("one => getComputedStyle(one).clipPath") != "none"
        assert "100 % lit up" in (page.locator("#handle").get_attribute("aria-valuetext") or "")
        assert page.locator("#labels span").all_inner_texts() == ["EXIT"]
        page.keyboard.press("b")
        assert page.locator("#labels").is_hidden()
        page.set_viewport_size({"width": 375, "height": 812})
        assert page.evaluate("document.documentElement.scrollWidth") == 375, "nothing is cut off on a phone"


def test_alerts_are_marked_listed_and_said_aloud(context: BrowserContext, tmp_path: Path) -> None:
    with live_page(tmp_path, "gate", "yard") as served:
        gate, yard = camera_of(served, "gate"), camera_of(served, "yard")
        gate.write(shown(0, "EX1T", "TAXI", size=(600, 400), sight=True))
        yard.write(shown(0, MARKUP, size=(600, 400), edge="y", sight=True))
        page = opened(context, served.url)
        assert page.locator("#alerts").is_hidden() and page.locator("#boxes .alert").count() == 0
        sight = make_sight(text="EX1T", id="s-EX1T", best=FrameId("e", "run", 0))
        gate.alerted(Alert("exit", sight, time.time_ns()).to_json())
        rows = page.locator("#alerts-list li")
        until(lambda: rows.count() == 1, "the alert")
        assert "exit, read as EX1T" in rows.first.inner_text() and "in sight" in rows.first.inner_text()
        said = page.locator("#alerts-said")
        assert said.get_attribute("role") == "alert" and "Alert: exit" in (said.text_content() or "")
        assert page.locator("#boxes .line.alert").count() == 1 and page.locator("#boxes .line").count() == 2
        assert page.locator("#labels .alert").all_inner_texts() == ["Alert: exit"]
        until(lambda: "alert: exit" in text_of(page, "#list .alerted .meta"), "its reading marked")

        other = make_sight(text=MARKUP, id=f"s-{MARKUP}", edge="yard", best=FrameId("y", "run", 0))
        yard.alerted(Alert("/img/", other, time.time_ns()).to_json())
        until(lambda: rows.count() == 2, "the other camera's")
        assert MARKUP in rows.first.inner_text() and page.evaluate("window.harmed") is None
        assert page.locator("#tiles .alerted .alert").all_inner_texts() == ["Alert: exit", "Alert: /img/"]
        rows.first.locator("button").click()
        until(lambda: page.locator("#edge").inner_text() == "yard", "its camera, opened from the list")
        until(lambda: page.locator("#boxes .line.alert").count() == 1, "marked there")

        gate.sights([replace(sight, ended=True)])
        until(lambda: "gone" in rows.nth(1).inner_text(), "that it is out of sight")
        assert page.locator("#tiles .alerted").count() == 1
        page.set_viewport_size({"width": 375, "height": 812})
        assert page.evaluate("document.documentElement.scrollWidth") == 375, "nothing is cut off on a phone"
        page.locator("#alerts-seen").press("Enter")
        assert page.locator("#alerts").is_hidden()
        for number in range(5):
            gate.alerted(Alert("taxi", make_sight(number, "TAXI"), time.time_ns()).to_json())
        until(lambda: text_of(page, "#alerts-title") == "5 alerts", "new ones")
        assert rows.count() == 3
        page.locator("#alerts-all").click()
        assert rows.count() == 5 and page.locator("#alerts-all").get_attribute("aria-expanded") == "true"
        page.locator("body").press("d")
        assert page.locator("#alerts").is_hidden() and not page.errors  # type: ignore[attr-defined]
        served_again = context.new_page()
        served_again.goto(served.url)
        until(lambda: text_of(served_again, "#alerts-title") == "7 alerts", "those from before, for who comes later")
        assert served_again.locator("#alerts-said").text_content() == "", "and they are not said as if they were new"


def test_alerts_of_an_edge_node_that_started_again_are_over_and_the_focus_stays(
    context: BrowserContext, tmp_path: Path
) -> None:
    with live_page(tmp_path, "gate", "yard") as served:
        gate, port = camera_of(served, "gate"), served.url.rstrip("/").split(":")[-1]
        gate.write(shown(0, "EXIT", sight=True))
        page = opened(context, f"{served.url}#gate")
        gate.alerted(Alert("exit", make_sight(text="EXIT"), time.time_ns()).to_json())
        rows, again = page.locator("#alerts-list li"), page.locator("#alerts-again")
        until(lambda: rows.count() == 1 and page.locator("#tiles .alerted").count() == 1, "the alert")
        page.keyboard.press("d")
        assert page.locator("#alerts").is_hidden() and again.is_visible()
        assert page.evaluate("document.activeElement.id") == "alerts-again"
        again.click()
        assert rows.count() == 1 and page.locator("#alerts").is_visible() and again.is_hidden()
        rows.first.locator("button").focus()
        gate.alerted(Alert("taxi", make_sight(2, "TAXI"), time.time_ns()).to_json())
        until(lambda: rows.count() == 2, "another")
        assert "EXIT" in page.evaluate("document.activeElement.textContent"), "the focus stays where it was"
    with live_page(tmp_path, "gate", "yard", address=port) as served:
        camera_of(served, "yard").alerted(Alert("late", make_sight(3, "LATE"), time.time_ns()).to_json())
        until(lambda: rows.count() == 3, "the one that was missed")
        assert "late" in (page.locator("#alerts-said").text_content() or "").lower()
        assert page.locator("#tiles .alerted .alert").all_inner_texts() == ["Alert: late"]
        assert page.locator("#alerts-list li.over").count() == 2 and not page.errors  # type: ignore[attr-defined]


def test_an_alert_that_was_let_go_of_does_not_come_back_as_new(context: BrowserContext, tmp_path: Path) -> None:
    with live_page(tmp_path, "gate", "yard") as served:
        gate, yard, first = camera_of(served, "gate"), camera_of(served, "yard"), make_sight(1, "EXIT")
        gate.write(shown(0))
        page = opened(context, f"{served.url}#gate")
        now_ns = time.time_ns()
        gate.alerted(Alert("exit", first, now_ns).to_json())
        for number in range(50):
            yard.alerted(Alert("taxi", make_sight(2 + number, "TAXI"), now_ns + (1 + number) * 1_000_000).to_json())
        until(lambda: text_of(page, "#alerts-title") == "50 alerts", "the newest fifty")
        gate.sights([replace(first, ended=True)])
        yard.alerted(Alert("late", make_sight(99, "LATE"), now_ns + 100_000_000).to_json())
        until(lambda: "LATE" in text_of(page, "#alerts-list"), "the one after it")
        page.locator("#alerts-all").click()
        assert "EXIT" not in text_of(page, "#alerts-list")
        assert "late" in (page.locator("#alerts-said").text_content() or "").lower()


def test_a_thousand_readings_stay_few_in_the_document_and_markup_is_text(
    context: BrowserContext, tmp_path: Path
) -> None:
    with live_page(tmp_path, "gate", "yard") as served:
        gate = camera_of(served, "gate")
        gate.write(shown(0, MARKUP))
        page = opened(context, served.url)
        rows = page.locator("#list .text")
        until(lambda: rows.count() == 1, "the first row")
        assert rows.first.text_content() == page.locator("#labels span").inner_text() == MARKUP
        for number in range(1, 1500):
            gate.write(shown(number, f"PLATE {number}", sight=True))
        until(lambda: rows.first.text_content() == "PLATE 1499", "the last one")
        assert rows.count() == 60 and page.evaluate("document.querySelectorAll('*').length") < 900
        page.locator("#more").click()
        until(lambda: rows.count() == 120, "older ones")
        assert rows.nth(119).text_content() == "PLATE 1380"
        page.locator("#query").fill("plate 149")  # nothing is kept here: it looks through what it has seen
        found = page.locator("#found .text")
        until(lambda: found.count() == 10, "what matches")
        page.keyboard.press("Escape")
        until(lambda: page.locator("#found").is_hidden(), "the list again")
        page.locator("body").press("2")
        until(lambda: "yard" in page.title(), "the other camera")
        assert page.evaluate("window.harmed") is None and not page.errors  # type: ignore[attr-defined]


HIDDEN = "on => { Object.defineProperty(document, 'hidden', { configurable: true, get: () => on });"
HIDDEN += "document.dispatchEvent(new Event('visibilitychange')) }"


@pytest.mark.parametrize("held", [False, True])
def test_a_page_in_the_background_gets_no_more_pictures(context: BrowserContext, tmp_path: Path, held: bool) -> None:
    with live_page(tmp_path, "gate", "yard") as served:
        cameras = [camera_of(served, name) for name in ("gate", "yard")]
        for camera in cameras:
            camera.write(shown(0))
        page = opened(context, served.url)
        if held:
            page.locator("#pause").click()
        page.evaluate(HIDDEN, True)
        [viewer] = served.viewers
        made: set[object] = set()
        for number in range(1, 40):
            for camera in cameras:
                camera.write(shown(number, "EXIT"))
            page.evaluate("1")  # whatever it would have said by now was said
            time.sleep(0.05)
            made.update((camera.picture, camera.tile) for camera in cameras)
        assert not viewer.takes_pictures and len(made) < 10, "what nobody sees is not made"
        page.evaluate(HIDDEN, False)
        until(lambda: viewer.takes_pictures, "that it asks again")
        if not held:
            until(lambda: page.locator("#stage").get_attribute("data-frame") == "e/run/39", "the newest")
        assert served.viewers == {viewer} and not page.errors  # type: ignore[attr-defined]


def test_an_address_that_cannot_be_decoded_opens_the_first_camera(context: BrowserContext, tmp_path: Path) -> None:
    with live_page(tmp_path, "gate") as served:
        camera_of(served, "gate").write(shown(0))
        page = opened(context, f"{served.url}#50%")
        assert "gate" in page.title() and not page.errors  # type: ignore[attr-defined]


def test_the_token_opens_it(context: BrowserContext, tmp_path: Path) -> None:
    with live_page(tmp_path, "gate", token="lantern-over-water", address="0.0.0.0:0") as served:
        camera_of(served, "gate").write(shown(0))
        page = context.new_page()
        page.goto(served.url.replace("0.0.0.0", "127.0.0.1"))
        page.locator("input").fill("a guess")
        page.locator("button").click()
        page.locator("[role=alert]").wait_for()
        page.locator("input").fill("lantern-over-water")
        page.locator("button").click()
        page.locator("#stage.filled").wait_for()


def test_search_finds_what_is_kept(context: BrowserContext, tmp_path: Path) -> None:
    pytest.importorskip("edge_node.readings")
    from edge_node.readings.rows import row_of
    from edge_node.readings.writer import Writer

    writer = Writer(tmp_path / "readings.db")
    now = time.time_ns()
    for number, text in enumerate(("EXIT 12", "ROSENGASSE", MARKUP)):
        frame, age_ns = FrameId("gate", "run", number), number * 3600 * 10**9
        sight = Sight(
            f"run-{number}", "gate", "camera 0", text, 0.9, 0.9, now - age_ns - 10**9, now - age_ns, 7, frame,
            ((0, 0), (60, 0), (60, 20), (0, 20)), (96, 64), Priority.STANDARD, Route.CLOUD, True,
        )  # fmt: skip
        Image.new("RGB", (60, 20), "white").save(tmp_path / f"{number}.jpg")
        writer.put([{**row_of(sight), "crop": f"{number}.jpg", "crop_bytes": 600}])
    writer.close()
    with live_page(tmp_path, "gate", search=Kept([tmp_path])) as served:
        camera_of(served, "gate").write(shown(0))
        page = opened(context, served.url)
        found = page.locator("#found .text")
        page.locator("body").press("/")
        page.keyboard.type("exit")
        until(lambda: found.all_inner_texts() == ["EXIT 12"], "what was looked for")
        assert page.locator("#found mark").all_inner_texts() == ["EXIT"]
        picture = page.locator("#found img")
        until(lambda: picture.evaluate("one => one.naturalWidth") == 60, "its picture")
        page.locator("#query").fill("R0SENGASSE")
        until(lambda: found.all_inner_texts() == ["ROSENGASSE"], "what is close")
        page.locator("#within").select_option("3600")
        until(lambda: "Nothing like that" in text_of(page, "#told"), "that it was long ago")
        page.locator("#within").select_option("0")
        page.locator("#query").fill("onerror")
        until(lambda: found.all_inner_texts() == [MARKUP], "markup, as text")
        assert page.evaluate("window.harmed") is None and not page.errors  # type: ignore[attr-defined]
