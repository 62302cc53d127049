"""The search over kept readings (edge_node.readings), as the live page asks for it."""

import contextlib
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Final

from common.errors import LamplightError
from edge_node.readings import Found, Store, search_all, stores_in

MOST_CROPS: Final = 1000
LARGEST_CROP: Final = 4 * 1024 * 1024  # bytes


class Kept:
    """What is kept in these output folders.

    Pictures go out by the id of a reading that was found, never by a path.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._crops: OrderedDict[str, Path] = OrderedDict()
        self._lock = Lock()
        self._stores: dict[Path, list[Store]] = {}

    def search(self, text: str, *, fuzzy: bool, within_s: float, limit: int) -> list[Mapping[str, Any]] | None:
        """Readings as JSON, the best first; None where none are kept, or not yet.

        Args:
            within_s: seen in the last so many seconds; 0 = at any time.

        Raises:
            LamplightError: it cannot be searched in, with words for people.
        """
        since = time.time_ns() - int(within_s * 1e9) if within_s else None
        with self._lock:
            for folder in [folder for folder in self._folders if folder not in self._stores]:
                with contextlib.suppress(LamplightError):  # nothing has been read there
                    self._stores[folder] = stores_in(folder)
            stores = [store for some in self._stores.values() for store in some]
        if not stores:
            return None
        found = search_all(stores, text, fuzzy=fuzzy, since=since, limit=limit)
        return [self._shown(one) for one in found]

    def crop(self, id: str) -> bytes | None:
        """The JPEG of a reading that was found lately."""
        with self._lock:
            path = self._crops.get(id)
        try:
            if path is None or path.stat().st_size > LARGEST_CROP:
                return None
            return path.read_bytes()
        except OSError:
            return None

    def _shown(self, one: Found) -> Mapping[str, Any]:
        if one.crop is not None:
            with self._lock:
                self._crops[one.id] = one.crop
                self._crops.move_to_end(one.id)
                while len(self._crops) > MOST_CROPS:
                    self._crops.popitem(last=False)
        return {
            "id": one.id,
            "text": one.text,
            "spans": [list(span) for span in one.spans],
            "camera": one.edge,
            "name": one.name,
            "confidence": round(one.confidence, 4),
            "first": one.first_unix_ns,
            "last": one.last_unix_ns,
            "frames": one.frames,
            "frame": str(one.best),
            "priority": one.priority.name.lower(),
            "crop": one.crop is not None,
        }
