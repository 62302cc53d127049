"""What a cloud node takes in memory: its own process, those of its devices, what these share, and its nats-server."""

import os
from contextlib import suppress
from pathlib import Path

import psutil

PARTS = ("node", "devices", "shared", "nats")


def memory_of(pid: int) -> dict[str, int]:
    """Bytes by part, and the `all` of them. Resident, but for `shared`, which no process has mapped."""
    node = psutil.Process(pid)
    found = dict.fromkeys(PARTS, 0) | {"node": node.memory_info().rss, "shared": _shared(pid)}
    for child in node.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            part = "nats" if "nats" in child.name() else "devices"
            found[part] += child.memory_info().rss
    return found | {"all": sum(found.values())}


def device_pids(pid: int) -> list[int]:
    """Of the processes of a node's devices."""
    return [child.pid for child in psutil.Process(pid).children() if "cloud_node.device_child" in child.cmdline()]


def _shared(pid: int) -> int:
    total = 0
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            if "memfd:lamplight" in os.readlink(file):
                total += file.stat().st_blocks * 512
    return total
