"""One camera on the live page: a sink that keeps the newest frame by reference, and encodes nothing itself."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from common.frame import Reading
from edge_node.live.pictures import Picture
from edge_node.sights import Sight
from edge_node.sinks import Shown, reading_to_json

REMEMBERED: Final = 200  # readings for a browser that comes later

Tell = Callable[["Camera", "Reading | Sequence[Sight] | None"], None]


class Camera:
    """The sink of one node. `write`, `sights` and `close` are called by the node's threads; `tell` hands what is new
    to the page's, and returns at once."""

    def __init__(self, name: str, tell: Tell) -> None:
        self.name, self._tell = name, tell
        self.newest: Shown | None = None
        self.readings: deque[Reading] = deque(maxlen=REMEMBERED)
        self.sighted: deque[Sight] = deque(maxlen=REMEMBERED)
        self.ended = False
        # The page's alone:
        self.picture: Picture | None = None
        self.tile: Picture | None = None
        self.next_picture_s = self.next_tile_s = 0.0  # monotonic, when one may be encoded again

    def write(self, shown: Shown) -> None:
        if shown.enhanced is not None or shown.dark is not None:
            self.newest = shown
        self.readings.append(shown.reading)
        self._tell(self, shown.reading)

    def sights(self, changed: Sequence[Sight]) -> None:
        self.sighted.extend(changed)
        self._tell(self, changed)

    def close(self) -> None:
        self.ended = True
        self._tell(self, None)

    def forget(self) -> None:
        """Nobody looks any more."""
        self.picture = self.tile = None


def reading_message(camera: str, reading: Reading) -> dict[str, Any]:
    return {"type": "reading", "camera": camera, "reading": reading_to_json(reading)}


def sight_message(camera: str, sight: Sight) -> dict[str, Any]:
    return {
        "type": "sight",
        "camera": camera,
        "sight": {
            "id": sight.id,
            "text": sight.text,
            "confidence": round(sight.confidence, 4),
            "first_unix_ns": sight.first_unix_ns,
            "last_unix_ns": sight.last_unix_ns,
            "frames": sight.frames,
            "priority": sight.priority.name.lower(),
            "ended": sight.ended,
        },
    }
