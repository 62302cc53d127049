"""What cameras and network streams share: a reader thread that keeps the newest frame and never gives up."""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import av

from common.backoff import Backoff
from common.errors import SourceError
from edge_node.sources.connection import Connection, Silent, connected_in_time
from edge_node.sources.frame_age import FrameAge
from edge_node.sources.options import LiveOptions
from edge_node.sources.planes import frame_exif, to_raw
from edge_node.sources.source import Captured, SourceStatus

logger = logging.getLogger(__name__)

HANGS_S: Final = 20.0  # beyond its own time limit a driver or name server may take this long
FIRST_S, MOST_S = 0.5, 30.0  # between attempts
REFUSED_S = 60.0  # and up to half more: cameras lock accounts after a few wrong passwords a minute
STEADY_S: Final = 10.0  # a connection that gave pictures for so long was a good one: back-off starts anew


class SourceRefused(SourceError):
    """A source will not have us: asking again soon does not help."""


class LiveSource:
    """Frames of a camera or stream as they come, opened again whenever it breaks off, freezes or goes silent.

    A thread reads, so that `close` works while a device driver blocks and a slow node sees the newest frame
    rather than a backlog. Frames that nobody took in time are counted. Trouble is logged once, and its end.

    Args:
        connect: opens the source; raises SourceError with the reason. Called now (in `frames` where
            `options.wait_for_source` is set), and again after each trouble.
        fps: frames a second that are wanted; 0 = all. Where pictures stand alone, no more than twice as many are
            decoded.

    Raises:
        SourceError: it cannot be opened now, or (from `frames`) hangs inside its driver.
    """

    live = True
    total: int | None = None

    def __init__(
        self,
        connect: Callable[[], Connection],
        name: str,
        options: LiveOptions = LiveOptions(),  # noqa: B008 (frozen)
        *,
        fps: float = 0.0,
        backoff: Backoff | None = None,
    ) -> None:
        self.name, self.status = name, SourceStatus()
        self._apart_s, self._decoded_s = (0.5 / fps if fps else 0.0), -math.inf
        self._connect, self._options, self._backoff = connect, options, backoff or Backoff(FIRST_S, MOST_S)
        self._age = FrameAge(options.frozen_s)
        self._size: tuple[int, int] | None = None
        self._trouble_since_s: float | None = None
        self._changed = threading.Condition()
        self._newest: Captured | None = None
        self._ended = False
        self._closed = threading.Event()
        self._reader: threading.Thread | None = None
        self._blocked_until_s = math.inf  # by when the call that the reader is in should have returned
        self._first: Connection | None = None
        if not options.wait_for_source:
            self._first = connected_in_time(connect, name, options.open_timeout_s + HANGS_S)

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
            unread = self._reader is None and not self._closed.is_set()
            self._closed.set()
            self._changed.notify_all()
        if unread and self._first is not None:
            self._first.close()

    def _take(self) -> Captured | None:
        with self._changed:
            while not self._changed.wait_for(
                lambda: self._newest is not None or self._ended or self._closed.is_set(), timeout=1.0
            ):
                if time.monotonic() > self._blocked_until_s:
                    raise SourceError(
                        f"{self.name} hangs inside its driver: unplug it and start again, or start again alone"
                    )
            captured, self._newest = self._newest, None
            return None if self._closed.is_set() else captured

    def _offer(self, captured: Captured) -> None:
        with self._changed:
            self.status.frames += 1
            self.status.dropped += self._newest is not None
            self._newest = captured
            self._changed.notify_all()

    # --- in the reader thread ---

    def _read(self) -> None:
        try:
            while (connection := self._connected()) is not None:
                try:
                    reason = self._follow(connection)
                finally:
                    connection.close()
                if self._closed.is_set() or not reason:
                    return
                self._say(reason)
                if time.monotonic() - connection.opened_s < STEADY_S:
                    self._closed.wait(self._backoff.next_s())
                else:
                    self._backoff.reset()
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _connected(self) -> Connection | None:
        """The source opened, after as many attempts as it takes; None once closed."""
        connection, self._first = self._first, None
        while connection is None and not self._closed.is_set():
            self._blocked_until_s = time.monotonic() + self._options.open_timeout_s + HANGS_S
            try:
                connection = self._connect()
            except Exception as error:
                self._blocked_until_s = math.inf
                if not isinstance(error, SourceError):
                    logger.debug("%s cannot be opened", self.name, exc_info=error)
                self._say(str(error))
                least_s = REFUSED_S * random.uniform(1.0, 1.5) if isinstance(error, SourceRefused) else 0.0
                self._closed.wait(self._backoff.next_s(least_s=least_s))
            else:
                self.status.reopened += self.status.frames > 0
        return connection

    def _follow(self, connection: Connection) -> str:
        """Offer the frames of a connection until it needs to be opened again; "" = it has come to its end."""
        self._age.opened(time.monotonic())
        broken_before = self.status.broken
        try:
            for packet in self._watched(connection):
                if connection.skippable and self._is_early():
                    continue
                for frame in connection.pictures(packet):
                    if connection.paced and not self._pace(connection.opened_s + (frame.time or 0.0)):
                        break
                    captured = Captured(to_raw(frame, frame_exif(frame)), time.time_ns(), self.name)
                    self._note(captured)
                    self._offer(captured)
                self.status.broken = broken_before + connection.broken
                if self._closed.is_set():
                    return ""
                if reason := self._age.verdict(time.monotonic()):
                    return self._froze(reason)
        except Silent:
            return self._froze(self._age.silent)
        except av.FFmpegError as problem:
            if self._age.left_s(time.monotonic()) <= 0:  # it was silent for as long as it was opened with
                return self._froze(self._age.silent)
            return f"{self.name} broke off: {problem.strerror or problem}"
        except Exception as problem:
            logger.debug("%s cannot be read", self.name, exc_info=problem)
            return f"{self.name} cannot be read: {problem}"
        finally:
            self._blocked_until_s = math.inf
        return f"{self.name} has ended: it was switched off or unplugged" if connection.endless else ""

    def _is_early(self) -> bool:
        """Whether the next picture is not wanted yet, so that it need not be decoded."""
        now_s = time.monotonic()
        if now_s - self._decoded_s < self._apart_s:
            self.status.thinned += 1
            self._age.heard(now_s)
            return not self._closed.is_set()
        self._decoded_s = now_s
        return False

    def _watched(self, connection: Connection) -> Iterator[Any]:
        """The packets of a connection; too long a wait for the next is seen in `_take`."""
        limit_s = self._options.frozen_s
        packets = connection.packets(limit_s)
        while True:
            self._blocked_until_s = time.monotonic() + limit_s + HANGS_S
            packet = next(packets, None)
            self._blocked_until_s = math.inf
            if packet is None:
                return
            yield packet

    def _pace(self, due_s: float) -> bool:
        """Wait for a frame's time; False when the source was closed, or the watchdog would not wait so long."""
        now_s = time.monotonic()
        left_s = self._age.left_s(now_s)
        return not self._closed.wait(max(0.0, min(due_s - now_s, left_s))) and due_s - now_s < left_s

    def _froze(self, reason: str) -> str:
        self.status.frozen += 1
        return f"{self.name} {reason}"

    def _note(self, captured: Captured) -> None:
        """A picture is here: is it new, of another size, and is trouble over?"""
        now_s, size = time.monotonic(), (captured.image.width, captured.image.height)
        self._age.seen(captured.image, now_s)
        if self._size not in (None, size):
            self.status.resized += 1
            logger.warning("%s gives %dx%d now, not %dx%d", self.name, *size, *(self._size or size))
        self._size = size
        if self._trouble_since_s is not None:
            logger.warning("%s gives pictures again, after %.0f s", self.name, now_s - self._trouble_since_s)
            self._trouble_since_s, self.status.problem = None, ""

    def _say(self, reason: str) -> None:
        """Log trouble when it begins or changes, not with every attempt."""
        if self._trouble_since_s is None:
            self._trouble_since_s = time.monotonic()
        if reason != self.status.problem:
            logger.warning("%s; opening it again until it works", reason)
        self.status.problem = reason
