"""Can readings, pictures and spooled frames be written, and how fast do they reach the disk?"""

import os
import tempfile
import time
from pathlib import Path

from edge_node import machine
from edge_node.check.finding import Figure, Group, in_thread
from edge_node.settings import EdgeSettings
from edge_node.sinks.sink import check_writable

LIMIT_S = 20.0
BLOCK = os.urandom(2**20)  # 1 MiB that does not compress
BLOCKS, MEASURE_S = 8, 2.0
SLOW_MS = 500.0


async def check_disk(given: EdgeSettings, found: Group) -> None:
    """Makes the output folder if it is not there."""
    folder = given.output.output
    advice = "the disk hangs: see `dmesg`, replace the card"
    free = await found.within(LIMIT_S, "output", in_thread(lambda: _room(folder)), advice)
    if free is None:
        return
    found.ok("output", f"{folder.resolve()} can be written")
    least = given.care.min_free_mib
    if free < least:
        found.fail("free", f"{free:,.0f} MiB, less than --min-free-mib {least}", "make room", free_mib=round(free))
    else:
        found.ok("free", f"{free:,.0f} MiB", free_mib=round(free))
    figures = await found.within(LIMIT_S, "durable write", in_thread(lambda: _durable(folder)), advice)
    if figures is None:
        return
    text = f"{figures['mib_per_s']:.0f} MiB/s, {figures['ms']:.1f} ms for 1 MiB"
    if float(figures["ms"]) > SLOW_MS:
        found.warn("durable write", text, "the disk is slow, or worn out: a spooled frame waits for it", **figures)
    else:
        found.ok("durable write", text, **figures)


def _room(folder: Path) -> float:
    """Free MiB of a folder that can be written; raises SettingsError otherwise."""
    check_writable(folder)
    return machine.free_mib(folder)


def _durable(folder: Path) -> dict[str, Figure]:
    """Write and sync one block after the other; the slowest and the mean."""
    times_s: list[float] = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        while len(times_s) < BLOCKS and sum(times_s) < MEASURE_S:
            began = time.perf_counter()
            file.write(BLOCK)
            os.fsync(file.fileno())
            times_s.append(time.perf_counter() - began)
    mean_s = sum(times_s) / len(times_s)
    return {"mib_per_s": round(1 / mean_s, 1), "ms": round(mean_s * 1e3, 2), "slowest_ms": round(max(times_s) * 1e3, 2)}
