"""Image files: one, or a folder of them in the order of their names."""

import io
import logging
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import av
from PIL import Image

from common.errors import FrameTooLarge, SourceError
from common.packing import IMAGE_SUFFIXES, check_pixels, rgb_of
from common.pixels import PixelFormat, RawImage
from edge_node.sources.planes import native_format, to_raw
from edge_node.sources.source import Captured, SourceStatus

logger = logging.getLogger(__name__)

JPEG_MAGIC: Final = b"\xff\xd8\xff"
EXIF_ORIENTATION: Final = 0x0112


class ImageFiles:
    """Image files one after another; `total` counts those that can be read, as far as is known.

    In a series a broken file is skipped with a logged warning and counted in `status.broken`.

    Raises (from `frames`):
        SourceError: the only file, or every file, is broken.
    """

    live = False

    def __init__(self, paths: Sequence[Path], name: str, *, loop: bool = False) -> None:
        self.name, self.loop, self.status = name, loop, SourceStatus()
        self._paths = list(paths)
        self._closed = threading.Event()

    @property
    def total(self) -> int | None:
        return None if self.loop else len(self._paths) - self.status.broken

    def frames(self) -> Iterator[Captured]:
        while True:
            readable = 0
            for path in self._paths:
                if self._closed.is_set():
                    return
                try:
                    image = read_image(path)
                except SourceError as error:
                    if len(self._paths) == 1:
                        raise
                    self.status.broken += 1
                    logger.warning("skipped: %s", error)
                    continue
                readable += 1
                self.status.frames += 1
                yield Captured(image, time.time_ns(), path.name)
            if readable == 0:
                raise SourceError(f"none of the {len(self._paths)} images in {self.name} can be read")
            if not self.loop:
                return

    def close(self) -> None:
        self._closed.set()


def open_folder(folder: Path, *, loop: bool = False) -> ImageFiles:
    """The images of a folder, not of its subfolders; "2.jpg" comes before "10.jpg".

    Raises:
        SourceError: the folder cannot be read or has no images.
    """
    try:
        paths = [path for path in folder.iterdir() if is_image_name(path.name) and path.is_file()]
    except OSError as error:
        raise SourceError(f"cannot look into {folder}: {error.strerror}") from None
    if not paths:
        raise SourceError(f"{folder} has no images ({', '.join(s[1:] for s in IMAGE_SUFFIXES)}) in it")
    return ImageFiles(sorted(paths, key=natural_key), folder.name or str(folder), loop=loop)


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image; hidden ones are not, as programs write into them first."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def natural_key(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Sorts numbers in names by their value."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", path.name.lower())
    return [(0, int(number), "") if number else (1, 0, text) for number, text in parts], path.name


def read_image(path: Path) -> RawImage:
    """Read an image file, upright by its EXIF orientation.

    JPEG files that are 4:2:0, 4:2:2 or grey give their own planes, full range; everything else RGB24, as
    `packing.rgb_of` sees it.

    Raises:
        SourceError: it is missing, empty, broken, or no image.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from None
    if not content:
        raise SourceError(f"{path} is empty")
    try:
        with Image.open(io.BytesIO(content)) as image:
            check_pixels(image.width, image.height)
            if content.startswith(JPEG_MAGIC):
                planes = _jpeg_planes(content, image.getexif().get(EXIF_ORIENTATION, 1))
                if planes is not None:
                    return planes
            return RawImage.from_rgb(rgb_of(image))
    except (FrameTooLarge, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SourceError(f"{path}: {error}") from None
    except Exception as error:  # a broken file brings out errors of many kinds in Pillow's parsers
        raise SourceError(f"{path} is no image or is broken: {error}") from None


def _jpeg_planes(content: bytes, exif: Any) -> RawImage | None:
    """The planes of a whole JPEG whose format the wire knows, else None."""
    exif = exif if exif in range(1, 9) else 1
    decoder: Any = av.CodecContext.create("mjpeg", "r")
    decoder.options = {"err_detect": "explode"}
    try:
        frames = decoder.decode(av.Packet(content)) + decoder.decode(None)
    except av.FFmpegError:
        return None
    if len(frames) != 1 or native_format(frames[0], exif) in (None, PixelFormat.RGB24):
        return None
    return to_raw(frames[0], exif)
