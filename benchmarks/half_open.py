"""Ten thousand streams that open and say nothing: what do they cost the node, and an edge that works?

    python benchmarks/half_open.py [--streams 10000] [--connections 100]

A real cloud node without a network. An edge of the load generator's kind sends frames, first alone, then while other
processes hold the streams half open and open each again when it is refused. Shown: memory of the node before, with, and
after, streams that were opened, and the edge's frames with their latency. Writes benchmarks/results/half_open.json.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT), str(ROOT / "proto")]
os.environ["PYTHONPATH"] = f"{ROOT}:{ROOT / 'proto'}:{ROOT / 'tests' / 'support'}"

import grpc.aio  # noqa: E402
import psutil  # noqa: E402
from hand_edges import HandEdge, good, hand_edges  # noqa: E402
from processes import Cloud  # noqa: E402

from common.channel import client_options  # noqa: E402
from lamplight.v1 import enhancement_pb2_grpc  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "half_open.json"
SENDERS, STEADY_S, FPS = 2, 5.0, 20


async def hold(address: str, streams: int, connections: int) -> None:
    """Hold streams half open until killed; a line when all were opened once, then one a second with how many were."""
    opened = 0

    async def one(stub: enhancement_pb2_grpc.EnhancementStub) -> None:
        nonlocal opened
        while True:
            call = stub.Stream()
            opened += 1
            try:
                await call.read()
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.5)

    tasks = []
    for number in range(connections):
        stub = enhancement_pb2_grpc.EnhancementStub(grpc.aio.insecure_channel(address, options=client_options()))
        share = streams // connections + (number < streams % connections)
        tasks += [asyncio.create_task(one(stub)) for _ in range(share)]
    while True:
        await asyncio.sleep(1.0)
        print(opened, flush=True)


async def work(edge: HandEdge, seconds: float, first: int) -> list[float]:
    """Send frames at an even rate; returns the milliseconds until each was accepted."""
    took, start_s = [], time.monotonic()
    for number in range(int(seconds * FPS)):
        await asyncio.sleep(max(0.0, start_s + number / FPS - time.monotonic()))
        sent_s = time.monotonic()
        await edge.frame(good(first + number))
        await edge.verdict()
        took.append((time.monotonic() - sent_s) * 1e3)
    return took


async def measure(cloud: Cloud, streams: int, connections: int) -> dict[str, object]:
    node = psutil.Process(cloud.pid)
    found: dict[str, object] = {"streams": streams, "connections": connections}
    async with hand_edges(cloud.address) as make:
        edge = make()
        await edge.open("works", "s")
        found["alone_ms"] = shown(await work(edge, STEADY_S, 0))
        found["rss_mib_before"] = round(node.memory_info().rss / 2**20)
        command = [sys.executable, __file__, "--hold", cloud.address, "--streams", str(streams // SENDERS)]
        command += ["--connections", str(connections // SENDERS)]
        started = (
            asyncio.to_thread(subprocess.Popen, command, stdout=subprocess.PIPE, text=True) for _ in range(SENDERS)
        )
        senders = await asyncio.gather(*started)
        try:
            for sender in senders:
                assert sender.stdout is not None
                await asyncio.to_thread(sender.stdout.readline)
            took, first, peak = [], 10_000, 0
            for _ in range(int(2 * STEADY_S)):
                took += await work(edge, 1.0, first)
                first, peak = first + 1000, max(peak, node.memory_info().rss)
            found |= {"beside_ms": shown(took), "rss_mib_with": round(peak / 2**20)}
            newcomer = make()
            start_s = time.monotonic()
            await newcomer.open("comes-late", "s")
            found["newcomer_opens_ms"] = round((time.monotonic() - start_s) * 1e3)
            found["files_with"] = node.num_fds()
        finally:
            for sender in senders:
                sender.kill()
            said = [sender.communicate()[0].split() for sender in senders]
        found["opened"] = sum(int(lines[-1]) for lines in said if lines)
        await asyncio.sleep(2.0)
        found["rss_mib_after"] = round(node.memory_info().rss / 2**20)
        found["files_after"] = node.num_fds()
    return found


def shown(took: list[float]) -> dict[str, float]:
    took = sorted(took)
    return {"p50": round(statistics.median(took), 1), "p95": round(took[int(0.95 * len(took))], 1), "frames": len(took)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--hold", metavar="ADDRESS", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.hold:
        return asyncio.run(hold(given.hold, given.streams, given.connections))
    cloud = Cloud("--preset", "none")
    try:
        found = asyncio.run(measure(cloud, given.streams, given.connections))
    finally:
        cloud.end(signal.SIGKILL)
    print(json.dumps(found, indent=1))
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
