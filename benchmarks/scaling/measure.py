"""What the simulation starts from, and what it has to reproduce, measured on this machine. See run.py.

The network has core 0 to itself, everything else core 1. Four parts: batches of the engine alone; what its device does
in a real node that has too much, whence the time between two batches; a lone frame's time there, edge to edge; the node
under Poisson load at shares of the most that it did.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "proto"), str(ROOT / "tests" / "support")]

from processes import Cloud, dark_sign  # noqa: E402

from common.broker import Broker  # noqa: E402
from common.frame import Priority  # noqa: E402
from common.nats_server import EmbeddedServer  # noqa: E402
from edge_node.load import LoadReport, LoadSettings, run  # noqa: E402
from edge_node.load.schedule import schedule  # noqa: E402
from edge_node.load.settings import Arrivals, Frames, Traffic  # noqa: E402

ENGINE_CPU, OTHER_CPU = 0, 1
SIZE, MOST, EDGES = "600x400", 8, 16
SHARES = (0.3, 0.5, 0.7, 0.8, 1.3)
FULL, FULL_S, WARM_UP_S, SEED = 1.5, 30.0, 3.0, 1
BATCHES = """
import json, statistics, sys, time, torch
sys.path[:0] = [{root!r}, {root!r} + "/proto"]
from cloud_node.engine import Engine
from cloud_node.enhance import read
engine = Engine(torch.device("cpu"), {preset!r}, threads=1)
image = read(__import__("pathlib").Path({image!r}))
times = []
for frames in range(1, {most} + 1):
    engine.prepare([image] * frames)
    taken = []
    for _ in range(15):
        start = time.perf_counter()
        engine.enhance([image] * frames)
        taken.append(time.perf_counter() - start)
    times.append(statistics.median(taken))
print(json.dumps(times))
"""


def engine_alone(preset: str, image: Path) -> list[float]:
    """Seconds of a batch of 1..MOST frames."""
    code = BATCHES.format(root=str(ROOT), preset=preset, image=str(image), most=MOST)
    command = ["taskset", "-c", str(ENGINE_CPU), sys.executable, "-c", code]
    return list(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def keep_others_away(node: Cloud) -> None:
    """The node pinned its device's thread; the others, and NATS, get the other core."""
    process = psutil.Process(node.pid)
    for part in (process, *process.children(recursive=True)):
        for thread in part.threads():
            if os.sched_getaffinity(thread.id) != {ENGINE_CPU}:
                os.sched_setaffinity(thread.id, {OTHER_CPU})


def settings(fps: float, seconds: float, edges: int = EDGES, **more: str) -> LoadSettings:
    return LoadSettings(
        edges=edges,
        fps=fps / edges,
        duration_s=seconds,
        warm_up_s=WARM_UP_S,
        frames=Frames(size=SIZE),
        traffic=Traffic(arrivals=Arrivals.POISSON, seed=SEED),
        **more,
    )


def arrivals(fps: float, seconds: float) -> list[tuple[float, int]]:
    """When the frames of a load come, and with which priority (0..2): the same that are sent."""
    sent = settings(fps, seconds, source="whatever")
    each = (arrival for edge in range(EDGES) for arrival in schedule(sent, edge))
    return sorted((arrival.due_s, int(arrival.priority) - int(Priority.ESSENTIAL)) for arrival in each)


async def load(node: Cloud, source: Path, fps: float, seconds: float, edges: int = EDGES) -> LoadReport:
    name = f"load{time.monotonic_ns() % 10**6}"
    return await run(settings(fps, seconds, edges, source=str(source), cloud=node.address, name=name))


def row(report: LoadReport, offered: float) -> dict[str, float]:
    latency = report.all.latency_ms
    return {
        "offered_fps": offered,  # as it was meant; by chance some more or less came
        "served_fps": report.all.served_per_s,
        "p50_ms": latency.p50,
        "p95_ms": latency.p95,
        "p99_ms": latency.p99,
        "frames_per_batch": report.frames_per_batch,
    }


def measure(preset: str, seconds: float) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "dark.png"
        dark_sign("EXIT 12").save(image)
        batch_s = engine_alone(preset, image)
        most_fps = max((n + 1) / taken for n, taken in enumerate(batch_s))
        print(f"engine alone: {most_fps:.1f} frames/s", flush=True)
        flags = (
            "--preset",
            preset,
            "--device-cpus",
            str(ENGINE_CPU),
            "--batch-frames",
            str(MOST),
            "--shed-after-ms",
            "0",
        )
        node = Cloud(*flags)
        try:
            keep_others_away(node)
            os.sched_setaffinity(0, {OTHER_CPU})
            lone = asyncio.run(load(node, Path(folder), 2.0, seconds, edges=1))
            full = asyncio.run(load(node, Path(folder), FULL * most_fps, FULL_S))
            time.sleep(FULL_S)  # until what was too much is gone
            frames = round(full.frames_per_batch)
            between_s = max(0.0, frames / full.all.served_per_s - batch_s[frames - 1])
            most_fps = full.all.served_per_s
            print(f"in a node: {most_fps:.1f} frames/s, {1e3 * between_s:.1f} ms between batches", flush=True)
            beside_s = lone.all.latency_ms.p50 / 1e3 - batch_s[0] - between_s
            rows = []
            for share in SHARES:
                rows.append(row(asyncio.run(load(node, Path(folder), share * most_fps, seconds)), share * most_fps))
                print(json.dumps(rows[-1]), flush=True)
        finally:
            node.end()
    times = {"batch_s": batch_s, "between_s": between_s, "beside_s": beside_s}
    return {"preset": preset, "size": SIZE, "seconds": seconds, **times, "rows": rows}


async def broker_bytes(edges: int = 1_000) -> float:
    """Memory that an edge's three consumers take in a nats-server, by its growth with so many edges."""
    server = EmbeddedServer()
    await server.start()
    try:
        broker = await Broker.connect(server.url)
        await broker.ensure_streams()
        process = psutil.Process(server.pid)
        before = process.memory_info().rss
        for number in range(edges):
            await broker.ensure_consumers(f"edge-{number}")
        after = process.memory_info().rss
        await broker.close()
        return (after - before) / edges
    finally:
        await server.stop()
