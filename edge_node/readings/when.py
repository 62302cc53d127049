"""Times as people give them: 2h, 3d, 14:30, 2026-11-27, "2026-11-27 14:30"."""

import re
from datetime import datetime, timedelta
from typing import Final

from common.errors import SettingsError

UNITS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)(?:\s+ago)?", re.IGNORECASE)
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d))?")


def unix_ns(text: str, flag: str, now: datetime | None = None) -> int:
    """A moment, in this machine's time zone unless it names one.

    Args:
        text: how long ago (90s, 30min, 2h, 3d, 1w), a time of today, today, yesterday, now, or ISO 8601.
        flag: that it was given with, for the error.

    Raises:
        SettingsError: it is none of these.
    """
    now = (now or datetime.now()).astimezone()
    said = text.strip()
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        if match := _AGO.fullmatch(said):
            moment = now - timedelta(seconds=float(match[1]) * UNITS[match[2].lower()])
        elif match := _CLOCK.fullmatch(said):
            moment = today.replace(hour=int(match[1]), minute=int(match[2]), second=int(match[3] or 0))
        elif said.lower() in ("now", "today", "yesterday"):
            moment = {"now": now, "today": today, "yesterday": today - timedelta(days=1)}[said.lower()]
        else:
            moment = datetime.fromisoformat(said)
        return int(moment.astimezone().timestamp() * 1_000_000) * 1000
    except (ValueError, OverflowError, OSError):
        raise SettingsError(
            f"{flag} {text!r}: say how long ago (90s, 30min, 2h, 3d, 1w) or when (14:30, yesterday, 2026-11-27, "
            "'2026-11-27 14:30')"
        ) from None


def local(ns: int) -> str:
    """A moment in local time, to the second."""
    return datetime.fromtimestamp(ns // 10**9).strftime("%Y-%m-%d %H:%M:%S")


def iso(ns: int) -> str:
    """A moment in local time with its offset from UTC, to the millisecond."""
    return datetime.fromtimestamp(ns / 1e9).astimezone().isoformat(timespec="milliseconds")


def lasting(ns: int) -> str:
    """A duration in few letters.

    >>> lasting(400_000_000), lasting(42 * 10**9), lasting(3725 * 10**9), lasting(200_000 * 10**9)
    ('0.4 s', '42 s', '1 h 02 min', '2 d 07 h')
    """
    seconds = ns / 1e9
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24:02d} h"
