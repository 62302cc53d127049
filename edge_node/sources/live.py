"""What cameras and network streams share: a reader thread that keeps the newest frame."""

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import av

from common.errors import SourceError
from edge_node.sources.planes import frame_exif, to_raw
from edge_node.sources.source import Captured

logger = logging.getLogger(__name__)

OPEN_TIMEOUT_S: Final = 10.0
STALL_TIMEOUT_S: Final = 10.0


class LiveSource:
    """Frames of an opened PyAV container as they come.

    A thread reads, so that `close` works while a device driver blocks and a slow node sees the newest frame
    rather than a backlog. Frames that nobody took in time are counted in `replaced`.

    Args:
        paced: hold frames until their time, for containers that would run as fast as they can.
        endless: an end is an error.
        stall_s: so long without a frame is an error.
    """

    live = True
    total: int | None = None

    def __init__(
        self,
        container: Any,
        name: str,
        *,
        paced: bool = False,
        endless: bool = True,
        stall_s: float = STALL_TIMEOUT_S,
    ) -> None:
        self.name = name
        self.replaced = 0
        self._container, self._paced, self._endless, self._stall_s = container, paced, endless, stall_s
        self._changed = threading.Condition()
        self._newest: Captured | None = None
        self._error: SourceError | None = None
        self._ended = False
        self._closed = threading.Event()
        self._reader: threading.Thread | None = None

    def frames(self) -> Iterator[Captured]:
        with self._changed:
            if self._closed.is_set():
                return
            if self._reader is None:
                self._reader = threading.Thread(target=self._read, name=f"source {self.name}", daemon=True)
                self._reader.start()
        try:
            while (captured := self._take()) is not None:
                yield captured
        finally:
            self.close()

    def close(self) -> None:
        with self._changed:
            started = self._reader is not None
            first = not self._closed.is_set()
            self._closed.set()
            self._changed.notify_all()
        if first and not started:
            self._container.close()

    def _take(self) -> Captured | None:
        with self._changed:
            ready = self._changed.wait_for(
                lambda: self._newest is not None or self._ended or self._closed.is_set(), self._stall_s
            )
            if self._closed.is_set():
                return None
            if not ready:
                raise SourceError(
                    f"{self.name} has sent no picture for {self._stall_s:g} s: check it, then start again"
                )
            captured, self._newest = self._newest, None
            if captured is None and self._error is not None:
                raise self._error
            return captured

    def _read(self) -> None:
        error = None
        try:
            self._decode()
            if self._endless and not self._closed.is_set():
                error = SourceError(f"{self.name} has ended: it was switched off or unplugged")
        except av.FFmpegError as problem:
            error = SourceError(f"{self.name} broke off: {problem.strerror or problem}")
        except Exception as problem:
            logger.exception("%s cannot be read", self.name)
            error = SourceError(f"{self.name} cannot be read: {problem}")
        finally:
            with self._changed:
                self._error, self._ended = error, True
                self._changed.notify_all()
            self._container.close()

    def _decode(self) -> None:
        stream = self._container.streams.video[0]
        started = time.monotonic()
        for packet in self._container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError as problem:
                logger.debug("%s: a packet could not be decoded: %s", self.name, problem)
                continue
            for frame in frames:
                if self._paced and frame.time is not None:
                    self._closed.wait(started + frame.time - time.monotonic())
                if self._closed.is_set():
                    return
                self._offer(Captured(to_raw(frame, frame_exif(frame)), time.time_ns(), self.name))

    def _offer(self, captured: Captured) -> None:
        with self._changed:
            self.replaced += self._newest is not None
            self._newest = captured
            self._changed.notify_all()
