"""Tell systemd how a node is: ready, alive, stopping, and a line of status (sd_notify(3)).

The protocol is one datagram of `NAME=value` lines to the socket that NOTIFY_SOCKET names, so it is spoken here: the
packages that do it need a C library, or are the same forty lines without upkeep.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

STATUS_S = 5.0


class Notifier:
    """Messages to the service manager; without one every call does nothing.

    Args:
        environ: NOTIFY_SOCKET names the socket (a path, or @name for an abstract one), WATCHDOG_USEC the time within
            which systemd wants to hear WATCHDOG=1, WATCHDOG_PID the process that it is meant for.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        if self._address and self._address[0] not in "/@":
            log.warning("NOTIFY_SOCKET=%s is neither a path nor @name: systemd is told nothing", self._address)
            self._address = ""
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]
        meant = environ.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        micros = environ.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(micros) / 1e6 if self._address and meant and micros.isdecimal() else 0.0  # 0 = none
        self._said_failure = False

    @property
    def enabled(self) -> bool:
        return bool(self._address)

    def send(self, **fields: str) -> bool:
        """Send fields such as READY="1"; returns whether they went out. Never raises, never waits."""
        if not self._address:
            return False
        text = "\n".join(f"{name}={' '.join(value.split())}" for name, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode(), self._address)
        except OSError as error:
            if not self._said_failure:
                self._said_failure = True
                log.warning("systemd cannot be told (%s): %s", fields, error.strerror or error)
            return False
        self._said_failure = False
        return True


async def report(
    notifier: Notifier,
    stop: asyncio.Event,
    *,
    ready: Callable[[], bool],
    stuck: Callable[[float], str],
    status: Callable[[], str],
) -> None:
    """Keep systemd informed until cancelled: READY=1, WATCHDOG=1 while nothing is stuck, STOPPING=1 at the end.

    It runs in the event loop of the node, so a loop that stands still is silent too, and systemd starts the node again.

    Args:
        ready: whether the node works; asked until it does.
        stuck: what has not moved for longer than so many seconds, in words; "" when all moves.
        status: a line for `systemctl status`.
    """
    if not notifier.enabled:
        return
    limit_s = notifier.watchdog_s
    is_ready, stopping, said, told_s, shown, shown_s = False, False, "", float("-inf"), "", float("-inf")
    clock = asyncio.get_running_loop().time
    try:
        while True:
            now = clock()
            if not is_ready and ready():
                is_ready = notifier.send(READY="1")
                shown_s = float("-inf")
            if not stopping and stop.is_set():
                stopping = notifier.send(STOPPING="1")
            if limit_s and now - told_s >= limit_s / 4:
                told_s, what = now, stuck(limit_s)
                if not what:
                    notifier.send(WATCHDOG="1")
                elif what != said:
                    log.error("%s: systemd will start this node again", what)
                said = what
            if now - shown_s >= STATUS_S and (line := _line(status)) != shown:
                shown, shown_s = line, now
                notifier.send(STATUS=line)
            await asyncio.sleep(min(0.25, limit_s / 4) if limit_s else 0.25)
    finally:
        if not stopping:
            notifier.send(STOPPING="1")


def _line(status: Callable[[], str]) -> str:
    try:
        return status()
    except Exception:  # what is shown must not cost the node its watchdog
        log.exception("the status could not be told")
        return ""
