"""Network cameras and streams: RTSP, and MJPEG or MPEG-TS over HTTP."""

import time
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import av

from common.errors import SourceError
from edge_node.sources.live import OPEN_TIMEOUT_S, STALL_TIMEOUT_S, LiveSource

SCHEMES: Final = ("rtsp", "rtsps", "http", "https")


def open_stream(url: str, *, open_timeout_s: float = OPEN_TIMEOUT_S, stall_s: float = STALL_TIMEOUT_S) -> LiveSource:
    """Open a stream; RTSP goes over TCP, because lost UDP packets are smeared pictures.

    Raises:
        SourceError: the scheme is unknown, or no picture can be had there in time.
    """
    scheme = urlsplit(url).scheme.lower()
    name = without_password(url)
    if scheme not in SCHEMES:
        raise SourceError(f"cannot open {name}: only {', '.join(f'{s}://' for s in SCHEMES)} streams are known")
    options = {"fflags": "nobuffer", "flags": "low_delay"}
    if scheme.startswith("rtsp"):
        options |= {"rtsp_transport": "tcp", "timeout": str(int(open_timeout_s * 1e6))}
    started = time.monotonic()
    try:
        container = av.open(url, options=options, timeout=(open_timeout_s, stall_s))
    except (av.FFmpegError, OSError, ValueError) as error:
        waited_s = time.monotonic() - started
        raise SourceError(f"cannot open {name}: {_reason(error, waited_s, open_timeout_s)}") from None
    if not container.streams.video:
        container.close()
        raise SourceError(f"{name} has sound but no picture: give the address of its video")
    return LiveSource(container, name, stall_s=stall_s)


def without_password(url: str) -> str:
    """The address as it may be shown and logged."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _reason(error: Exception, waited_s: float, timeout_s: float) -> str:
    if waited_s >= timeout_s:  # FFmpeg reports a time-out in RTSP as invalid data
        error = TimeoutError()
    match error:
        case av.error.HTTPUnauthorizedError() | av.error.HTTPForbiddenError() | PermissionError():
            return "it wants a name and a password, rtsp://name:password@host/path"
        case av.error.HTTPNotFoundError():
            return "there is nothing at this path: check the camera's manual for it"
        case ConnectionRefusedError():
            return "nothing listens at this host and port"
        case av.error.ExitError() | TimeoutError():
            return f"no picture within {timeout_s:g} s: check the address and the network"
        case av.error.InvalidDataError():
            return "what answers there is no video"
    return f"{getattr(error, 'strerror', None) or error}: check the address and the network"
