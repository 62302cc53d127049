"""A thousand edges on one cloud node, each a connection of its own that sends a frame every ten seconds.

    python benchmarks/serving/many_edges.py

Counts the node's connections, what one of them costs in memory (the node, the processes of its devices, what these
share, and NATS), and the frames that did not come back lit. Writes
benchmarks/results/serving/many_edges.json. Needs room for about 2,500 open files (`ulimit -n`).
"""

import argparse
import asyncio
import json
from dataclasses import asdict

import psutil
from real_node import PARTS, RESULTS, Cloud, memory_of, node_and_source

from edge_node.load import LoadReport, LoadSettings, run
from edge_node.load.records import Ending
from edge_node.load.settings import Frames, Patience


def connections(process: psutil.Process, port: int) -> int:
    """TCP connections that the node holds at its gRPC port."""
    return sum(
        item.status == psutil.CONN_ESTABLISHED and item.laddr.port == port
        for item in process.net_connections(kind="tcp")
    )


async def measure(node: Cloud, given: argparse.Namespace, source: str) -> tuple[LoadReport, int, dict[str, float]]:
    """The load's report, the most connections counted, and the memory that one edge costs in kB, by part."""
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
    before, most = memory_of(node.pid), 0
    load = asyncio.create_task(run(settings))
    peak = dict(before)
    while not load.done():
        await asyncio.sleep(1)
        count = connections(process, node.port)
        now = memory_of(node.pid)
        print(f"{count} connections, {now['all'] / 1e6:.0f} MB", end="\r", flush=True)
        if count >= most:
            most, peak = count, {part: max(peak[part], now[part]) for part in peak}
    return await load, most, {part: (peak[part] - before[part]) / max(1, given.edges) / 1e3 for part in before}


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
        "kB per edge": {part: round(kilobytes[part], 1) for part in (*PARTS, "all")},
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
