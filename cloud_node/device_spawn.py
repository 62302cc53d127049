"""Starts the process of a device."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence

from cloud_node.device_memory import Slot


def spawn(
    module: str, connection: socket.socket, slots: Sequence[Slot], files: Sequence[int]
) -> subprocess.Popen[bytes]:
    """`module` gets its end of the connection and what it shares with this process, as numbers of open files."""
    frames, claims = [slot.stretch.descriptor for slot in slots], [slot.claim.descriptor for slot in slots]
    shared = [",".join(map(str, frames)), ",".join(map(str, claims)), *map(str, files)]
    # By this thread, the main one: the kernel ties the child to the life of the thread that made it.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, str(connection.fileno()), str(os.getpid()), *shared],
        pass_fds=[connection.fileno(), *frames, *claims, *files],
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # a terminal's Ctrl-C is for the node, from the first moment on
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
