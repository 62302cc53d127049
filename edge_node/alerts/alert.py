"""An alert, and what is told of it; the schema is in docs/alerts.md."""

import hashlib
import time
from dataclasses import dataclass
from typing import Any

from common.printable import printable
from edge_node.sights import Sight
from edge_node.sinks.outlet import Message
from edge_node.sinks.sight_json import LONGEST_TEXT, SCHEMA, encode, sight_to_json


@dataclass(frozen=True, slots=True)
class Alert:
    """A pattern was found in a sight."""

    pattern: str
    sight: Sight
    raised_unix_ns: int

    @property
    def id(self) -> str:
        """The same for the same pattern in the same sight."""
        return f"{self.sight.id}-{hashlib.sha256(self.pattern.encode('utf-8', 'replace')).hexdigest()[:8]}"

    @property
    def words(self) -> str:
        """As people see it, safe to print."""
        text = printable(self.sight.text)
        return f"{printable(self.pattern)}: {text if len(text) <= 60 else text[:59] + '…'}"

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "event": "alert",
            "id": self.id,
            "alert": self.pattern[:LONGEST_TEXT],
            "text": self.sight.text[:LONGEST_TEXT],
            "confidence": sight_to_json(self.sight)["confidence"],
            "raised_unix_ns": self.raised_unix_ns,
            "sight": sight_to_json(self.sight),
        }


def message_of(told: dict[str, Any]) -> Message:
    """What is sent of an alert's JSON; as old as the alert."""
    age_s = max(0.0, time.time() - told["raised_unix_ns"] / 1e9)
    return Message(str(told["id"]), encode(told), "alert", time.monotonic() - age_s)
