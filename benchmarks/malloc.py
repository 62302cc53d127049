"""Does `tune_malloc` make large messages faster? The same gRPC traffic with and without it, in one run.

    python benchmarks/malloc.py

Echoes messages over a loopback stream, four in flight, client and server as two processes; prints messages/s and
CPU per message for each size, tuned against not, and writes benchmarks/results/malloc.json.
"""

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import grpc

from common.channel import connect, server_options
from common.memory import tune_malloc
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import enhancement_pb2_grpc, frame_pb2, image_pb2

SIZES = {"100 kB": 100_000, "700 kB": 700_000, "3 MB": 3_000_000}
IN_FLIGHT = 4
RESULTS = Path(__file__).parent / "results" / "malloc.json"


class Sink(enhancement_pb2_grpc.EnhancementServicer):
    """Answers each frame with a credit, as a node does."""

    async def Stream(self, requests, context):
        async for message in requests:
            yield pb.CloudMessage(credit=pb.Credit(frames=1, bytes=len(message.frame.image.payload)))


async def serve() -> None:
    server = grpc.aio.server(options=server_options())
    enhancement_pb2_grpc.add_EnhancementServicer_to_server(Sink(), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await asyncio.to_thread(sys.stdin.read)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(usage.ru_utime + usage.ru_stime, flush=True)
    await server.stop(0)


async def send(port: int, size: int, count: int) -> float:
    """Seconds for `count` messages."""
    payload = bytes(size)
    async with connect(f"127.0.0.1:{port}") as channel:
        call = enhancement_pb2_grpc.EnhancementStub(channel).Stream()
        start = time.perf_counter()
        for number in range(count + IN_FLIGHT):
            if number < count:
                image = image_pb2.PackedImage(payload=payload)
                await call.write(pb.EdgeMessage(frame=frame_pb2.Frame(sequence=number, image=image)))
            if number >= IN_FLIGHT:
                await call.read()
        seconds = time.perf_counter() - start
        await call.done_writing()
    return seconds


def measure(size: int, tuned: bool) -> dict[str, float]:
    """One run in fresh processes, so that neither setting sees the other's heap."""
    flag = ["--tuned"] if tuned else []
    command = [sys.executable, __file__, *flag]
    server = subprocess.Popen([*command, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    port = server.stdout.readline().strip()
    client = subprocess.run([*command, "--send", port, str(size)], capture_output=True, text=True, check=True)
    answer, _ = server.communicate()
    made = json.loads(client.stdout)
    return {"rate": made["rate"], "cpu_ms": made["cpu_ms"] + 1000 * float(answer) / made["count"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--send", nargs=2, metavar=("PORT", "BYTES"), help=argparse.SUPPRESS)
    parser.add_argument("--tuned", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, default=3, help="runs of each (default: 3)")
    given = parser.parse_args()
    if given.tuned:
        tune_malloc()
    if given.serve:
        return asyncio.run(serve())
    if given.send:
        port, size = map(int, given.send)
        count = max(60, 300_000_000 // size)
        asyncio.run(send(port, size, 20))
        before = resource.getrusage(resource.RUSAGE_SELF)
        seconds = asyncio.run(send(port, size, count))
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return print(json.dumps({"rate": count / seconds, "cpu_ms": 1000 * cpu / count, "count": count}))

    table = {}
    print(f"{'message':>8} {'as it is':>12} {'tuned':>12} {'ratio':>7}   CPU ms a message, both ends")
    for name, size in SIZES.items():
        runs = [(measure(size, False), measure(size, True)) for _ in range(given.runs)]
        plain, tuned = ({key: statistics.median(run[i][key] for run in runs) for key in runs[0][i]} for i in (0, 1))
        ratio = statistics.median(run[1]["rate"] / run[0]["rate"] for run in runs)
        table[name] = {"plain": plain, "tuned": tuned, "ratio": ratio}
        print(
            f"{name:>8} {plain['rate']:>10.0f}/s {tuned['rate']:>10.0f}/s {ratio:>6.2f}x"
            f"   {plain['cpu_ms']:.2f} -> {tuned['cpu_ms']:.2f}"
        )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
