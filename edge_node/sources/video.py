"""Video files, as fast as the node takes them."""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import av

from common.errors import SourceError
from edge_node.sources.planes import frame_exif, to_raw
from edge_node.sources.source import Captured, SourceStatus

logger = logging.getLogger(__name__)

TEXT_FORMATS: Final = {"tty", "bin", "adf", "idf", "xbin"}  # FFmpeg would draw any text file as a video


class VideoFile:
    """Frames of a video file; `total` is what the file's index says, None where it has none.

    A damaged or cut-off file gives the frames it has, then a logged warning.

    Raises:
        SourceError: it is empty, no video, cut off before its index, or cannot be read.
    """

    live = False

    def __init__(self, path: Path, *, loop: bool = False) -> None:
        self.path, self.name, self.loop, self.status = path, path.name, loop, SourceStatus()
        self._container = open_video(path)
        self._lock = threading.Lock()
        self._started = False
        self._closed = threading.Event()
        self.total: int | None = None if loop else self._container.streams.video[0].frames or None

    def frames(self) -> Iterator[Captured]:
        with self._lock:
            if self._closed.is_set():
                return
            self._started = True
        try:
            while True:
                number = 0
                for frame in self._decode():
                    self.status.frames += 1
                    yield Captured(to_raw(frame, frame_exif(frame)), time.time_ns(), f"{self.name}#{number}")
                    number += 1
                if self._closed.is_set():
                    return
                if number == 0:
                    raise SourceError(f"no frame of {self.path} can be decoded: it is damaged or cut off")
                if not self.loop:
                    return
                self._container.close()
                self._container = open_video(self.path)
        finally:
            self._closed.set()
            self._container.close()

    def close(self) -> None:
        with self._lock:  # once started, only the reading thread closes the container
            if not self._started and not self._closed.is_set():
                self._container.close()
            self._closed.set()

    def _decode(self) -> Iterator[Any]:
        """Frames until the end, `close`, or damage that cannot be passed; warns of what is missing."""
        stream = self._container.streams.video[0]
        duration_s = (self._container.duration or 0) / av.time_base
        frame_s = float(1 / (stream.average_rate or 25))
        start_s = float((stream.start_time or 0) * stream.time_base)
        count, damaged, end_s, problem = 0, 0, 0.0, ""
        try:
            for packet in self._container.demux(stream):
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    frames, damaged = [], damaged + 1
                    self.status.broken += 1
                for frame in frames:
                    if self._closed.is_set():
                        return
                    count += 1
                    damaged += frame.is_corrupt
                    end_s = max(end_s, (frame.time or 0.0) - start_s + frame_s)
                    yield frame
        except av.FFmpegError as error:
            problem = error.strerror or str(error)
        if damaged or problem:
            logger.warning(
                "%s is damaged: %d frames, %d of its packets are broken%s",
                self.path, count, damaged, f", then {problem}" if problem else "",
            )  # fmt: skip
        elif stream.frames > count:
            logger.warning("%s is cut off: %d of %d frames", self.path, count, stream.frames)
        elif not stream.frames and duration_s - end_s > 2 * frame_s:
            logger.warning("%s is cut off: %.1f of %.1f s", self.path, end_s, duration_s)


def open_video(path: Path) -> Any:
    """Open a file that holds video as a PyAV container. Raises SourceError as `VideoFile`."""
    try:
        if path.stat().st_size == 0:
            raise SourceError(f"{path} is empty")
        container = av.open(str(path))
    except PermissionError:
        raise SourceError(f"{path} may not be read: change its permissions") from None
    except av.error.InvalidDataError:
        raise SourceError(f"cannot open {path}: it is no video or image, or a video cut off before its index") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        raise SourceError(f"cannot open {path}: {getattr(error, 'strerror', None) or error}") from None
    if container.format.name in TEXT_FORMATS or not container.streams.video:
        name = container.format.long_name
        container.close()
        raise SourceError(f"{path} holds no video (it looks like {name}): give a video, an image or a folder")
    container.streams.video[0].thread_type = "AUTO"
    return container
