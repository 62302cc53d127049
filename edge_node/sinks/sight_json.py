"""Sights as they go out: versioned JSON that is plain ASCII, whatever the text says; the schema is in docs/sinks.md."""

import json
import math
from typing import Any, Final

from common.printable import printable
from edge_node.sights import Sight

SCHEMA: Final = 1
LONGEST_TEXT: Final = 2000  # characters: what is longer is no sign, and every broker and pipe takes this


def sight_to_json(sight: Sight) -> dict[str, Any]:
    """A sight as an object."""
    return {
        "id": sight.id,
        "edge": sight.edge,
        "name": printable(sight.name)[:LONGEST_TEXT],
        "text": sight.text[:LONGEST_TEXT],
        "confidence": rounded(sight.confidence, 4),
        "score": rounded(sight.score, 4),
        "first_unix_ns": sight.first_unix_ns,
        "last_unix_ns": sight.last_unix_ns,
        "frames": sight.frames,
        "priority": sight.priority.name.lower(),
        "path": sight.path.value,
        "ended": sight.ended,
        "best": {
            "frame": str(sight.best),
            "size": list(sight.size),
            "polygon": [[rounded(x, 2), rounded(y, 2)] for x, y in sight.polygon],
        },
    }


def encode(event: dict[str, Any]) -> bytes:
    """An object as one line of JSON. Control characters, markup and lone surrogates are data in it, and no more."""
    return json.dumps(event, ensure_ascii=True, allow_nan=False).encode("ascii")


def rounded(value: float, digits: int) -> float | None:
    """None for NaN and infinity, which JSON does not have."""
    return round(float(value), digits) if math.isfinite(value) else None
