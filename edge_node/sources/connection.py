"""One opened PyAV container of a live source: its packets, and the pictures in them."""

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import av

from common.errors import SourceError

INTRA_ONLY: Final = ("mjpeg", "rawvideo")  # each picture stands alone
STRICT_TRIES: Final = 30  # so many refused in a row since the start: this camera is never quite right


class Silent(Exception):
    """A device gave nothing for as long as was waited."""


class Connection:
    """A container while it is open.

    Broken pictures are left out: a JPEG that was cut off would be half grey, and what H.264 conceals is smeared.
    A camera that never gives a picture without fault is taken as it is.

    Args:
        paced: hold frames until their time, for containers that would run as fast as they can.
        endless: its end is trouble, as of a camera, not the end of a file.
        device: path of the device behind it. Its driver blocks, and nothing else can interrupt that.
    """

    def __init__(self, container: Any, *, paced: bool = False, endless: bool = True, device: str = "") -> None:
        self.paced, self.endless = paced, endless
        self.broken = 0
        self.opened_s = time.monotonic()
        self._container, self._stream = container, container.streams.video[0]
        self.skippable = not paced and self._stream.codec_context.name in INTRA_ONLY
        self._files = _files_of(device) if device else []
        self._strict_jpeg: Any = None
        self._strict, self._refused = True, 0
        if self._stream.codec_context.name == "mjpeg":
            self._strict_jpeg = av.CodecContext.create("mjpeg", "r")
            self._strict_jpeg.options = {"err_detect": "explode"}

    def packets(self, silence_s: float) -> Iterator[Any]:
        """Packets as they come.

        Raises:
            Silent: the device gave nothing for `silence_s`.
            av.FFmpegError: it broke off, or a stream was silent for as long as it was opened with.
        """
        packets = self._container.demux(self._stream)
        while True:
            if self._files and not _readable(self._files, silence_s):
                raise Silent
            try:
                packet = next(packets)
            except StopIteration:
                return
            yield packet

    def pictures(self, packet: Any) -> list[Any]:
        """The whole pictures of a packet; others are counted in `broken`."""
        if (
            packet.size == 0
        ):  # V4L2's mark for a buffer that the driver calls broken; a decoder would take it for the end
            self.broken += packet.pts is not None
            return []
        try:
            strict = self._strict and self._strict_jpeg is not None
            frames = self._strict_jpeg.decode(packet) if strict else packet.decode()
        except av.error.InvalidDataError:
            frames, whole = [], []
            self.broken += 1
            self._refused += 1
        else:
            whole = [frame for frame in frames if not (self._strict and frame.is_corrupt)]
            self.broken += len(frames) - len(whole)
            self._refused += len(frames) - len(whole)
        if whole:
            self._refused = -1 << 62  # it can: never give in
        elif self._refused >= STRICT_TRIES:
            self._strict = False
        return whole

    def close(self) -> None:
        self._container.close()


def connected_in_time(connect: Callable[[], Connection], name: str, seconds: float) -> Connection:
    """Connect in a thread that can be left behind when a driver hangs.

    Raises:
        SourceError: it hangs; or what `connect` raises.
    """
    done: list[Connection | BaseException] = []

    def run() -> None:
        try:
            done.append(connect())
        except BaseException as error:
            done.append(error)

    thread = threading.Thread(target=run, name=f"open {name}", daemon=True)
    thread.start()
    thread.join(seconds)
    if not done:
        raise SourceError(f"{name} does not open within {seconds:g} s, its driver hangs: unplug it, then try again")
    if isinstance(done[0], BaseException):
        raise done[0]
    return done[0]


def _files_of(device: str) -> list[int]:
    """This process's file descriptors of a device; FFmpeg does not tell its own."""
    found = []
    target = os.path.realpath(device)
    for entry in Path("/proc/self/fd").glob("*"):
        try:
            if os.readlink(entry) == target:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _readable(files: list[int], seconds: float) -> bool:
    """Whether one of them has something to say, data or an error, in time."""
    poll = select.poll()
    for file in files:
        poll.register(file, select.POLLIN | select.POLLPRI)
    return bool(poll.poll(seconds * 1000))
