"""The live page: a server in a thread of its own, so that no browser ever costs the node anything but the processor."""

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

import uvicorn

from common.http_server import Server, listen
from edge_node.live.app import Search, application
from edge_node.live.camera import (
    ALERTS,
    REMEMBERED,
    Alerted,
    Camera,
    News,
    alert_message,
    reading_message,
    sight_message,
)
from edge_node.live.guard import Guard
from edge_node.live.options import Page
from edge_node.live.pictures import TILE_WIDE, Picture, picture_of, tile_of
from edge_node.live.viewer import Viewer
from edge_node.sinks import Shown

log = logging.getLogger(__name__)

PICTURE_S: Final = 0.1  # between pictures of one camera, at least
TILE_S: Final = 0.5
STATE_S: Final = 0.5
AGAIN_S: Final = 1.0  # after a failure
START_S: Final = 10.0
STOP_S: Final = 3.0


class Node(Protocol):
    """What the page asks of an edge node, in the event loop that it runs in."""

    def state(self) -> Mapping[str, Any]: ...


class LivePage:
    """Shows cameras to browsers. While none looks nothing is encoded and no node is asked.

    Args:
        search: finds kept readings; None where none are kept.

    Raises:
        PortInUse: the address cannot be listened on.
    """

    def __init__(self, settings: Page, search: Search | None = None) -> None:
        self.cameras: list[Camera] = []
        self.viewers: set[Viewer] = set()
        self._socket = listen(*settings.address, "--live")
        self._nodes: dict[str, Node] = {}
        self._node_loop: asyncio.AbstractEventLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="live pictures")
        self._fresh = asyncio.Event()
        config = uvicorn.Config(
            Guard(application(self, search), settings),
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            ws_max_size=4096,
            ws_per_message_deflate=False,  # JPEGs do not get smaller
            timeout_graceful_shutdown=1,
        )
        self._server = Server(config)
        self._thread = threading.Thread(target=self._run, name="live page", daemon=True)
        self._ready = threading.Event()

    @property
    def url(self) -> str:
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    def camera(self, name: str) -> Camera:
        """The sink for a camera, before `start`."""
        self.cameras.append(Camera(name, self._tell))
        return self.cameras[-1]

    def start(self, nodes: Mapping[str, Node]) -> None:
        """Serve; to be called in the event loop that the nodes run in. They are named as their cameras."""
        self._nodes, self._node_loop = dict(nodes), asyncio.get_running_loop()
        self._thread.start()
        self._ready.wait(START_S)
        log.warning("live page: %s", self.url)

    def stop(self) -> None:
        """End it soon, whatever browsers do; may be called again, or without `start`."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOP_S)
        self._encoder.shutdown(wait=False)
        self._socket.close()

    # --- the nodes' threads ---

    def _tell(self, camera: Camera, news: News) -> None:
        if self.viewers and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has just been closed
                self._loop.call_soon_threadsafe(self._told, camera, news)

    # --- the page's own thread ---

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception:
            log.exception("the live page has ended; the node goes on")
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(self._encode()), asyncio.create_task(self._watch())]
        self._ready.set()
        try:
            await self._server.serve([self._socket])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def enter(self, viewer: Viewer) -> None:
        """A browser came: everything that it needs to begin with."""
        self.viewers.add(viewer)  # first: what is raised from here on is told after `before`
        viewer.put_first(json.dumps({"type": "hello", "cameras": [camera.name for camera in self.cameras]}))
        known = [(camera.name, reading) for camera in self.cameras for reading in list(camera.readings)]
        known.sort(key=lambda one: one[1].captured_unix_ns)
        before = [reading_message(*one) for one in known[-REMEMBERED:]]
        before += [sight_message(camera.name, sight) for camera in self.cameras for sight in list(camera.sighted)]
        alerts = [(camera.name, alert) for camera in self.cameras for alert in camera.alerts]
        alerts.sort(key=lambda one: int(one[1].told["raised_unix_ns"]))
        before += [alert_message(*one) for one in alerts[-ALERTS:]]
        viewer.put_first(json.dumps({"type": "before", "messages": before}))
        self._fresh.set()

    def leave(self, viewer: Viewer) -> None:
        self.viewers.discard(viewer)
        self._forget()

    def _forget(self) -> None:
        """A picture that nobody waits for grows old: whoever looks again gets a new one."""
        for camera in self.cameras:
            if not self._wanted(camera):
                camera.picture = None
            if not self._wanted_small(camera):
                camera.tile = None

    def _wanted(self, camera: Camera) -> bool:
        return any(viewer.opened is camera for viewer in self.viewers)

    def _wanted_small(self, camera: Camera) -> bool:
        return any(viewer.opened is not camera for viewer in self.viewers)

    def heard(self, viewer: Viewer, message: Any) -> bool:
        """What a browser said; False when it makes no sense."""
        known = viewer.heard(message)
        self._forget()
        viewer.wake()
        self._fresh.set()
        return known

    def _told(self, camera: Camera, news: News) -> None:
        if isinstance(news, Shown):
            self._send(reading_message(camera.name, news.reading, spooled=news.spooled))
            self._fresh.set()
        elif isinstance(news, Alerted):
            text = json.dumps(alert_message(camera.name, news))
            for viewer in self.viewers:
                viewer.put_alert(text)
        else:
            for sight in news or ():
                self._send(sight_message(camera.name, sight))

    def _send(self, message: Mapping[str, Any]) -> None:
        text = json.dumps(message)
        for viewer in self.viewers:
            viewer.put(text)

    async def _encode(self) -> None:
        """Make the pictures that somebody waits for, none more often than it can be looked at."""
        while True:
            await self._fresh.wait()
            self._fresh.clear()
            for camera in self.cameras:
                try:
                    later_s = await self._encode_one(camera)
                except Exception:
                    log.exception("the live page cannot show %s; trying again", camera.name)
                    later_s = AGAIN_S
                if later_s is not None:
                    asyncio.get_running_loop().call_later(later_s, self._fresh.set)

    async def _encode_one(self, camera: Camera) -> float | None:
        """Its picture and its tile, where they are due; seconds until the next is, if that is later."""
        now_s, shown, later_s = time.monotonic(), camera.newest, float("inf")
        if shown is None:
            return None
        takers = [viewer for viewer in self.viewers if viewer.takes_pictures]
        openers = [viewer.wide for viewer in takers if viewer.opened is camera]
        if openers and _is_new(camera.picture, shown):
            if now_s >= camera.next_picture_s:
                camera.next_picture_s = now_s + PICTURE_S
                picture = await self._made(picture_of, camera, shown, max(openers))
                camera.picture = picture if self._wanted(camera) else None
            else:
                later_s = camera.next_picture_s - now_s
        if len(openers) < len(takers) and _is_new(camera.tile, shown):
            if now_s >= camera.next_tile_s:
                camera.next_tile_s = now_s + TILE_S
                tile = await self._made(tile_of, camera, shown, TILE_WIDE)
                camera.tile = tile if self._wanted_small(camera) else None
            else:
                later_s = min(later_s, camera.next_tile_s - now_s)
        return later_s if later_s < float("inf") else None

    async def _made(
        self, make: Callable[[str, Shown, int], Picture], camera: Camera, shown: Shown, wide: int
    ) -> Picture:
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._encoder, make, camera.name, shown, wide)
        except Exception:
            log.exception("a frame could not be shown on the live page")
            return Picture(shown, b"")
        finally:
            for viewer in self.viewers:
                viewer.wake()

    async def _watch(self) -> None:
        """Tell those who look how the nodes stand."""
        while True:
            try:
                await self._tell_states()
            except (TimeoutError, RuntimeError):  # a node that hangs, or has ended
                pass
            except Exception:
                log.exception("the live page cannot say how the node stands; trying again")
            await asyncio.sleep(STATE_S)

    async def _tell_states(self) -> None:
        if not self.viewers or self._node_loop is None:
            return
        asked = asyncio.run_coroutine_threadsafe(self._states(), self._node_loop)
        async with asyncio.timeout(STATE_S):
            states = await asyncio.wrap_future(asked)
        text = json.dumps({"type": "state", "unix_ms": time.time_ns() // 1_000_000, "cameras": states})
        for viewer in self.viewers:
            viewer.put_state(text)

    async def _states(self) -> dict[str, Any]:
        ended = {camera.name: camera.ended for camera in self.cameras}
        return {name: {**node.state(), "ended": ended.get(name, False)} for name, node in self._nodes.items()}


def _is_new(picture: Picture | None, shown: Shown) -> bool:
    return picture is None or picture.shown is not shown
