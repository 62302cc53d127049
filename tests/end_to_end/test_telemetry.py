"""What two real nodes tell of themselves: metrics that Prometheus can read, also while they stop, logs and traces."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from processes import ROOT, Cloud, Process, edge_arguments, readings
from prometheus_client.parser import text_string_to_metric_families

from common.metric_table import METRICS


class Scrape:
    """One answer of `/metrics`."""

    def __init__(self, address: str) -> None:
        with urllib.request.urlopen(f"{address}/metrics", timeout=60) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain")
            self.families = list(text_string_to_metric_families(answer.read().decode()))

    @property
    def names(self) -> set[str]:
        return {family.name + "_total" * (family.type == "counter") for family in self.families}

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of a metric's values with these labels."""
        samples = [sample for family in self.families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def address_in(process: Process, what: str) -> str:
    return "http://" + next(line for line in process.lines if what in line).rpartition("http://")[2].split("/")[
        0
    ].strip('"}')


def not_taken(address: str) -> float:
    return Scrape(address)("lamplight_process_spans_total", outcome="failed")


def test_both_nodes_are_scraped_and_the_cloud_node_while_it_stops(
    start, photos: Path, tmp_path: Path, free_port: int
) -> None:
    """The collector is away all the time."""
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
    }
    node = start(Cloud, "--preset", "none", "--http", "0", "--grace-s", "60", "--log-json", env=env)
    cloud_at = address_in(node, "health and status")
    out = tmp_path / "out"
    more = ("--loop", "--metrics-port", "0", "--log-json", "--detector", "none", "--local", "off")
    edge = start(Process, *edge_arguments(node.address, photos, out, *more), env=env)
    edge.wait_for("metrics on")
    edge_at = address_in(edge, "metrics on")
    edge.wait_until(lambda: min(not_taken(edge_at), not_taken(cloud_at)) > 0 and len(readings(out)) >= 8)
    seen, cloud = Scrape(edge_at), Scrape(cloud_at)
    assert {line["outcome"] for line in readings(out)} == {"enhanced"}, "frames do not wait for a collector"

    assert seen.names == {metric.prometheus for metric in METRICS["edge"]}, "all that is documented, and no more"
    assert cloud.names == {metric.prometheus for metric in METRICS["cloud"]}
    name = f"edge-{out.name}"
    read = seen("lamplight_edge_frames_settled_total", edge=name, outcome="enhanced")
    assert read >= 7 and seen("lamplight_edge_frame_latency_seconds_count", priority="standard") >= read - 1
    for metric in ("sent_bytes_total", "received_bytes_total", "captured_bytes_total", "uplink_connected"):
        assert seen(f"lamplight_edge_{metric}", edge=name) > 0
    assert seen("lamplight_edge_result_lag_seconds_count") >= read - 1
    assert seen("lamplight_edge_stage_duration_seconds_count", stage="engine") >= read - 1
    assert cloud("lamplight_cloud_frames_settled_total", outcome="enhanced", priority="standard") >= read
    assert cloud("lamplight_cloud_received_bytes_total") >= seen("lamplight_edge_sent_bytes_total")
    assert cloud("lamplight_cloud_edges") == cloud("lamplight_cloud_ready") == 1
    assert cloud("lamplight_cloud_batch_frames_count") >= read and cloud("lamplight_process_cpu_seconds_total") > 0
    for whose in ("process", "cloud_device"):
        assert cloud(f"lamplight_{whose}_cpu_seconds_total") > 0.1 and cloud(f"lamplight_{whose}_resident_bytes") > 1e7

    request = urllib.request.Request(f"{cloud_at}/metrics", headers={"Host": "elsewhere.example"})
    try:
        urllib.request.urlopen(request, timeout=60)
        raise AssertionError("another name on loopback got an answer")
    except urllib.error.HTTPError as error:
        with error:
            assert error.code == 400

    os.kill(edge.pid, signal.SIGSTOP)  # its results are not fetched: the node that stops waits for it
    node.wait_until(lambda: Scrape(cloud_at)("lamplight_cloud_working_frames") == 0)
    os.kill(node.pid, signal.SIGTERM)
    node.wait_for("stopping")
    draining = Scrape(cloud_at)
    assert draining("lamplight_cloud_ready") == 0 and draining.names == cloud.names
    os.kill(edge.pid, signal.SIGCONT)
    assert edge.end(signal.SIGINT) == 0
    assert node.wait() == 0  # a second signal would end it at once

    for process, service in ((node, "lamplight-cloud"), (edge, "lamplight-edge")):
        logged = [json.loads(line) for line in process.lines]
        assert logged and {line["service"] for line in logged} == {service}
        away = [line["message"] for line in logged if "collector does not take" in line["message"]]
        assert len(away) == 2 and "spans" in " ".join(away) and "metrics" in " ".join(away), "said once of each"


def test_a_frame_that_fails_is_traced_though_none_is_sampled(otlp, start, photos: Path, tmp_path: Path) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp.endpoint, "OTEL_METRIC_EXPORT_INTERVAL": "1000"}
    node = start(Cloud, "--preset", "none", env=env)
    out, quiet = tmp_path / "out", ("--detector", "none", "--local", "off", "--trace-sample", "0")
    more = (*quiet, "--trace-slow-ms", "0")
    edge = start(Process, *edge_arguments(node.address, photos, out, *more), env=env)
    assert edge.wait() == 0
    late = start(
        Process, *edge_arguments(node.address, photos, tmp_path / "late", *quiet, "--deadline-ms", "1"), env=env
    )
    assert late.wait() == 0
    assert node.end() == 0
    expired = [line for line in readings(tmp_path / "late") if line["outcome"] == "expired"]
    assert len(readings(out)) == 4 and expired
    frames = [span for span in otlp.spans() if span.name == "frame"]
    assert len(frames) == len(expired) and all(span.status.message for span in frames)
    assert {"lamplight.cloud.frames.received", "lamplight.edge.frames.taken"} <= otlp.metrics().keys()

    command = [sys.executable, "-m", "edge_node", "trace", "last", "--output", str(out)]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert shown.returncode == 0 and "engine" in shown.stdout and "enhanced" in shown.stdout, shown.stderr
