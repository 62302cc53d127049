"""A thousand edges on one cloud node, each a connection of its own that sends a frame every ten seconds.

    python benchmarks/serving/many_edges.py

Counts the node's connections, what one of them costs it in memory, and the frames that did not come back lit. Writes
benchmarks/results/serving/many_edges.json. Needs room for about 2,500 open files (`ulimit -n`).
"""

import argparse
import asyncio
import json
from dataclasses import asdict

import psutil
from real_node import RESULTS, Cloud, node_and_source

from edge_node.load import LoadReport, LoadSettings, run
from edge_node.load.records import Ending
from edge_node.load.settings import Frames, Patience


def connections(process: psutil.Process, port: int) -> int:
    """TCP connections that the node holds at its gRPC port."""
    return sum(
        item.status == psutil.CONN_ESTABLISHED and item.laddr.port == port
        for item in process.net_connections(kind="tcp")
    )


async def measure(node: Cloud, given: argparse.Namespace, source: str) -> tuple[LoadReport, int, float]:
    """The load's report, the most connections counted, and the memory that one edge costs in kB."""
    process = psutil.Process(node.pid)
    settings = LoadSettings(
        source=source,
        edges=given.edges,
        fps=given.fps,
        duration_s=given.seconds,
        warm_up_s=1 / given.fps,
        cloud=node.address,
        processes=given.processes,
        frames=Frames(size=given.size),
        patience=Patience(connect_timeout_s=120),
    )
    # What one edge makes the node keep once for all, such as pools and code, is not counted for a thousand.
    await run(LoadSettings(source=source, edges=1, duration_s=5, warm_up_s=1, cloud=node.address, name="first"))
    before, most = process.memory_info().rss, 0
    load = asyncio.create_task(run(settings))
    rss = before
    while not load.done():
        await asyncio.sleep(1)
        count = connections(process, node.port)
        print(f"{count} connections, {process.memory_info().rss / 1e6:.0f} MB", end="\r", flush=True)
        if count >= most:
            most, rss = count, max(rss, process.memory_info().rss)
    return await load, most, (rss - before) / max(1, given.edges) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, default=1000, help="(default: 1000)")
    parser.add_argument("--fps", type=float, default=0.1, help="of each (default: 0.1)")
    parser.add_argument("--seconds", type=float, default=60, help="that count (default: 60)")
    parser.add_argument("--size", default="160x120", help="of a frame (default: 160x120)")
    parser.add_argument("--preset", default="none", help="network (default: none, to measure the serving)")
    parser.add_argument("--processes", type=int, default=2, help="of the load generator (default: 2)")
    given = parser.parse_args()
    with node_and_source(given.preset) as (node, source):
        report, most, kilobytes = asyncio.run(measure(node, given, source))
    lost = report.all.offered - report.all.endings[Ending.ENHANCED]
    figures = {
        "edges": given.edges,
        "connections counted": most,
        "kB of the node per edge": round(kilobytes, 1),
        "frames": report.all.offered,
        "frames not enhanced": lost,
        "latency ms": asdict(report.all.latency_ms),
    }
    print()
    for name, value in figures.items():
        print(f"{name:>26}  {value}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "many_edges.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
