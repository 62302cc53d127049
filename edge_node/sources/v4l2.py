"""The cameras of a Linux machine and what they offer, asked of the kernel.

Own code because what there is does not fit: linuxpy is GPL, FFmpeg lists formats only into its log. The numbers
are those of linux/videodev2.h.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CLASS: Final = Path("/sys/class/video4linux")
QUERYCAP, ENUM_FMT, G_FMT = 0x80685600, 0xC0405602, 0xC0D05604
ENUM_FRAMESIZES, ENUM_FRAMEINTERVALS = 0xC02C564A, 0xC034564B
CAPTURE, CAPTURE_MPLANE, DEVICE_CAPS = 0x1, 0x1000, 0x80000000
DISCRETE: Final = 1
COMMON_SIZES: Final = ((640, 480), (1280, 720), (1920, 1080), (2560, 1440), (3840, 2160))
MOST: Final = 200  # entries of one list; a broken driver may not end

# FFmpeg's names, the ones to prefer first: planes that go out as they are, then what must be converted, then what
# has lost detail to compression.
FORMATS: Final = {
    "YU12": "yuv420p", "NV12": "nv12", "422P": "yuv422p", "YUYV": "yuyv422", "RGB3": "rgb24", "GREY": "gray",
    "UYVY": "uyvy422", "NV21": "nv21", "NV16": "nv16", "BGR3": "bgr24",
    "MJPG": "mjpeg", "JPEG": "mjpeg", "H264": "h264", "HEVC": "hevc",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mode:
    """One way in which a camera gives pictures."""

    format: str  # FFmpeg's name, or the driver's four characters where FFmpeg has none
    width: int
    height: int
    fps: float  # the highest; 0 = the driver does not say

    @property
    def usable(self) -> bool:
        return self.format in FORMATS.values()


@dataclass(frozen=True, slots=True)
class Camera:
    """A video device; without modes it gives no pictures (metadata, a codec, a radio)."""

    path: Path
    name: str
    driver: str
    modes: tuple[Mode, ...]
    size: tuple[int, int] | None = None  # that it is set to now
    problem: str = ""  # why it could not be asked


def cameras(folder: Path = Path("/dev")) -> list[Camera]:
    """Every /dev/video*, by number."""
    numbers = sorted(int(path.name[5:]) for path in folder.glob("video*") if path.name[5:].isdecimal())
    return [look_at(folder / f"video{number}") for number in numbers]


def look_at(path: Path) -> Camera:
    """Ask a device what it is and can; never raises for a device that does not answer."""
    try:
        file = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        return Camera(path, _class_name(path), "", (), problem=_advice(error))
    try:
        answer = _ask(file, QUERYCAP, bytes(104))
        driver, card, _, _, all_caps, device_caps = struct.unpack_from("=16s32s32sIII", answer)
        caps = device_caps if all_caps & DEVICE_CAPS else all_caps
        kind = 1 if caps & CAPTURE else 9 if caps & CAPTURE_MPLANE else 0
        modes = tuple(_modes(file, kind)) if kind else ()
        size = _size(file, kind) if modes else None
        return Camera(path, _text(card), _text(driver), modes, size)
    except OSError as error:
        return Camera(path, _class_name(path), "", (), problem=_advice(error))
    finally:
        os.close(file)


def choose(modes: Sequence[Mode], size: tuple[int, int] | None, fps: float) -> Mode | None:
    """The mode nearest to the sensor: of those with this size that reach `fps` the least compressed one, else the
    fastest. A size that is not offered becomes the one with the nearest number of pixels; None = any size. Returns
    None where no mode is usable."""
    usable = [mode for mode in modes if mode.usable]
    if size is not None:
        width, height = size
        distances = [abs(m.width * m.height - width * height) + ((m.width, m.height) != size) for m in usable]
        usable = [mode for mode, distance in zip(usable, distances, strict=True) if distance == min(distances)]
    order = list(FORMATS.values())
    fast = [mode for mode in usable if mode.fps == 0 or mode.fps >= fps]
    if fast:
        return min(fast, key=lambda mode: (order.index(mode.format), -mode.width * mode.height))
    return max(usable, key=lambda mode: (mode.fps, mode.width * mode.height), default=None)


def _modes(file: int, kind: int) -> Iterator[Mode]:
    for index in range(MOST):
        if (answer := _next(file, ENUM_FMT, struct.pack("=II56x", index, kind))) is None:
            return
        code = answer[44:48]
        name = code.decode("ascii", "replace").strip("\0 ")
        for width, height in _sizes(file, code):
            yield Mode(FORMATS.get(name, name), width, height, _fps(file, code, width, height))


def _sizes(file: int, code: bytes) -> Iterator[tuple[int, int]]:
    for index in range(MOST):
        if (answer := _next(file, ENUM_FRAMESIZES, struct.pack("=I4s36x", index, code))) is None:
            return
        kind, *numbers = struct.unpack_from("=I6I", answer, 8)
        if kind == DISCRETE:
            yield numbers[0], numbers[1]
            continue
        least_w, most_w, step_w, least_h, most_h, step_h = numbers  # any size in steps: the usual ones of them
        for width, height in dict.fromkeys((*COMMON_SIZES, (most_w, most_h))):
            fits = least_w <= width <= most_w and least_h <= height <= most_h
            if fits and (width - least_w) % max(1, step_w) == 0 == (height - least_h) % max(1, step_h):
                yield width, height
        return


def _fps(file: int, code: bytes, width: int, height: int) -> float:
    best = 0.0
    for index in range(MOST):
        request = struct.pack("=I4sII36x", index, code, width, height)
        if (answer := _next(file, ENUM_FRAMEINTERVALS, request)) is None:
            break
        kind, numerator, denominator = struct.unpack_from("=III", answer, 16)
        best = max(best, denominator / numerator if numerator else 0.0)
        if kind != DISCRETE:  # the shortest interval comes first
            break
    return round(best, 2)


def _size(file: int, kind: int) -> tuple[int, int] | None:
    if struct.calcsize("P") != 8:  # the structure is laid out otherwise
        return None
    try:
        width, height = struct.unpack_from("=II", _ask(file, G_FMT, struct.pack("=I204x", kind)), 8)
    except OSError:
        return None
    return (width, height) if width and height else None


def _ask(file: int, request: int, content: bytes) -> bytes:
    buffer = bytearray(content)
    fcntl.ioctl(file, request, buffer)
    return bytes(buffer)


def _next(file: int, request: int, content: bytes) -> bytes | None:
    """One entry of a list; None after the last."""
    try:
        return _ask(file, request, content)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOTTY):
            return None
        raise


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode("utf-8", "replace").strip()


def _class_name(path: Path) -> str:
    try:
        return (CLASS / path.name / "name").read_text().strip()
    except OSError:
        return ""


def _advice(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return "may not be opened: add your user to the group 'video', then log in again"
    if error.errno == errno.EBUSY:
        return "is used by another program"
    if error.errno in (errno.ENOTTY, errno.EINVAL):
        return "is no camera"
    return f"does not answer: {error.strerror}"
