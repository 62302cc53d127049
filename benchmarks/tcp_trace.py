"""What TCP does below a gRPC channel of this process: its TCP_INFO, a hundred times a second (`link.py --trace`)."""

import contextlib
import json
import os
import socket
import stat
import struct
import threading
import time
from pathlib import Path

EVERY_S = 0.01
AT = {"unacked": 24, "lost": 32, "retrans": 36, "rtt": 68, "cwnd": 80, "total_retrans": 100, "notsent": 144}
PACING = 104
ACKED = 120
ESTABLISHED = 1
LOOK_S = 2.0


def socket_to(port: int) -> socket.socket | None:
    """A copy of this process's connection to that port; of several, that over which most went."""
    most, best = -1, None
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError, IndexError):  # closed meanwhile, not connected, or no address with a port
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as found:
                    if found.family in (socket.AF_INET, socket.AF_INET6) and found.getpeername()[1] == port:
                        (sent,) = struct.unpack_from(
                            "Q", found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160), ACKED
                        )
                        if sent > most:
                            # Not found.dup(): that would take O_NONBLOCK from the connection, which gRPC needs.
                            most, best = sent, socket.socket(fileno=os.dup(int(name)))
    return best


def trace(port: int, file: Path) -> None:
    """Begin, in a thread of its own; lines of JSON: monotonic seconds, packets, bytes, microseconds, bytes/s."""

    def run() -> None:
        connection, looked_s = None, 0.0
        with file.open("w") as out:
            while True:
                time.sleep(EVERY_S)
                if connection is None:
                    connection, looked_s = socket_to(port), time.monotonic()
                    continue
                info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
                if info[0] != ESTABLISHED or time.monotonic() - looked_s > LOOK_S:  # another may be in use by now
                    connection.close()
                    connection = None
                    continue
                row = {name: struct.unpack_from("I", info, at)[0] for name, at in AT.items()}
                row |= {"s": time.monotonic(), "pacing": struct.unpack_from("Q", info, PACING)[0], "state": info[1]}
                out.write(json.dumps(row) + "\n")
                out.flush()

    threading.Thread(target=run, daemon=True, name="trace").start()
