from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.frame import FrameId, Priority, Route
from edge_node.readings.rows import row_of
from edge_node.readings.writer import Writer
from edge_node.sights import Sight

START_NS = 1_790_000_000 * 10**9
SECOND = 10**9


@pytest.fixture
def make_sight() -> Callable[..., Sight]:
    """A sight that begins `number` seconds after START_NS."""

    def make(number: int, text: str, **fields: Any) -> Sight:
        first = fields.pop("first_unix_ns", START_NS + number * SECOND)
        defaults: dict[str, Any] = {
            "id": f"5f0c-{number}",
            "edge": "gate",
            "name": "camera 0",
            "confidence": 0.9,
            "score": 0.8,
            "last_unix_ns": first + SECOND // 2,
            "frames": 5,
            "best": FrameId("gate", "5f0c", number),
            "polygon": ((10.0, 20.0), (50.0, 20.0), (50.0, 30.0), (10.0, 30.0)),
            "size": (600, 400),
            "priority": Priority.STANDARD,
            "path": Route.CLOUD,
            "ended": True,
        }
        return Sight(text=text, first_unix_ns=first, **(defaults | fields))

    return make


@pytest.fixture
def keep(tmp_path: Path, make_sight: Callable[..., Sight]) -> Callable[..., Path]:
    """Keeps texts a second apart, or sights; returns the folder."""

    def kept(*given: str | Sight) -> Path:
        writer = Writer(tmp_path / "readings.db")
        sights = [make_sight(n, one) if isinstance(one, str) else one for n, one in enumerate(given)]
        writer.put([row_of(sight) for sight in sights])
        writer.close()
        return tmp_path

    return kept
