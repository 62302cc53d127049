"""The best view of a sight as a JPEG: sights/YYYY-MM-DD/ID.jpg in the output folder."""

import contextlib
import io
import logging
import time
from pathlib import Path
from typing import Final

from PIL import Image

from common.frame import FrameId
from common.pixels import Bytes
from edge_node import machine
from edge_node.sights import Sight
from edge_node.sinks.annotated_images import safe_stem

log = logging.getLogger(__name__)

FOLDER: Final = "sights"
QUALITY: Final = 85
BLOCK_BYTES: Final = 4096  # of most file systems: a picture takes whole ones, and half of many is air


class Crops:
    """Writes the best views, each once.

    Args:
        folder: of the output.
        min_free_mib: none while the disk has less room; 0 = no bound.
    """

    def __init__(self, folder: Path, min_free_mib: float) -> None:
        self._folder, self._min_free_mib = folder, min_free_mib
        self._kept: dict[str, FrameId] = {}  # sight id: the best view that its row has

    def keep(self, sight: Sight) -> tuple[str, int]:
        """The path of its crop in the folder, and what it takes on the disk, bytes; nothing where its row has it, or it
        cannot be kept."""
        is_new = self._kept.get(sight.id) != sight.best
        if sight.crop is not None and sight.crop.size and is_new and self._has_room():
            try:
                path, size = keep_crop(self._folder, sight.id, sight.first_unix_ns, sight.crop)
                return path, -(-size // BLOCK_BYTES) * BLOCK_BYTES
            except OSError as error:
                log.debug("no picture of sight %s: %s", sight.id, error)
        return "", 0

    def written(self, sight: Sight, crop: str) -> None:
        """Its row is written, with that crop."""
        if sight.ended:
            self._kept.pop(sight.id, None)
        elif crop:
            self._kept[sight.id] = sight.best

    def forget(self) -> None:
        """There is another database, whose rows have none of them."""
        self._kept.clear()

    def _has_room(self) -> bool:
        with contextlib.suppress(OSError):
            return machine.free_mib(self._folder) >= self._min_free_mib
        return True


def keep_crop(folder: Path, id: str, first_unix_ns: int, crop: Bytes) -> tuple[str, int]:
    """Write it, whole or not at all; an earlier one of the same sight is replaced.

    Args:
        folder: of the output.
        crop: (H, W, 3) uint8 RGB.

    Returns:
        Its path in the folder, and its bytes.

    Raises:
        OSError: it cannot be written.
    """
    content = io.BytesIO()
    Image.fromarray(crop).save(content, "JPEG", quality=QUALITY)
    day = time.strftime("%Y-%m-%d", time.localtime(first_unix_ns / 1e9))
    name = f"{FOLDER}/{day}/{safe_stem(id)}.jpg"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    try:
        beside.write_bytes(content.getvalue())
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    return name, len(content.getvalue())


def remove_crop(folder: Path, name: str) -> None:
    """Remove one, and the folder of its day if it was the last; one that is gone is gone."""
    path = folder / name
    if not path.resolve().is_relative_to((folder / FOLDER).resolve()):
        return  # a database that someone else wrote
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()


def old_files(folder: Path, before_s: float) -> list[str]:
    """Pictures, and what is left of half written ones, of the days' folders: those last written before a unix time;
    relative to the output folder."""
    found = []
    for path in (folder / FOLDER).glob("????-??-??/*"):
        with contextlib.suppress(OSError):
            if path.suffix in (".jpg", ".new") and path.stat().st_mtime < before_s:
                found.append(path.relative_to(folder).as_posix())
    return found
