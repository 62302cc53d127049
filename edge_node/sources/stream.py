"""Network cameras and streams: RTSP, and MJPEG or MPEG-TS over HTTP."""

import time
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import av

from common.backoff import Backoff
from common.errors import SourceError
from edge_node.sources.connection import Connection
from edge_node.sources.live import LiveSource, SourceRefused
from edge_node.sources.options import LiveOptions

SCHEMES: Final = ("rtsp", "rtsps", "http", "https")


def open_stream(
    url: str,
    options: LiveOptions = LiveOptions(),  # noqa: B008 (frozen)
    *,
    fps: float = 0.0,
    backoff: Backoff | None = None,
) -> LiveSource:
    """Open a stream; RTSP goes over TCP, because lost UDP packets are smeared pictures.

    A file over HTTP, which knows its length, is played once.

    Raises:
        SourceError: the scheme is unknown, or no picture can be had there in time.
    """
    name = without_password(url)
    if urlsplit(url).scheme.lower() not in SCHEMES:
        raise SourceError(f"cannot open {name}: only {', '.join(f'{s}://' for s in SCHEMES)} streams are known")
    return LiveSource(lambda: connect(url, options), name, options, fps=fps, backoff=backoff)


def connect(url: str, options: LiveOptions) -> Connection:
    """Connect within `options.open_timeout_s`; reads of it end after `options.frozen_s` without a packet.

    Raises:
        SourceRefused: it wants another name or password.
        SourceError: no picture can be had there.
    """
    name, rtsp = without_password(url), url.lower().startswith("rtsp")
    open_s, read_s = options.open_timeout_s, options.frozen_s
    asked = {"fflags": "nobuffer", "flags": "low_delay", "fpsprobesize": "0"}  # no second is spent on its frame rate
    if rtsp:  # its own time limit, of the socket, must not end a slow stream before ours does
        asked |= {"rtsp_transport": "tcp", "timeout": str(int(max(open_s, read_s) * 1e6))}
    started_s = time.monotonic()
    try:
        container = av.open(url, options=asked, timeout=(open_s, read_s))
    except (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError, PermissionError):
        parts = urlsplit(url)
        given = "refuses this name and password" if parts.password or parts.username else "wants a name and a password"
        raise SourceRefused(
            f"cannot open {name}: it {given}; give them as {parts.scheme}://name:password@host/path, "
            "with %40 for an @ in them and %3A for a :"
        ) from None
    except (av.FFmpegError, OSError, ValueError) as error:
        waited_s = time.monotonic() - started_s
        raise SourceError(f"cannot open {name}: {_reason(error, waited_s, open_s)}") from None
    if not container.streams.video:
        container.close()
        raise SourceError(f"{name} has sound but no picture: give the address of its video")
    return Connection(container, endless=rtsp or container.duration is None)


def without_password(url: str) -> str:
    """The address as it may be shown and logged."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _reason(error: Exception, waited_s: float, timeout_s: float) -> str:
    if waited_s >= timeout_s:  # FFmpeg reports a time-out in RTSP as invalid data
        error = TimeoutError()
    match error:
        case av.error.HTTPNotFoundError():
            return "there is nothing at this path: check the camera's manual for it"
        case ConnectionRefusedError():
            return "nothing listens at this host and port"
        case av.error.ExitError() | TimeoutError():
            return f"no picture within {timeout_s:g} s: check the address and the network"
        case av.error.InvalidDataError():
            return "what answers there is no video"
    return f"{getattr(error, 'strerror', None) or error}: check the address and the network"
