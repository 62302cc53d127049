"""Sights to other machines: what is new, what changed, what ended."""

from collections.abc import Sequence

from edge_node.sights import Sight
from edge_node.sinks.news import News
from edge_node.sinks.outlet import Message, Outlet, close_all
from edge_node.sinks.sight_json import SCHEMA, encode, sight_to_json
from edge_node.sinks.sink import Shown


class Published:
    """Hands news of sights to every outlet; never waits for one of them."""

    def __init__(self, outlets: Sequence[Outlet]) -> None:
        self.outlets = list(outlets)
        self._news = News()

    def write(self, shown: Shown) -> None:
        """Frames are of no interest elsewhere: what is told is of sights."""

    def sights(self, changed: Sequence[Sight]) -> None:
        for sight in changed:
            news = self._news.of(sight)
            if news is not None:
                event, number = news
                body = encode({"schema": SCHEMA, "event": event, "sight": sight_to_json(sight)})
                message = Message(f"{sight.id}-{number}", body, "ended" if sight.ended else "reading")
                for outlet in self.outlets:
                    outlet.put(message)

    def close(self) -> None:
        """Delivers what waits, for a few seconds at most."""
        outlets, self.outlets = self.outlets, []
        close_all(outlets)
