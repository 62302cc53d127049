"""Ports of loopback that nobody listens on, nor will before the test does."""

import os
import random
import socket

# Linux hands out ports from 32768 up by itself: what comes from there may be another's between the look and the use.
# Each worker of pytest-xdist has a row of its own; where it starts is drawn, for suites beside each other.
ROW, FIRST = 2000, 10_000
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 10
_drawn = random.SystemRandom().randrange(ROW)


def free_port() -> int:
    global _drawn
    while True:
        _drawn = (_drawn + 1) % ROW
        port = FIRST + _worker * ROW + _drawn
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
