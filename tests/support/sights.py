"""Sights as a tracker makes them."""

from typing import Any

from common.frame import FrameId, Priority, Route
from edge_node.sights import Sight


def make_sight(number: int = 1, text: str = "EXIT", **fields: Any) -> Sight:
    """A sight of the edge gate-1; keyword arguments replace its fields."""
    defaults: dict[str, Any] = {
        "id": f"5f0c-{number}",
        "edge": "gate-1",
        "name": "camera 0",
        "text": text,
        "confidence": 0.9,
        "score": 0.8,
        "first_unix_ns": 1_767_225_600_000_000_000,
        "last_unix_ns": 1_767_225_601_000_000_000,
        "frames": 3,
        "best": FrameId("gate-1", "5f0c", 17),
        "polygon": ((40.0, 50.0), (100.0, 50.0), (100.0, 80.0), (40.0, 80.0)),
        "size": (400, 200),
        "priority": Priority.STANDARD,
        "path": Route.CLOUD,
    }
    return Sight(**(defaults | fields))
