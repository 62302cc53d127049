"""What do traces and metrics cost a frame? CPU time of both sides together, on and off by turns in one process.

    python benchmarks/telemetry.py

A frame's way through both nodes is walked with the code that notes it there: the edge's stages, the cloud node's, a
batch of `--batch`, the result. The spans go to a real collector's receiver in another process, encoding and sending
included. The whole is set against the CPU time of the network `--preset` on one thread for one frame of 600x400, and
against all that a node spends on a frame with a trivial network (`--preset none`, asked of its own /metrics while
`edge_node load` sends such frames). Writes benchmarks/results/telemetry.json.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import numpy as np
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from PIL import Image

from cloud_node.metrics import Activity as CloudActivity
from common import spans, telemetry
from common.frame import FrameId, Outcome, Priority, Reading, Result
from common.metric_table import METRICS, PROCESS, Kind
from common.metrics import Meters
from common.telemetry import Sampling, Timeline, batch_link
from edge_node.metrics import Activity as EdgeActivity

RESULTS = Path(__file__).parent / "results" / "telemetry.json"
EDGE_STAGES = ("source", "gate", "pack", "uplink", "downlink", "unpack", "reader")
CLOUD_STAGES = ("ingress", "scheduler")
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
PAUSE = 200  # frames, after which the collector is waited for, so that nothing is dropped


class Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def Export(self, request, context):
        return trace_service_pb2.ExportTraceServiceResponse()


class Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def Export(self, request, context):
        return metrics_service_pb2.ExportMetricsServiceResponse()


def collect() -> None:
    """A collector, in a process of its own."""
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Traces(), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()


def walk(frames: int, batch: int) -> None:
    """Note `frames` frames on both sides."""
    for first in range(0, frames, batch):
        now = time.time_ns()
        about = {"lamplight.edge": "cam", "lamplight.sequence": first, "lamplight.name": "night.mp4"}
        edges = [Timeline.begin(now, {**about, "lamplight.priority": "standard"}) for _ in range(batch)]
        for edge in edges:
            for stage in EDGE_STAGES[:4]:
                edge.add(stage, now, 1_000_000, (), bytes=1_000)
        clouds = [Timeline(edge.trace) for edge in edges]
        for cloud in clouds:
            for stage in CLOUD_STAGES:
                cloud.add(stage, now, 1_000_000, (), bytes=1_000)
        links = batch_link(clouds, now, 1_000_000, batch_size=batch, model="fast-1")
        for cloud, edge in zip(clouds, edges, strict=True):
            cloud.add("engine", now, 1_000_000, links, model="fast-1", batch_size=batch, bucket="600x400")
            cloud.end("", {"lamplight.edge": "cam", "lamplight.priority": "standard"})
            published = Timeline(cloud.trace)
            published.add("publisher", now, 1_000_000, (), outcome="enhanced")
            published.end("", {"lamplight.edge": "cam", "lamplight.priority": "standard"})
            edge.heard(cloud.trace, cloud.stages_ns)
            for stage in EDGE_STAGES[4:]:
                edge.add(stage, now, 1_000_000, (), bytes=1_000)
            edge.end("", {"lamplight.outcome": "enhanced", "lamplight.regions": 3})
            edge.add("sinks", now, 1_000_000)
        if spans_wait() > PAUSE * 15:
            drain()


def spans_wait() -> int:
    sender = telemetry._sender
    return sender._offered - sender._taken if sender is not None else 0


def drain() -> None:
    while spans_wait():
        time.sleep(0.01)


def traced(frames: int, batch: int, sampling: Sampling | None) -> float:
    """CPU milliseconds a frame; `sampling` None = off."""
    if sampling is not None:
        telemetry.start("lamplight-bench", "i", sampling)
        walk(200, batch)
        drain()
    begin = time.process_time()
    walk(frames, batch)
    telemetry.stop()
    return (time.process_time() - begin) / frames * 1e3


def counted(frames: int, batch: int, on: bool) -> tuple[float, float, float]:
    """CPU milliseconds a frame for metrics of the cloud node and of the edge, and of one scrape of both."""
    made = [meters(side) for side in ("cloud", "edge")] if on else []
    cloud, edge = CloudActivity(), EdgeActivity("cam")
    if made:
        cloud.observe, edge.observe = made[0].observe, made[1].observe
    id = FrameId("cam", "s", 1)
    stages = dict.fromkeys((*EDGE_STAGES, *CLOUD_STAGES, "engine", "publisher"), 1_000_000)
    result = Result(id, 0, Priority.STANDARD, 0, Outcome.ENHANCED, stages_ns=stages)
    reading = Reading(id, "n", 0, Priority.STANDARD, Outcome.ENHANCED, latency_ns=10**8, stages_ns=stages)
    begin = time.process_time()
    for number in range(frames):
        if number % batch == 0:
            cloud.on_batch("cuda:0", 240_000 * batch, 10**7, batch)
        cloud.on_settled(result)
        cloud.on_delivered(result)
    cloud_ms = (time.process_time() - begin) / frames * 1e3
    begin = time.process_time()
    for _ in range(frames):
        edge.on_reading(reading)
        edge.on_lag(Priority.STANDARD, 1)
    edge_ms = (time.process_time() - begin) / frames * 1e3
    begin = time.process_time()
    for _ in range(20):
        for each in made:
            each.scrape()
    scrape = (time.process_time() - begin) / 20 * 1e3
    for each in made:
        each.stop()
    return cloud_ms, edge_ms, scrape


def meters(side: str) -> Meters:
    read = {
        metric.name: lambda metric=metric: [(1, *metric.labels)]
        for metric in METRICS[side]
        if metric.kind is not Kind.HISTOGRAM and metric not in PROCESS
    }
    return Meters(side, read, service="lamplight-bench", instance="i", prometheus=True)


def network_ms(preset: str) -> float:
    """CPU milliseconds of one frame of 600x400, median."""
    import torch

    from cloud_node.engine import Engine
    from common.pixels import RawImage

    engine = Engine(torch.device("cpu"), {preset: None}, threads=1)
    engine.warm_up(600, 400)
    image = RawImage.from_rgb(np.random.default_rng(0).integers(0, 30, (400, 600, 3), np.uint8))
    times = []
    for _ in range(15):
        begin = time.process_time()
        engine.enhance([image], preset)
        times.append((time.process_time() - begin) * 1e3)
    return statistics.median(times[3:])


def trivial_ms() -> float:
    """CPU milliseconds of a frame in a cloud node without a network, all of its two processes."""
    flags = ["--preset", "none", "--port", "0", "--http", "0", "--device", "cpu", "--threads", "1"]
    node = [sys.executable, "-m", "cloud_node", *flags]
    with subprocess.Popen(node, stderr=subprocess.PIPE, text=True) as served, TemporaryDirectory() as folder:
        try:
            assert served.stderr is not None
            lines = iter(served.stderr.readline, "")
            http = next(line for line in lines if "health and status" in line).split()[-1]
            cloud = next(line for line in lines if "ready on" in line).split("ready on ")[1].split()[0]
            noise = np.random.default_rng(0).integers(0, 30, (400, 600, 3), np.uint8)
            Image.fromarray(noise).save(Path(folder, "dark.png"))
            before = scraped(http)
            load = ["-m", "edge_node", "load", "--edges", "4", "--fps", "1.5", "--duration", "15", "--warm-up", "1"]
            where = ["--source", folder, "--cloud", cloud, "--output", str(Path(folder, "out"))]
            subprocess.run([sys.executable, *load, *where], check=True, capture_output=True)
            (cpu, frames), (cpu_before, frames_before) = scraped(http), before
            return (cpu - cpu_before) / (frames - frames_before) * 1e3
        finally:
            served.terminate()


def scraped(address: str) -> tuple[float, float]:
    """CPU seconds, of the device's process too, and enhanced frames so far."""
    with urllib.request.urlopen(f"{address}/metrics") as answer:
        text = answer.read().decode()
    cpu = re.findall(r"^lamplight_(?:process|cloud_device)_cpu_seconds_total(?:{.*})? (\S+)", text, re.MULTILINE)
    assert len(cpu) == 2, cpu
    done = re.findall(r'^lamplight_cloud_frames_settled_total{outcome="enhanced".*} (\S+)', text, re.MULTILINE)
    return sum(map(float, cpu)), sum(map(float, done))


def by_turns(rounds: int, ways: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The median of each."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--collect", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.collect:
        return collect()
    frames, batch = given.frames, given.batch
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            del os.environ[name]
    with subprocess.Popen(
        [sys.executable, __file__, "--collect"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as collector:
        assert collector.stdout is not None and collector.stdin is not None
        endpoint = f"http://127.0.0.1:{collector.stdout.readline().strip()}"
        slow = 3_600 * 10**9
        os.environ[ENDPOINT] = endpoint
        os.environ["OTEL_BSP_SCHEDULE_DELAY"] = "1000"
        traces = by_turns(
            given.rounds,
            {
                "off": lambda: traced(frames, batch, None),
                "1 of 100": lambda: traced(frames, batch, Sampling(0.01, slow)),
                "every frame": lambda: traced(frames, batch, Sampling(1.0, slow)),
            },
        )
        del os.environ[ENDPOINT]
        dropped = spans.COUNTS["full"] + spans.COUNTS["failed"]
        collector.stdin.close()
    counts = [(counted(frames, batch, True), counted(frames, batch, False)) for _ in range(given.rounds)]
    cloud_ms, edge_ms = (statistics.median(on[side] - off[side] for on, off in counts) for side in (0, 1))
    scrape_ms = statistics.median(on[2] for on, _ in counts)
    network, trivial = network_ms(given.preset), trivial_ms()
    row = {
        "spans_dropped": dropped,
        "network": given.preset,
        "network_ms": network,
        "node_without_network_ms": trivial,
        "traces_ms_a_frame": {name: traces[name] - traces["off"] for name in ("1 of 100", "every frame")},
        "timing_of_stages_ms_a_frame": traces["off"],
        "metrics_ms_a_frame": {"cloud node": cloud_ms, "edge": edge_ms},
        "scrape_of_both_ms": scrape_ms,
    }
    RESULTS.write_text(json.dumps(row, indent=1) + "\n")
    print(f"CPU a frame: network {given.preset} {network:.0f} ms; a whole node without one {trivial:.1f} ms")
    costs = {f"traces, {name}": value for name, value in row["traces_ms_a_frame"].items()}
    costs |= {"metrics, cloud node": cloud_ms, "metrics, edge": edge_ms}
    costs["both asked every 15 s, at 10 frames/s"] = scrape_ms / 150
    for name, value in costs.items():
        shares = f"{value / network:.3%} of {given.preset}, {value / trivial:.1%} of a node without network"
        print(f"{name:42} {value:.4f} ms a frame, {shares}")
    print(f"{dropped} spans were dropped")


if __name__ == "__main__":
    main()
