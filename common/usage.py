"""What another process of this machine uses, as Linux tells it."""

import os
from pathlib import Path


def of_process(pid: int) -> tuple[float, int] | None:
    """Seconds of processor time and bytes of memory, shared ones included; None where it is not told, or has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # its name may hold anything
        ticks, pages = int(fields[11]) + int(fields[12]), int(fields[21])  # utime, stime, rss: proc_pid_stat(5)
    except (OSError, ValueError, IndexError):
        return None
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE")
