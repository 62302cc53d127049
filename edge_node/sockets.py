"""The socket below a gRPC channel: how much it may hold unsent, and how it meets loss.

The kernel takes megabytes of what we write, and what it took cannot be overtaken. And CUBIC, the usual congestion
control, takes each lost packet for a full link: at 60 ms and 0.1 % loss it left a quarter of 10 Mbit/s unused, where
BBR did not (docs/link.md). gRPC has no options for either, so the socket is looked up among the open files; where that
cannot be done (not Linux, no BBR) the link works, with more waiting.

gRPC does not say which socket is a channel's either, and several cameras have one each to the same address. But it sets
a channel's keep-alive time-out as TCP_USER_TIMEOUT of its socket (gRFC A18): each channel that is to be found has one
of its own, some milliseconds longer than another's.

BBR has a price of its own: on a link that is always full it sends next to nothing for 200 ms in every 10 s, to see the
round trip without a queue, and what is urgent then waits. The ten seconds begin anew where BBR does: `BbrProbe` has it
begin anew once an urgent frame is through, which is when that costs least.
"""

import contextlib
import itertools
import os
import socket
import stat
import struct
from collections.abc import Callable
from typing import Final

from common.channel import KEEPALIVE_TIMEOUT_MS

UNSENT_BYTES: Final = 8 * 1024
TCP_NOTSENT_LOWAT: Final = 25
TCP_USER_TIMEOUT: Final = 18
MARKS: Final = 4096  # channels of a process that are told apart
CONGESTION: Final = b"bbr"
OTHER: Final = b"reno"  # of every Linux
SO_MAX_PACING_RATE: Final = 47
UNLIMITED: Final = 0xFFFFFFFF
HEADROOM: Final = 1.25  # over the measured rate: room for a link that has become faster
HELD_S: Final = 1.5  # BBR knows the link by then
URGENT_THROUGH_S: Final = 2.0  # `after_s` once an urgent frame is through
URGENT_COMES_S: Final = 9.0  # and when one comes, whose probe would be about due


_marks = itertools.count()


def new_mark() -> int:
    """A keep-alive time-out in ms for `common.channel.connect`, by which the channel's connections are found."""
    return KEEPALIVE_TIMEOUT_MS + 1 + next(_marks) % MARKS


def tune_for_slow_link(mark: int) -> int:
    """Set up the TCP connections of the channel with this mark; returns how many there are."""

    def tune(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        with contextlib.suppress(OSError):  # not there, or not allowed
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION)

    return _each(mark, tune)


class BbrProbe:
    """Keeps BBR from emptying a channel's link while something urgent is on it.

    Args:
        mark: of the channel.

    Attributes:
        put_off_s: when that was done last.
    """

    def __init__(self, mark: int) -> None:
        self._mark = mark
        self.put_off_s = float("-inf")
        self._held = False

    def put_off(self, rate: float, now_s: float, after_s: float) -> int:
        """No probe for the next 10 s.

        Args:
            after_s: nothing is done where it was done less long ago.
            rate: of the link, bytes/s. While BBR looks for it anew it sends up to 2.9 times what it has seen so far;
                it is held to a little more than this until `lift`, so that no queue builds up.
            now_s: monotonic.

        Returns:
            How many connections BBR began anew on.
        """
        if now_s - self.put_off_s < after_s:
            return 0
        self.put_off_s, self._held = now_s, True

        def begin_anew(connection: socket.socket) -> None:
            if connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") != CONGESTION:
                raise OSError
            _pace(connection, min(rate * HEADROOM, UNLIMITED))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, OTHER)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION)

        return _each(self._mark, begin_anew)

    def lift(self, now_s: float) -> int:
        """No limit any more, once BBR began anew long enough ago; returns on how many connections."""
        if not self._held or now_s - self.put_off_s < HELD_S:
            return 0
        self._held = False
        return _each(self._mark, lambda connection: _pace(connection, UNLIMITED))


def _pace(connection: socket.socket, rate: float) -> None:
    connection.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, struct.pack("=I", int(rate)))


def _each(mark: int, action: Callable[[socket.socket], None]) -> int:
    """For each TCP connection of the channel with this mark; returns with how many it could be done."""
    found = 0
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile, or no such socket
                if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                    continue
                with socket.socket(fileno=os.dup(int(name))) as connection:
                    if connection.getsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT) == mark:
                        action(connection)
                        found += 1
    return found
