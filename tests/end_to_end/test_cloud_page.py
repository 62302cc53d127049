"""The cloud node's page in a real browser, fed by a real node."""

import re
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="no playwright: pip install '.[dev]'")

from chromium import MISSING, browser, chromium, text_of, until
from processes import Cloud, Process, edge_arguments, readings

pytestmark = pytest.mark.skipif(chromium() is None, reason=MISSING)


def test_the_page_shows_what_flows_and_when_the_node_is_gone(start, photos: Path, tmp_path: Path) -> None:
    node = start(Cloud, "--preset", "none", "--http", "0")
    address = next(line for line in node.lines if "health and status" in line).rpartition(" ")[2]
    out = tmp_path / "out"
    more = ("--loop", "--detector", "none", "--local", "off", "--fps", "4")
    edge = start(Process, *edge_arguments(node.address, photos, out, *more))
    edge.wait_until(lambda: len(readings(out)) >= 2)
    with browser() as launched:
        page = launched.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
        asked, wrong = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.goto(address)
        until(lambda: text_of(page, "#state") == "ready", "ready")
        until(lambda: f"edge-{out.name}" in text_of(page, "#edges"), "the edge")
        until(lambda: text_of(page, ".tile:first-child b") not in ("–", "0"), "frames a second")
        until(lambda: "lit up" in text_of(page, ".chart:first-child p"), "a chart's words")
        assert page.locator(".chart canvas").count() == 6
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, "no sideways scrolling on a phone"
        page.locator("#pause").focus()
        page.keyboard.press("Space")
        assert text_of(page, "#pause") == "Go on" and page.locator("#pause").get_attribute("aria-pressed") == "true"
        page.keyboard.press("Space")
        until(lambda: page.evaluate("points.length") >= 2, "two points")
        page.locator(".chart").first.focus()
        page.keyboard.press("ArrowLeft")
        until(lambda: re.search(r"at \d\d:\d\d:\d\d", text_of(page, ".chart:first-child p")), "the time under the keys")
        page.locator("input[value='60']").check()
        paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        page.emulate_media(color_scheme="light")
        until(lambda: page.evaluate("getComputedStyle(document.documentElement).backgroundColor") != paper, "by day")
        assert not wrong and all(url.startswith(address) for url in asked), (wrong, asked)
        assert edge.end() == 0 and node.end() == 0
        until(lambda: "no answer" in text_of(page, "#state"), "that the node is gone")
