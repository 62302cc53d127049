"""The socket below a gRPC channel: how much it may hold unsent, and how it meets loss.

The kernel takes megabytes of what we write, and what it took cannot be overtaken. And CUBIC, the usual congestion
control, takes each lost packet for a full link: at 60 ms and 0.1 % loss it left a quarter of 10 Mbit/s unused, where
BBR did not (docs/link.md). gRPC has no options for either, so the socket is looked up among the open files; where that
cannot be done (not Linux, no BBR) the link works, with more waiting.
"""

import contextlib
import os
import socket
import stat
from typing import Final

UNSENT_BYTES: Final = 8 * 1024
TCP_NOTSENT_LOWAT: Final = 25
CONGESTION: Final = b"bbr"


def tune_for_slow_link(address: str) -> int:
    """Set up the TCP connections of this process to HOST:PORT; returns how many there are."""
    port, found = int(address.rpartition(":")[2]), 0
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError, ValueError):  # closed meanwhile, or no socket
                found += _tune(int(name), port)
    return found


def _tune(descriptor: int, port: int) -> bool:
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return False
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        if connection.family not in (socket.AF_INET, socket.AF_INET6) or connection.type != socket.SOCK_STREAM:
            return False
        if connection.getpeername()[1] != port:
            return False
        connection.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        with contextlib.suppress(OSError):  # not there, or not allowed
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION)
        return True
