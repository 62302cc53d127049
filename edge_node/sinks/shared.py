"""One sink for several nodes."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from edge_node.sights import Sight, SightSink
from edge_node.sinks.sink import AlertSink, Shown, Sink


class SharedSink:
    """Hands on what several nodes write, one at a time. Whoever made the sink behind it closes that."""

    def __init__(self, sink: Sink) -> None:
        self._sink, self._lock = sink, threading.Lock()

    def write(self, shown: Shown) -> None:
        with self._lock:
            self._sink.write(shown)

    def alerted(self, told: Mapping[str, Any]) -> None:
        if isinstance(self._sink, AlertSink):
            with self._lock:
                self._sink.alerted(told)

    def sights(self, changed: Sequence[Sight]) -> None:
        if isinstance(self._sink, SightSink):
            with self._lock:
                self._sink.sights(changed)

    def close(self) -> None:
        """One node has ended; the others write on."""
