"""Cameras of this machine, and FFmpeg's made-up ones (lavfi) that stand in for them."""

import errno
import logging
import sys
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import av

from common.backoff import Backoff
from common.errors import SourceError
from edge_node.sources import v4l2
from edge_node.sources.connection import Connection
from edge_node.sources.live import LiveSource
from edge_node.sources.options import LiveOptions

logger = logging.getLogger(__name__)

FORMATS: Final = {"linux": "v4l2", "darwin": "avfoundation"}
LEAST_FPS: Final = 5.0  # a camera that is slower uncompressed is asked for compressed pictures
TRY_LAVFI: Final = "try lavfi:testsrc=size=640x480:rate=10"


def open_camera(
    camera: str,
    size: tuple[int, int] | None = None,
    options: LiveOptions = LiveOptions(),  # noqa: B008 (frozen)
    *,
    fps: float = 0.0,
    thin: bool = False,
    backoff: Backoff | None = None,
) -> LiveSource:
    """Open a camera by its number, device path or (macOS) name, in the format nearest to its sensor.

    Args:
        size: (width, height) to ask for; without it the camera keeps its own.
        fps: frames a second that are wanted; 0 = a few.
        thin: where pictures stand alone, leave those beyond twice `fps` undecoded.

    Raises:
        SourceError: it is not there, busy, forbidden, or not a camera.
    """
    if sys.platform not in FORMATS:
        raise SourceError(f"cameras on {sys.platform} are not supported: use --source with a file or URL")
    _, name = _device(camera)
    connected = partial(connect, camera, size, options, fps or LEAST_FPS)
    return LiveSource(connected, name, options, fps=fps if thin else 0.0, backoff=backoff)


def connect(camera: str, size: tuple[int, int] | None, options: LiveOptions, fps: float) -> Connection:
    """Open a camera once. Raises SourceError as `open_camera`."""
    device, name = _device(camera)
    linux = sys.platform == "linux"
    asked = {"video_size": _text(size)} if size else {}
    if linux:
        asked |= native_mode(device, size, options.camera_format, fps)
    else:
        asked["framerate"] = "30"  # its default, 29.97, is refused by most Macs' cameras
    try:
        timeout = (options.open_timeout_s, options.frozen_s)
        container = av.open(
            device, format=FORMATS[sys.platform], options=asked | {"fpsprobesize": "0"}, timeout=timeout
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        raise SourceError(_explain(camera, device, size, options.camera_format, error)) from None
    codec = container.streams.video[0].codec_context
    if size and (codec.width, codec.height) != size:
        logger.warning("%s has no %s: it gives %dx%d", name, _text(size), codec.width, codec.height)
    return Connection(container, device=device if linux else "")


def native_mode(device: str, size: tuple[int, int] | None, wanted: str, fps: float) -> dict[str, str]:
    """FFmpeg's options for the format and size to ask of a V4L2 device; where none is given it keeps its own size."""
    if wanted:
        return {"input_format": wanted}
    found = v4l2.look_at(Path(device))
    mode = v4l2.choose(found.modes, size or found.size, fps)
    if mode is None:
        return {}
    at = (mode.width, mode.height)
    # FFmpeg never learns that a driver changed the size that it was asked for: ask for one that there is.
    return {"input_format": mode.format} | ({} if size is None and at == found.size else {"video_size": _text(at)})


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def open_lavfi(
    graph: str,
    size: tuple[int, int] | None = None,
    options: LiveOptions = LiveOptions(),  # noqa: B008 (frozen)
) -> LiveSource:
    """Open an FFmpeg filter graph such as "testsrc=size=640x480:rate=10" as a camera, at its frame rate.

    Raises:
        SourceError: FFmpeg refuses the graph.
    """
    return LiveSource(lambda: connect_lavfi(graph, size), f"lavfi:{graph}", options)


def connect_lavfi(graph: str, size: tuple[int, int] | None = None, *, endless: bool = False) -> Connection:
    """Open a graph once. Raises SourceError as `open_lavfi`."""
    scaled = f"{graph},scale={size[0]}:{size[1]}" if size else graph
    try:
        container = av.open(scaled, format="lavfi")
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"FFmpeg refuses the made-up camera {graph!r} ({reason}): {TRY_LAVFI}") from None
    if not container.streams.video:
        container.close()
        raise SourceError(f"the made-up camera {graph!r} makes no picture: {TRY_LAVFI}")
    return Connection(container, paced=True, endless=endless)


def _device(camera: str) -> tuple[str, str]:
    """What FFmpeg opens, and what we call it."""
    if camera.isdecimal():
        return (f"/dev/video{camera}" if sys.platform == "linux" else camera), f"camera {camera}"
    if camera.startswith("/dev/video"):
        return camera, f"camera {camera.removeprefix('/dev/video')}"
    return camera, f"camera {camera}"


def _explain(camera: str, device: str, size: tuple[int, int] | None, wanted: str, error: Exception) -> str:
    if Path(camera).is_file():
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
    if number == errno.EINVAL and (size or wanted):
        asked = " ".join(filter(None, (_text(size) if size else "", wanted)))
        return f"camera {camera} refuses {asked}: --list-cameras shows what it can"
    return f"camera {camera} cannot be opened: {reason}; {present_cameras()}"


def present_cameras() -> str:
    """The cameras of this machine, in words."""
    if sys.platform != "linux":
        found = [f"{device.name} ({device.description})" for device in _devices()]
    else:
        found = [f"{found.path} ({found.name})" for found in v4l2.cameras() if found.modes or found.problem]
    if found:
        return f"here are: {', '.join(found)}"
    return "no camera is connected (no /dev/video*): use --source with a file, folder or URL"


def list_cameras(folder: Path = Path("/dev")) -> tuple[list[str], bool]:
    """What `--list-cameras` prints, and whether there is a camera to use."""
    if sys.platform != "linux":
        found = [f"{device.name}  {device.description}" for device in _devices()]
        return found or ["no camera is connected"], bool(found)
    cameras = v4l2.cameras(folder)
    lines = [line for camera in cameras for line in _described(camera)]
    usable = any(camera.modes for camera in cameras)
    return lines + ([] if usable else [_why_none(cameras)]), usable


def _devices() -> list[Any]:
    try:
        return list(av.enumerate_input_devices(FORMATS[sys.platform]))
    except (av.FFmpegError, ValueError, KeyError):
        return []


def _described(camera: v4l2.Camera) -> Iterator[str]:
    title = f"{camera.path}  {camera.name or 'without a name'}"
    if not camera.modes:
        yield f"{title}: {camera.problem or 'gives no pictures (metadata or a codec)'}"
        return
    yield f"{title} ({camera.driver}): --camera {camera.path.name.removeprefix('video')}"
    chosen = native_mode(str(camera.path), None, "", LEAST_FPS).get("input_format")
    for name, modes in groupby(camera.modes, key=lambda mode: mode.format):
        sizes = ", ".join(f"{m.width}x{m.height}" + (f" {m.fps:g} fps" if m.fps else "") for m in modes)
        yield f"    {name:8} {sizes}{'  (asked for by default)' if name == chosen else ''}"


def _why_none(cameras: list[v4l2.Camera]) -> str:
    if any("group 'video'" in camera.problem for camera in cameras):
        return "no camera can be used: this user may not open them (add it to the group 'video', then log in again)"
    if cameras:
        return "no camera can be used: none of these devices gives pictures"
    known = sorted(path.name for path in v4l2.CLASS.glob("video*"))
    if known:
        return (
            f"no camera can be used: the kernel has {', '.join(known)}, but /dev has no such devices; "
            "a container needs them passed in, as docker run --device /dev/video0"
        )
    return (
        "no camera: none is connected, or the kernel has no driver for it (neither /dev/video* nor anything in "
        f"{v4l2.CLASS}); network cameras are given as --source rtsp://..."
    )
