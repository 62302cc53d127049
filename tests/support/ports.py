"""Ports of loopback that nobody listens on, nor will before the test does."""

import os
import random
import socket
from pathlib import Path

# Linux hands out ports by itself, from 32768 up unless it is told otherwise: what comes from there may be another's
# between the look and the use.
# Each worker of pytest-xdist has a row of its own; where it starts is drawn, for suites beside each other.
ROW, FIRST = 2000, 10_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 10
_drawn = random.SystemRandom().randrange(ROW)
_low, _high = map(int, _RANGE.read_text().split()) if _RANGE.exists() else (32_768, 65_535)
if _low < FIRST + 10 * ROW and _high > FIRST:  # there may be no port outside: any that is free then
    _low, _high = 0, -1


def free_port() -> int:
    global _drawn
    while True:
        _drawn = (_drawn + 1) % ROW
        port = FIRST + _worker * ROW + _drawn
        if _low <= port <= _high:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
