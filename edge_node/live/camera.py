"""One camera on the live page: a sink that keeps the newest frame by reference, and encodes nothing itself."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from common.frame import Reading
from edge_node.live.pictures import Picture
from edge_node.sights import Sight
from edge_node.sinks import Shown, reading_to_json

REMEMBERED: Final = 200  # readings for a browser that comes later
ALERTS: Final = 50  # alerts, likewise
STANDS_S: Final = 5.0  # the newest frame, before one that was captured earlier may take its place


@dataclass(frozen=True, slots=True)
class Alerted:
    """An alert, as the object that docs/alerts.md describes, and whether its sight has ended."""

    told: Mapping[str, Any]
    over: bool

    @property
    def sight(self) -> str:
        return str(self.told["sight"]["id"])


News = Shown | Alerted | Sequence[Sight] | None
Tell = Callable[["Camera", News], None]


class Camera:
    """The sink of one node. `write`, `sights`, `alerted` and `close` are called by the node's threads; `tell` hands
    what is new to the page's, and returns at once."""

    def __init__(self, name: str, tell: Tell) -> None:
        self.name, self._tell = name, tell
        self.newest: Shown | None = None
        self._newest_s = 0.0  # monotonic, when it came
        self.readings: deque[Reading] = deque(maxlen=REMEMBERED)
        self.sighted: deque[Sight] = deque(maxlen=REMEMBERED)
        self.alerts: tuple[Alerted, ...] = ()  # the newest last
        self.ended = False
        # The page's alone:
        self.picture: Picture | None = None
        self.tile: Picture | None = None
        self.next_picture_s = self.next_tile_s = 0.0  # monotonic, when one may be encoded again

    def write(self, shown: Shown) -> None:
        if (shown.enhanced is not None or shown.dark is not None) and self._replaces(shown):
            self.newest, self._newest_s = shown, time.monotonic()
        self.readings.append(shown.reading)
        self._tell(self, shown)

    def _replaces(self, shown: Shown) -> bool:
        """Frames from the spool come between live ones; they are what is seen only while no live one comes."""
        newest = self.newest
        if newest is None or shown.reading.captured_unix_ns >= newest.reading.captured_unix_ns:
            return True
        return time.monotonic() - self._newest_s > STANDS_S  # or the clock was set back

    def sights(self, changed: Sequence[Sight]) -> None:
        self.sighted.extend(changed)
        ended = {sight.id for sight in changed if sight.ended}
        over = {alert.sight for alert in self.alerts if not alert.over} & ended
        self.alerts = tuple(replace(one, over=True) if one.sight in over else one for one in self.alerts)
        self._tell(self, changed)
        for alert in self.alerts:
            if alert.sight in over:
                self._tell(self, alert)

    def alerted(self, told: Mapping[str, Any]) -> None:
        alert = Alerted(told, bool(told["sight"]["ended"]))
        self.alerts = (*self.alerts, alert)[-ALERTS:]
        self._tell(self, alert)

    def close(self) -> None:
        self.ended = True
        self._tell(self, None)


def reading_message(camera: str, reading: Reading, *, spooled: bool = False) -> dict[str, Any]:
    return {"type": "reading", "camera": camera, "reading": reading_to_json(reading), "spooled": spooled}


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


def alert_message(camera: str, alert: Alerted) -> dict[str, Any]:
    told = alert.told
    return {
        "type": "alert",
        "camera": camera,
        "alert": {
            "id": told["id"],
            "alert": told["alert"],
            "text": told["text"],
            "confidence": told["confidence"],
            "raised_unix_ns": told["raised_unix_ns"],
            "sight": alert.sight,
            "frame": told["sight"]["best"]["frame"],
            "over": alert.over,
        },
    }
