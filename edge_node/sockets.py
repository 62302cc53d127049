"""The socket below a gRPC channel: how much it may hold unsent.

The kernel takes megabytes of what we write, and what it took cannot be overtaken. gRPC has no option for that, so the
socket is looked up among the open files; where that cannot be done (not Linux) the link works, with more waiting.
"""

import contextlib
import os
import socket
import stat
from typing import Final

UNSENT_BYTES: Final = 16 * 1024
TCP_NOTSENT_LOWAT: Final = 25


def hold_little(address: str) -> int:
    """Let the TCP connections of this process to HOST:PORT keep about UNSENT_BYTES unsent at most; returns how many."""
    port, found = int(address.rpartition(":")[2]), 0
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError, ValueError):  # closed meanwhile, or no socket
                found += _hold_little(int(name), port)
    return found


def _hold_little(descriptor: int, port: int) -> bool:
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return False
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        if connection.family not in (socket.AF_INET, socket.AF_INET6) or connection.type != socket.SOCK_STREAM:
            return False
        if connection.getpeername()[1] != port:
            return False
        connection.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        return True
