"""What this machine says about itself: memory, temperature, free disk. Linux; elsewhere what is not known is None."""

import os
import shutil
from pathlib import Path

THERMAL = Path("/sys/class/thermal")
PROC = Path("/proc")
PLAUSIBLE_C = (-60.0, 200.0)  # zones without a sensor give nonsense
MIB = 2**20
FREE_BYTES = 64 * MIB  # left free on the disk, so that readings can be written


def rss_mib(proc: Path = PROC) -> float | None:
    """This process's resident memory, MiB."""
    try:
        pages = int((proc / "self" / "statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def available_mib(proc: Path = PROC) -> float | None:
    """Memory that could still be had without swapping, MiB."""
    try:
        rows = (proc / "meminfo").read_text().splitlines()
        [kib] = [int(row.split()[1]) for row in rows if row.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        return None
    return kib / 1024


def celsius(thermal: Path = THERMAL) -> tuple[float, str] | None:
    """The hottest zone's temperature and its kind, such as (48.3, "cpu-thermal")."""
    found = []
    for zone in sorted(thermal.glob("thermal_zone*")):
        try:
            degrees = int((zone / "temp").read_text()) / 1000
            kind = (zone / "type").read_text().strip() if (zone / "type").exists() else zone.name
        except (OSError, ValueError):  # a sensor that is asleep answers with an error
            continue
        if PLAUSIBLE_C[0] < degrees < PLAUSIBLE_C[1]:
            found.append((degrees, kind))
    return max(found, default=None)


def free_mib(folder: Path) -> float:
    """Room for more in the folder's file system, MiB. Raises OSError."""
    return shutil.disk_usage(folder).free / MIB
