"""What the spool knows of a frame without opening its file: all of it is in the file's name."""

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from common.frame import FrameId, Priority

SUFFIX = ".frame"
YEAR_S = 366 * 24 * 3600
_FIELDS = re.compile(
    r"(?P<order>\d{1,18})\.(?P<priority>[123])\.(?P<session>[A-Za-z0-9_-]{1,64})\.(?P<sequence>\d{1,20})"
    r"\.(?P<readings_bytes>\d{1,18})\.(?P<unix_s>\d{1,12})\.(?P<boot>[0-9a-f]{8})\.(?P<up_s>\d{1,12})\.frame",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time on both clocks: the wall's, which may jump, and the one that runs since boot `boot` without jumps."""

    unix_s: int
    boot: str  # 8 hex digits; "00000000" = unknown, never the same boot
    up_s: int


def now() -> Moment:
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return Moment(max(0, int(time.time())), _BOOT, int(time.clock_gettime(clock)))


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        return "00000000"


_BOOT = _boot()


def age_s(stored: Moment, at: Moment) -> int:
    """Seconds between them.

    Exact within one boot, however the wall clock jumps. Across boots only the wall clock tells; what it cannot
    mean (before, or over a year ago) counts as 0: to keep a frame for too long is the smaller harm.
    """
    if stored.boot == at.boot != "00000000" and at.up_s >= stored.up_s:
        return at.up_s - stored.up_s
    wall_s = at.unix_s - stored.unix_s
    return wall_s if 0 <= wall_s <= YEAR_S else 0


@dataclass(slots=True, eq=False)
class Entry:
    """One frame in the spool."""

    order: int  # grows with every frame that is stored, over all runs
    priority: Priority
    id: FrameId
    readings_bytes: int  # size of the readings' file when it was stored: its line can only come after
    stored: Moment
    size: int = 0  # of its file, bytes
    since_up_s: int = field(default=0)  # when it was stored, on this boot's clock; may be negative

    @property
    def file_name(self) -> str:
        moment = f"{self.stored.unix_s}.{self.stored.boot}.{self.stored.up_s}"
        return (
            f"{self.order:012d}.{int(self.priority)}.{self.id.session}.{self.id.sequence}.{self.readings_bytes}"
            f".{moment}{SUFFIX}"
        )


def from_file_name(name: str, edge: str, size: int, at: Moment) -> Entry | None:
    """None for a name that is not ours."""
    match = _FIELDS.fullmatch(name)
    if match is None:
        return None
    stored = Moment(int(match["unix_s"]), match["boot"], int(match["up_s"]))
    return Entry(
        order=int(match["order"]),
        priority=Priority(int(match["priority"])),
        id=FrameId(edge, match["session"], int(match["sequence"])),
        readings_bytes=int(match["readings_bytes"]),
        stored=stored,
        size=size,
        since_up_s=at.up_s - age_s(stored, at),
    )
