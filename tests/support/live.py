"""A live page inside a test, with cameras that the test feeds."""

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from websockets.sync.client import ClientConnection, connect

from common.frame import FrameId, Outcome, Priority, Reading, Region, Route
from common.pixels import RawImage
from common.settings import load
from edge_node.live.app import Search
from edge_node.live.camera import Camera
from edge_node.live.options import Page
from edge_node.live.page import LivePage
from edge_node.node import EdgeNode
from edge_node.reader import Reader
from edge_node.settings import EdgeSettings
from edge_node.sinks import Shown
from edge_node.sources import open_source

SIZE = (96, 64)


@contextmanager
def live_page(
    folder: Path, *names: str, token: str = "", address: str = "0", search: Search | None = None
) -> Iterator[LivePage]:
    """A page with a camera for each name, and for each an edge node that stands still."""
    Image.new("RGB", SIZE).save(folder / "dark.png")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> LivePage:
        page = LivePage(Page(live=address, live_token=token), search)
        nodes = {}
        for name in names:
            page.camera(name)
            source = str(folder / "dark.png")
            settings = load(EdgeSettings, ["--source", source, "--edge", name, "--local", "off"], {})
            nodes[name] = EdgeNode(settings, open_source(source=source), Reader(None), [])
        page.start(nodes)
        return page

    try:
        page = asyncio.run_coroutine_threadsafe(start(), loop).result(60)
        yield page
        page.stop()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def shown(
    number: int,
    *texts: str,
    size: tuple[int, int] = SIZE,
    edge: str = "e",
    sight: bool = False,
    spooled: bool = False,
) -> Shown:
    """A frame in which these texts were read."""
    width, height = size
    regions = tuple(
        Region(((4, 8 * k), (60, 8 * k), (60, 8 * k + 7), (4, 8 * k + 7)), 0.9, text, 0.8, f"s-{text}" if sight else "")
        for k, text in enumerate(texts)
    )
    reading = Reading(
        FrameId(edge, "run", number), "camera 0", 1_760_000_000_000_000_000 + number * 100_000_000, Priority.STANDARD,
        Outcome.ENHANCED, Route.CLOUD, regions,
        latency_ns=90_000_000, stages_ns={"pack": 2_000_000, "engine": 30_000_000},
    )  # fmt: skip
    lit = np.full((height, width, 3), 40 + number % 200, np.uint8)
    return Shown(reading, lit, RawImage.from_rgb(lit // 8), spooled)


class Watching:
    """A browser's stream, without the browser."""

    def __init__(self, page: LivePage, **headers: str) -> None:
        self.socket: ClientConnection = connect(
            page.url.replace("http", "ws") + "stream", origin=page.url.rstrip("/"), proxy=None,
            additional_headers=headers, max_size=None,
        )  # fmt: skip

    def __enter__(self) -> "Watching":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def next(self, kind: str) -> tuple[dict[str, Any], Sequence[bytes]]:
        """The next message of a kind, with the dark and the lit JPEG of a picture."""
        while True:
            message = self.socket.recv(60)
            if isinstance(message, bytes):
                length = int.from_bytes(message[:4], "big")
                about, rest = json.loads(message[4 : 4 + length]), message[4 + length :]
                images = rest[: about["dark"]], rest[about["dark"] :]
            else:
                about, images = json.loads(message), ()
            if about["type"] == kind:
                return about, images

    def say(self, **message: object) -> None:
        self.socket.send(json.dumps(message))


def camera_of(page: LivePage, name: str) -> Camera:
    return next(camera for camera in page.cameras if camera.name == name)
