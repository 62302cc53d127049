"""Where frames come from: cameras, streams, video files, images. One small file each behind `Source`."""

import stat
from pathlib import Path

from common.errors import SourceError
from common.packing import IMAGE_SUFFIXES
from edge_node.sources.options import LiveOptions
from edge_node.sources.source import Captured, Source, SourceStatus

__all__ = ["Captured", "LiveOptions", "Source", "SourceStatus", "open_source"]


def open_source(
    camera: str | None = None,
    source: str | None = None,
    *,
    size: tuple[int, int] | None = None,
    loop: bool = False,
    watch: bool = False,
    fps: float = 0.0,
    thin: bool = False,
    live: LiveOptions = LiveOptions(),  # noqa: B008 (frozen)
) -> Source:
    """Open the one that is given; blocks until the device, server or file has answered.

    Args:
        camera: "0", "/dev/video0", an address as below, or "lavfi:testsrc=size=640x480:rate=10" for a
            made-up camera.
        source: a video or image file, a folder of images, an address (rtsp://, http://...), or as `camera`.
        size: (width, height) to ask of a camera; it may answer with another.
        loop: start a file or folder again at its end, for ever. Live sources never end anyway.
        watch: wait for more images in a folder, for ever.
        fps: frames a second that are wanted of a camera or stream, which may give more; 0 = as they come.
        thin: where pictures stand alone, leave those beyond twice `fps` undecoded.
        live: how a camera or stream is looked after.

    Raises:
        SourceError: it cannot be opened; the message says what to do.
    """
    given = camera if camera is not None else source
    if given is None or (camera is not None and source is not None):
        raise SourceError("give either a camera or a source: --camera 0, or --source with a file, folder or URL")
    if not given.strip():
        raise SourceError("the camera or source is an empty name: give --camera 0, or a file, folder or URL")
    if watch and not Path(given).expanduser().is_dir():
        raise SourceError(f"only a folder can be watched for new images; {given!r} is none: leave --watch out")
    if watch and loop:
        raise SourceError("a folder is either watched or started again at its end: give --watch or --loop")
    try:
        if given.startswith("lavfi:"):
            from edge_node.sources.camera import open_lavfi

            return open_lavfi(given.removeprefix("lavfi:"), size, live)
        if camera is not None and "://" not in camera:
            from edge_node.sources.camera import open_camera

            return open_camera(camera, size, live, fps=fps, thin=thin)
        if source is not None and _is_device(source):
            from edge_node.sources.camera import open_camera

            return open_camera(source, size, live, fps=fps, thin=thin)
        if size is not None:
            raise SourceError(f"a size can only be asked of a camera; {given!r} has its own: leave the size out")
        if "://" in given:
            from edge_node.sources.stream import open_stream

            return open_stream(given, live, fps=fps if thin else 0.0)
        return _open_path(Path(given).expanduser(), loop, watch)
    except ImportError as error:
        raise SourceError(f"{given!r} needs PyAV: pip install 'lamplight[edge]' ({error})") from None


def _is_device(source: str) -> bool:
    try:
        return stat.S_ISCHR(Path(source).stat().st_mode)
    except (OSError, ValueError):
        return source.startswith("/dev/video")


def _open_path(path: Path, loop: bool, watch: bool) -> Source:
    from edge_node.sources.images import ImageFiles, open_folder
    from edge_node.sources.video import VideoFile
    from edge_node.sources.watched_folder import WatchedFolder

    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise SourceError(f"there is no file or folder {path} (seen from {Path.cwd()})") from None
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot look at {path}: {error}") from None
    if watch:
        return WatchedFolder(path)
    if stat.S_ISDIR(mode):
        return open_folder(path, loop=loop)
    if not stat.S_ISREG(mode):
        raise SourceError(f"{path} is neither a file nor a folder nor a camera")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageFiles([path], path.name, loop=loop)
    return VideoFile(path, loop=loop)
