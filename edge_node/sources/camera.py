"""Cameras of this machine, and FFmpeg's made-up ones (lavfi) that stand in for them."""

import errno
import sys
from pathlib import Path
from typing import Final

import av

from common.errors import SourceError
from edge_node.sources.live import OPEN_TIMEOUT_S, STALL_TIMEOUT_S, LiveSource

FORMATS: Final = {"linux": "v4l2", "darwin": "avfoundation"}


def open_camera(camera: str, size: tuple[int, int] | None = None) -> LiveSource:
    """Open a camera by its number, device path or (macOS) name.

    Raises:
        SourceError: it is not there, busy, forbidden, or not a camera.
    """
    device_format = FORMATS.get(sys.platform)
    if device_format is None:
        raise SourceError(f"cameras on {sys.platform} are not supported: use --source with a file or URL")
    device, name = _device(camera)
    options = {"video_size": f"{size[0]}x{size[1]}"} if size else {}
    if device_format == "avfoundation":
        options["framerate"] = "30"  # its default, 29.97, is refused by most Macs' cameras
    try:
        container = av.open(device, format=device_format, options=options, timeout=(OPEN_TIMEOUT_S, STALL_TIMEOUT_S))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise SourceError(_explain(camera, device, size, error)) from None
    return LiveSource(container, name)


def open_lavfi(graph: str, size: tuple[int, int] | None = None) -> LiveSource:
    """Open an FFmpeg filter graph such as "testsrc=size=640x480:rate=10" as a camera, at its frame rate.

    Raises:
        SourceError: FFmpeg refuses the graph.
    """
    scaled = f"{graph},scale={size[0]}:{size[1]}" if size else graph
    try:
        container = av.open(scaled, format="lavfi")
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(
            f"FFmpeg refuses the made-up camera {graph!r} ({reason}): try lavfi:testsrc=size=640x480:rate=10"
        ) from None
    if not container.streams.video:
        container.close()
        raise SourceError(f"the made-up camera {graph!r} makes no picture: try lavfi:testsrc=size=640x480:rate=10")
    return LiveSource(container, f"lavfi:{graph}", paced=True, endless=False)


def _device(camera: str) -> tuple[str, str]:
    """What FFmpeg opens, and what we call it."""
    if camera.isdecimal():
        return (f"/dev/video{camera}" if sys.platform == "linux" else camera), f"camera {camera}"
    if camera.startswith("/dev/video"):
        return camera, f"camera {camera.removeprefix('/dev/video')}"
    return camera, f"camera {camera}"


def _explain(camera: str, device: str, size: tuple[int, int] | None, error: Exception) -> str:
    if not device.startswith("/dev/") and Path(camera).exists():
        return f"{camera} is no camera: give it as --source"
    camera = camera.removeprefix("/dev/video")
    number = getattr(error, "errno", None)
    reason = getattr(error, "strerror", None) or str(error)
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return f"there is no camera {camera} ({device}); {present_cameras()}"
    if number in (errno.EACCES, errno.EPERM):
        return f"camera {camera} may not be opened: add your user to the group 'video', then log in again"
    if number == errno.EBUSY:
        return f"camera {camera} is used by another program: close that first"
    if number in (errno.ENOTTY, errno.ENOTSUP):
        return f"{device} gives no pictures; {present_cameras()}"
    if number == errno.EINVAL and size:
        return f"camera {camera} refuses {size[0]}x{size[1]}: ask for another size or none"
    return f"camera {camera} cannot be opened: {reason}; {present_cameras()}"


def present_cameras() -> str:
    """The cameras of this machine, in words."""
    if sys.platform != "linux":
        try:
            found = [f"{d.name} ({d.description})" for d in av.enumerate_input_devices(FORMATS[sys.platform])]
        except (av.FFmpegError, ValueError, KeyError):
            found = []
    else:
        found = [_described(path) for path in sorted(Path("/dev").glob("video[0-9]*"))]
    if found:
        return f"here are: {', '.join(found)}"
    return "no camera is connected (no /dev/video*): use --source with a file, folder or URL"


def _described(path: Path) -> str:
    try:
        return f"{path} ({Path('/sys/class/video4linux', path.name, 'name').read_text().strip()})"
    except OSError:
        return str(path)
