"""One browser: what is to be sent to it, bounded, the oldest dropped. It says when it has shown a picture."""

import asyncio
import json
from collections import deque
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from edge_node.live.camera import Camera
from edge_node.live.pictures import MOST_WIDE, Picture

MOST_WAITING: Final = 500  # readings
MOST_ALERTS: Final = 100
MOST_UNSHOWN: Final = 2  # pictures on their way to be shown
STEP_WIDE: Final = 160  # pixels: a window that changes a little changes nothing


class Viewer:
    """Sends in a task of its own, so that a browser that stops reading holds up nobody.

    Args:
        opened: the camera whose pictures it gets; of the others it gets tiles.

    Attributes:
        wide: how many pixels of a picture's width it can show.
    """

    def __init__(self, socket: WebSocket, cameras: list[Camera], opened: Camera) -> None:
        self.opened, self.wide, self.dropped = opened, MOST_WIDE, 0
        self._socket, self._cameras = socket, cameras
        self._first: deque[str] = deque()
        self._waiting: deque[str] = deque()
        self._alerts: deque[str] = deque(maxlen=MOST_ALERTS)
        self._state = ""
        self._unshown = 0
        self._sent: dict[tuple[str, str], Picture] = {}  # by camera and kind
        self._news = asyncio.Event()

    @property
    def takes_pictures(self) -> bool:
        return self._unshown < MOST_UNSHOWN

    def put(self, text: str) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(text)
        self._news.set()

    def put_first(self, text: str) -> None:
        """What it begins with: nothing overtakes it, nothing pushes it out."""
        self._first.append(text)
        self._news.set()

    def put_alert(self, text: str) -> None:
        """Before all but what it begins with, and no reading pushes it out."""
        self._alerts.append(text)
        self._news.set()

    def put_state(self, text: str) -> None:
        """Only the newest waits."""
        self._state = text
        self._news.set()

    def wake(self) -> None:
        """There may be a new picture."""
        self._news.set()

    def heard(self, message: Any) -> bool:
        """What the browser said; False when it makes no sense."""
        match message:
            case {"shown": int(count)} if 0 < count <= self._unshown:
                self._unshown -= count
            case {"wide": int(wide)} if 0 < wide:
                self.wide = min(MOST_WIDE, -(-wide // STEP_WIDE) * STEP_WIDE)
            case {"open": str(name)} if any(camera.name == name for camera in self._cameras):
                self.opened = next(camera for camera in self._cameras if camera.name == name)
                self._sent.pop((name, "picture"), None)
            case _:
                return False
        return True

    async def send(self) -> None:
        """Until the browser is gone."""
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                while (message := self._next()) is not None:
                    if isinstance(message, str):
                        await self._socket.send_text(message)
                    else:
                        await self._socket.send_bytes(message)
        except (WebSocketDisconnect, RuntimeError, OSError):  # uvicorn's or Starlette's words for "it is gone"
            return

    def _next(self) -> str | bytes | None:
        if self._first:
            return self._first.popleft()
        if self._alerts:
            return self._alerts.popleft()
        if self.dropped:
            count, self.dropped = self.dropped, 0
            return json.dumps({"type": "dropped", "count": count})
        if self._state:
            state, self._state = self._state, ""
            return state
        if self._waiting:
            return self._waiting.popleft()
        return self._next_picture() if self.takes_pictures else None

    def _next_picture(self) -> bytes | None:
        for camera in (self.opened, *self._cameras):
            kind = "picture" if camera is self.opened else "tile"
            picture = camera.picture if kind == "picture" else camera.tile
            if picture is not None and picture.message and self._sent.get((camera.name, kind)) is not picture:
                self._sent[camera.name, kind] = picture
                self._unshown += 1
                return picture.message
        return None
