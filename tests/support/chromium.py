"""A headless Chromium, and how to wait for what a page shows."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
UNPACKED = ROOT / ".chromium" / "run"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = "no Chromium: install one, or sh deploy/get-chromium.sh unpacks Debian's"
TIMEOUT_S = 60.0


def chromium() -> str | None:
    """Where it is: the machine's own, or what deploy/get-chromium.sh unpacked."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or (str(UNPACKED) if UNPACKED.exists() else None)


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-dev-shm-usage"]  # as in a container
        launched = playwright.chromium.launch(executable_path=chromium(), args=flags)
        yield launched
        launched.close()


def until(holds: Callable[[], Any], what: str = "") -> Any:
    """Wait for something to be true; gives it. (Playwright's own waiting for expressions needs eval.)"""
    deadline = time.monotonic() + TIMEOUT_S
    while not (value := holds()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)
    return value


def text_of(page: Page, selector: str) -> str:
    return page.locator(selector).inner_text()
