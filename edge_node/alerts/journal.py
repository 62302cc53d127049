"""alerts.jsonl: each alert, and each that arrived where it was to go, so that what did not is sent by the next run."""

import json
import logging
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from common.errors import SettingsError
from edge_node.record import Bound, earlier
from edge_node.sinks.json_lines import JsonLines

log = logging.getLogger(__name__)

LOOKED_AT_BYTES: Final = 1 << 20  # of the record's end, at the start
BOUND: Final = Bound(mib=16)
OLDEST_S: Final = 24 * 3600.0  # what could not be delivered for so long is of no use any more
MOST: Final = 500


class Journal:
    """Appends to a file; from any thread.

    Raises:
        SettingsError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        self._lines = JsonLines(path, unit="alerts", bound=BOUND)

    def raised(self, told: dict[str, Any]) -> None:
        with self._lock:
            self._lines.append(told)

    def delivered(self, alert: str, to: str) -> None:
        with self._lock:
            self._lines.append({"event": "delivered", "id": alert, "to": to, "unix_ns": time.time_ns()})

    def undelivered(self, ways: Collection[str]) -> dict[str, list[dict[str, Any]]]:
        """By way: alerts of the last hours that are not known to have arrived there; the oldest first."""
        alerts: dict[str, dict[str, Any]] = {}
        arrived: set[tuple[str, str]] = set()
        for line in _last_lines(self.path):
            try:
                told = json.loads(line)
                if told["event"] == "delivered":
                    arrived.add((told["id"], told["to"]))
                elif time.time_ns() - told["raised_unix_ns"] < OLDEST_S * 1e9:
                    alerts[told["id"]] = told
            except (ValueError, TypeError, KeyError):  # cut off by a crash, or edited
                continue
        return {way: [told for name, told in alerts.items() if (name, way) not in arrived][-MOST:] for way in ways}

    def close(self) -> None:
        with self._lock:
            self._lines.close()


def _last_lines(path: Path) -> list[bytes]:
    end = b""
    try:
        for each in (path, *(before for before, _ in reversed(earlier(path)))):
            with each.open("rb") as file:
                left = LOOKED_AT_BYTES - len(end)
                file.seek(max(0, file.seek(0, 2) - left))
                end = file.read(left) + end
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None
    return end.splitlines()
