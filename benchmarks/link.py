"""Essential frames over a slow link that bulk frames fill: how long do they take beside network and detector?

    python benchmarks/link.py [--rate 10] [--round-trip 60] [--loss 0.001] [--seconds 120] [--deadline-ms 0]

Makes a link laboratory (tests/links/), a NATS server and a cloud node on one side and an edge's uplink and downlink on
the other; the node runs without a network (--preset none), so that what is measured is everything else. Every 5 s an
essential 1616x1080 frame is packed, sent, and its result unpacked, while secondary frames of the same size keep the
link full. Prints the latencies against 1.3 x (bytes both ways / rate) + 2 round trips, and what waited in the socket;
writes benchmarks/results/link.json. With --deadline-ms essential frames may be stepped down.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import av
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "proto"), str(ROOT / "tests" / "support"), str(ROOT / "tests" / "links")]

from laboratory import Host, Laboratory, Shape  # noqa: E402
from processes import dark_sign  # noqa: E402
from tcp_trace import trace  # noqa: E402

from common import packing  # noqa: E402
from common.errors import CloudUnavailable  # noqa: E402
from common.frame import Frame, FrameId, Priority, Result  # noqa: E402
from common.memory import tune_malloc  # noqa: E402
from common.nats_server import find_server  # noqa: E402
from common.pixels import ColorMatrix, ColorRange, PixelFormat, RawImage  # noqa: E402
from edge_node import stepping  # noqa: E402
from edge_node.downlink import Downlink  # noqa: E402
from edge_node.stepping import OF_DEADLINE, Measure, Stepper, ladder  # noqa: E402
from edge_node.uplink import Uplink  # noqa: E402
from lamplight.v1 import enhancement_pb2 as pb  # noqa: E402
from lamplight.v1 import image_pb2  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "link.json"
WIDTH, HEIGHT = 1616, 1080
WARM_UP = 4  # essential frames while the link is being measured and steps are taken
PORT, NATS_PORT = 50051, 4222
FRAMES = 3
FRAME_FORMAT = image_pb2.IMAGE_FORMAT_JPEG


def camera_frame(number: int) -> RawImage:
    """A dark photograph with text and noise as the I420 planes of a camera."""
    rgb = np.asarray(dark_sign("STATION " * (number + 1), (WIDTH, HEIGHT)))
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG")
    planes = [
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].reshape(-1)
        for plane in frame.planes
    ]
    return RawImage(np.concatenate(planes), WIDTH, HEIGHT, PixelFormat.I420, ColorRange.LIMITED, ColorMatrix.BT601)


# --- on the edge's side of the link ---


class Edge:
    """An uplink and a downlink, with what an edge node does to a frame between source and reader."""

    def __init__(self, cloud: str, part_kib: int, deadline_ms: float) -> None:
        self.images = [camera_frame(number) for number in range(FRAMES)]
        self.waiting: dict[int, asyncio.Future[tuple[Result, int, int]]] = {}
        self.sequences = count()
        self.pool = ThreadPoolExecutor(2)
        allowed = {Measure.BOUNDED, Measure.SIZE} if deadline_ms else set()
        self.stepper = Stepper(ladder(allowed), OF_DEADLINE * deadline_ms / 1000)
        self.opened: asyncio.Future[pb.Opened] = asyncio.get_running_loop().create_future()
        self.sent_bulk = self.broken = 0
        self.uplink = Uplink(
            cloud,
            opening=lambda: pb.Open(edge="link", session="s", encoding=image_pb2.ResultEncoding(format=FRAME_FORMAT)),
            on_opened=lambda opened: None if self.opened.done() else self.opened.set_result(opened),
            on_rejected=lambda rejected: print("rejected:", rejected.detail, file=sys.stderr),
            part_bytes=part_kib * 1024,
        )

    async def run(self, essential: int, bulk: bool, every_s: float) -> list[dict[str, Any]]:
        tasks = [asyncio.create_task(self.uplink.run())]
        opened = await self.opened
        downlink = self.downlink = Downlink(
            list(opened.results.servers),
            [(item.priority, item.stream, item.consumer) for item in opened.results.consumers],
            edge="link",
            session="s",
        )
        tasks.append(asyncio.create_task(downlink.run(self._result)))
        if bulk:
            tasks.append(asyncio.create_task(self._bulk()))
        rows = []
        start = time.monotonic()
        for number in range(essential + WARM_UP):
            await asyncio.sleep(max(0.0, start + number * every_s - time.monotonic()))
            rows.append(await self._essential(self.images[number % FRAMES]))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return rows[WARM_UP:]

    async def _essential(self, image: RawImage) -> dict[str, Any]:
        below = await asyncio.to_thread(unsent, self.uplink.address)
        loop, started = asyncio.get_running_loop(), time.monotonic()
        self.uplink.expect()
        step = self.stepper.choose(self.uplink.meter.rate_now(started))
        packed = await loop.run_in_executor(self.pool, stepping.pack, image, step)
        self.stepper.packed(step, len(packed.payload))
        packed_s = time.monotonic()
        frame = self._frame(packed, Priority.ESSENTIAL)
        future = self.waiting[frame.id.sequence] = loop.create_future()
        await self.uplink.reserve(frame)
        reserved_s = time.monotonic()
        await self.uplink.send(frame)
        sent_s = time.monotonic()
        result, size, published_ns = await future
        arrived_s = time.monotonic()
        self.stepper.arrived(arrived_s - started, len(packed.payload), self.uplink.meter.rate)
        assert result.image is not None, result.reason
        await loop.run_in_executor(self.pool, packing.decode, result.image)
        done_s = time.monotonic()
        published_ms = (published_ns - frame.captured_unix_ns) / 1e6 + (packed_s - started) * 1000  # one clock for all
        network_ms = result.stages_ns.get("engine/enhance", 0) / 1e6
        return {
            "s": started,
            "ms": (done_s - started) * 1000 - network_ms,
            "network_ms": network_ms,
            "pack_ms": (packed_s - started) * 1000,
            "window_ms": (reserved_s - packed_s) * 1000,
            "send_ms": (sent_s - reserved_s) * 1000,
            "result_ms": (arrived_s - sent_s) * 1000,
            "cloud_ms": published_ms - (sent_s - started) * 1000 - network_ms,
            "down_ms": (arrived_s - started) * 1000 - published_ms,
            "unpack_ms": (done_s - arrived_s) * 1000,
            "sent_as": str(step),
            "up": len(packed.payload),
            "down": size,
            "socket": below,
            "rate_mbit": self.uplink.meter.rate / 125_000,
            "round_trip_ms": self.uplink.meter.round_trip_s * 1000,
            "part": self.uplink._part_bytes(),
            "stages_ms": {stage: ns / 1e6 for stage, ns in result.stages_ns.items()},
        }

    async def _bulk(self) -> None:
        """Secondary frames, as many as go."""
        packed = [packing.pack(image) for image in self.images]
        for number in count():
            await self.uplink.window.open(Priority.SECONDARY)
            frame = self._frame(packed[number % FRAMES], Priority.SECONDARY)
            await self.uplink.reserve(frame)
            asyncio.create_task(self._send(frame))  # noqa: RUF006
            await asyncio.sleep(0)

    async def _send(self, frame: Frame) -> None:
        try:
            await self.uplink.send(frame)
            self.sent_bulk += 1
        except CloudUnavailable:
            self.broken += 1

    def _frame(self, packed: packing.PackedImage, priority: Priority) -> Frame:
        return Frame(FrameId("link", "s", next(self.sequences)), packed, time.time_ns(), priority=priority)

    async def _result(self, result: Result, size: int) -> None:
        if (future := self.waiting.pop(result.id.sequence, None)) is not None:
            future.set_result((result, size, self.downlink.published_unix_ns))


def unsent(address: str) -> dict[str, int]:
    """Bytes that the socket holds: all that were not acknowledged, and those not sent yet."""
    shown = subprocess.run(["ss", "-tinH", "dst", address], capture_output=True, text=True).stdout
    queue = re.search(r"ESTAB\s+\d+\s+(\d+)", shown)
    notsent = re.search(r"notsent:(\d+)", shown)
    return {"queued": int(queue[1]) if queue else 0, "unsent": int(notsent[1]) if notsent else 0}


async def on_edge(given: argparse.Namespace) -> None:
    if given.trace:
        trace(PORT, given.trace)
    edge = Edge(given.cloud, given.part_kib, given.deadline_ms)
    rows = await edge.run(int(given.seconds / given.every), not given.no_bulk, given.every)
    print(json.dumps({"rows": rows, "bulk": edge.sent_bulk, "broken": edge.broken}))


# --- the laboratory around it ---


def start_cloud(host: Host, store: Path, preset: str) -> None:
    """A NATS server and a cloud node, ready."""
    nats = ("-js", "-a", "0.0.0.0", "-p", str(NATS_PORT), "-sd", str(store))
    host.start(str(find_server()), *nats, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    node = host.start(
        *(sys.executable, "-m", "cloud_node", "--device", "cpu", "--threads", "1", "--preset", preset),
        *("--host", "0.0.0.0", "--insecure", "--port", str(PORT), "--nats", f"nats://{host.address}:{NATS_PORT}"),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert node.stderr is not None
    for line in node.stderr:
        if "ready on" in line:
            return
    raise SystemExit("the cloud node did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=10.0, metavar="MBIT", help="(default: 10)")
    parser.add_argument("--round-trip", type=float, default=60.0, metavar="MS", help="(default: 60)")
    parser.add_argument("--loss", type=float, default=0.001, help="share of packets, each way (default: 0.001)")
    parser.add_argument("--queue", type=float, default=100.0, metavar="MS", help="of the bottleneck (default: 100)")
    parser.add_argument("--congestion", default="cubic", help="TCP's congestion control (default: cubic)")
    parser.add_argument("--seconds", type=float, default=120.0, help="(default: 120)")
    parser.add_argument("--every", type=float, default=5.0, metavar="S", help="an essential frame (default: 5)")
    parser.add_argument("--preset", default="none", help="the cloud node's network (default: none)")
    parser.add_argument("--part-kib", type=int, default=1024, help="largest part (default: 1024)")
    parser.add_argument("--deadline-ms", type=float, default=0.0, help="step down to meet this; 0 = lossless (default)")
    parser.add_argument("--tuned-servers", action="store_true", help="BBR on the cloud's side, as docs/link.md advises")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="what TCP does on the edge, as lines of JSON")
    parser.add_argument("--no-bulk", action="store_true", help="essential frames alone")
    parser.add_argument("--cloud", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.cloud:
        tune_malloc()
        logging.basicConfig(level=logging.WARNING)
        return asyncio.run(on_edge(given))
    shape = Shape(given.rate, given.round_trip / 2, given.loss, given.queue)
    with Laboratory(given.congestion) as laboratory, tempfile.TemporaryDirectory() as store:
        edge, cloud = laboratory.host("edge", shape), laboratory.host("cloud")
        if given.tuned_servers:
            cloud.run("ip", "route", "replace", "default", "via", cloud.router_address, "congctl", "bbr")
        start_cloud(cloud, Path(store), given.preset)
        inside = edge.start(
            *(sys.executable, __file__, *sys.argv[1:], "--cloud", f"{cloud.address}:{PORT}"),
            stdout=subprocess.PIPE,
            text=True,
        )
        out, _ = inside.communicate()
    found = json.loads(out.splitlines()[-1])
    report(found, given)


def report(found: dict[str, Any], given: argparse.Namespace) -> None:
    rows = found["rows"]
    bytes_ms = [(row["up"] + row["down"]) * 8 / given.rate / 1000 for row in rows]
    bounds = [1.3 * ms + 2 * given.round_trip for ms in bytes_ms]
    over = [row["ms"] / bound for row, bound in zip(rows, bounds, strict=True)]

    def p(values: list[float], at: int) -> float:
        return statistics.quantiles(values, n=100, method="inclusive")[at - 1]

    print(f"{len(rows)} essential frames, {found['bulk']} bulk frames beside them, {found['broken']} broken off")
    print(f"{'ms':>14}  p50 {p([row['ms'] for row in rows], 50):7.0f}  p95 {p([row['ms'] for row in rows], 95):7.0f}")
    print(
        f"{'bound, ms':>14}  p50 {p(bounds, 50):7.0f};  latency / bound  p50 {p(over, 50):.2f}  p95 {p(over, 95):.2f}"
    )
    for name in (
        "network_ms",
        "pack_ms",
        "window_ms",
        "send_ms",
        "result_ms",
        "cloud_ms",
        "down_ms",
        "unpack_ms",
        "rate_mbit",
        "round_trip_ms",
        "part",
    ):
        values = [row[name] for row in rows]
        print(f"{name:>14}  p50 {p(values, 50):7.1f}  p95 {p(values, 95):7.1f}")
    print(f"{'sent as':>14}  {dict(Counter(row['sent_as'] for row in rows))}")
    for name in ("queued", "unsent"):
        values = [float(row["socket"][name]) for row in rows]
        print(f"{name:>14}  p50 {p(values, 50):7.0f}  p95 {p(values, 95):7.0f}  bytes in the socket")
    key = re.sub(r" ?--trace \S+", "", " ".join(sys.argv[1:])) or "default"
    written = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    written[key] = {
        "p50_ms": p([row["ms"] for row in rows], 50),
        "p95_ms": p([row["ms"] for row in rows], 95),
        "p95_of_bound": p(over, 95),
        "network_p50_ms": p([row["network_ms"] for row in rows], 50),
        "frames": len(rows),
        "sent_as": Counter(row["sent_as"] for row in rows),
        "up_bytes": statistics.mean(row["up"] for row in rows),
        "down_bytes": statistics.mean(row["down"] for row in rows),
    }
    with contextlib.suppress(OSError):
        RESULTS.write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
