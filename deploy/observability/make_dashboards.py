"""Writes the dashboards in grafana/dashboards/ from the tables below.

python deploy/observability/make_dashboards.py
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "grafana" / "dashboards"
PROMETHEUS = {"type": "prometheus", "uid": "prometheus"}
WIDTH, HEIGHT = 8, 7  # three panels a row


@dataclass(frozen=True)
class Panel:
    """`queries` are (PromQL, legend)."""

    title: str
    unit: str  # of Grafana: s, bytes, Bps, short, percentunit, reqps
    queries: tuple[tuple[str, str], ...]
    about: str = ""
    kind: str = "timeseries"
    stacked: bool = False


def p50_p99(histogram: str, where: str = "", by: str = "") -> tuple[tuple[str, str], ...]:
    labels = f"le, {by}" if by else "le"
    legend = f" {{{{{by}}}}}" if by else ""
    return tuple(
        (
            f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket{where}[$__rate_interval])))",
            f"{name}{legend}",
        )
        for q, name in ((0.5, "p50"), (0.99, "p99"))
    )


def rate(counter: str, where: str = "", by: str = "") -> str:
    grouped = f"sum by ({by}) " if by else "sum"
    return f"{grouped}(rate({counter}{where}[$__rate_interval]))"


FLEET = (
    Panel(
        "Cloud nodes ready",
        "short",
        (("sum(lamplight_cloud_ready)", "ready"), ("count(lamplight_cloud_ready)", "all")),
        kind="stat",
    ),
    Panel("Edges connected", "short", (("sum(lamplight_cloud_edges)", ""),), kind="stat"),
    Panel(
        "Frames lit up",
        "reqps",
        ((rate("lamplight_cloud_frames_settled_total", '{outcome="enhanced"}'), ""),),
        kind="stat",
    ),
    Panel(
        "Frames by outcome",
        "reqps",
        (
            (rate("lamplight_cloud_frames_settled_total", by="outcome"), "{{outcome}}"),
            (rate("lamplight_cloud_frames_rejected_total", by="reason"), "rejected: {{reason}}"),
        ),
        stacked=True,
    ),
    Panel(
        "Time in the cloud node",
        "s",
        p50_p99("lamplight_cloud_frame_duration_seconds", by="priority"),
        "From a frame's arrival until NATS has its result.",
    ),
    Panel(
        "Oldest frame that waits", "s", (("max by (priority) (lamplight_cloud_queue_oldest_seconds)", "{{priority}}"),)
    ),
    Panel(
        "Frames that wait",
        "short",
        (("sum by (priority) (lamplight_cloud_queue_frames)", "{{priority}}"),),
        stacked=True,
    ),
    Panel(
        "Device use",
        "percentunit",
        (("rate(lamplight_cloud_device_busy_seconds_total[$__rate_interval])", "{{instance}} {{device}}"),),
    ),
    Panel("Frames of a batch", "short", p50_p99("lamplight_cloud_batch_frames")),
    Panel("A batch on the device", "s", p50_p99("lamplight_cloud_batch_duration_seconds")),
    Panel(
        "Bytes",
        "Bps",
        (
            (rate("lamplight_cloud_received_bytes_total"), "frames in"),
            (rate("lamplight_cloud_published_bytes_total"), "results out"),
        ),
    ),
    Panel(
        "Results that wait for NATS", "short", (("sum by (priority) (lamplight_cloud_spool_results)", "{{priority}}"),)
    ),
    Panel("NATS connected", "short", (("lamplight_cloud_nats_connected", "{{instance}}"),)),
    Panel(
        "Faults of devices",
        "short",
        (("increase(lamplight_cloud_device_faults_total[$__rate_interval])", "{{instance}} {{device}} {{fault}}"),),
    ),
    Panel(
        "Memory",
        "bytes",
        (
            ("lamplight_process_resident_bytes", "{{job}} {{instance}}"),
            ("lamplight_cloud_device_resident_bytes", "{{job}} {{instance}} {{device}}"),
        ),
    ),
    Panel(
        "Processors",
        "short",
        (
            ("rate(lamplight_process_cpu_seconds_total[$__rate_interval])", "{{job}} {{instance}}"),
            ("rate(lamplight_cloud_device_cpu_seconds_total[$__rate_interval])", "{{job}} {{instance}} {{device}}"),
        ),
        "A cloud node's own process and that of each device. Its own has little more than one processor: near 1 it "
        "is what bounds the node, and another node helps where another device does not.",
    ),
)

ONE = '{edge="$edge"}'
EDGE = (
    Panel(
        "Cloud",
        "short",
        ((f"lamplight_edge_uplink_connected{ONE}", "stream"), (f"lamplight_edge_downlink_connected{ONE}", "NATS")),
        kind="stat",
    ),
    Panel("Lights up by itself", "short", ((f"lamplight_edge_route_local{ONE}", ""),), kind="stat"),
    Panel("Kept, not read yet", "short", ((f"lamplight_edge_spool_frames{ONE}", ""),), kind="stat"),
    Panel("Capture to reading", "s", p50_p99("lamplight_edge_frame_latency_seconds", ONE, "priority")),
    Panel(
        "Where the time goes",
        "s",
        (
            (
                f"sum by (stage) (rate(lamplight_edge_stage_duration_seconds_sum{ONE}[$__rate_interval])) / "
                f"sum by (stage) (rate(lamplight_edge_stage_duration_seconds_count{ONE}[$__rate_interval]))",
                "{{stage}}",
            ),
        ),
        "Mean of each stage, the cloud node's included.",
        stacked=True,
    ),
    Panel("NATS to reading", "s", p50_p99("lamplight_edge_result_lag_seconds", ONE)),
    Panel(
        "Frames by outcome",
        "reqps",
        (
            (rate("lamplight_edge_frames_settled_total", ONE, "outcome"), "{{outcome}}"),
            (rate("lamplight_edge_frames_dropped_total", ONE, "reason"), "not taken: {{reason}}"),
        ),
        stacked=True,
    ),
    Panel(
        "Lit up where",
        "reqps",
        ((rate("lamplight_edge_frames_routed_total", ONE, "route"), "{{route}}"),),
        stacked=True,
    ),
    Panel(
        "What the gate said",
        "reqps",
        ((rate("lamplight_edge_gate_verdicts_total", ONE, "verdict"), "{{verdict}}"),),
        stacked=True,
    ),
    Panel(
        "Link",
        "Bps",
        (
            (f"lamplight_edge_link_rate_bytes_per_second{ONE}", "measured"),
            (rate("lamplight_edge_sent_bytes_total", ONE), "sent"),
            (rate("lamplight_edge_received_bytes_total", ONE), "received"),
        ),
    ),
    Panel("Round trip", "s", ((f"lamplight_edge_link_round_trip_seconds{ONE}", ""),)),
    Panel(
        "Window",
        "short",
        (
            (f"lamplight_edge_window_granted{ONE}", "granted"),
            (f"lamplight_edge_window_frames{ONE}", "free"),
            (f"lamplight_edge_flying_frames{ONE}", "on their way"),
        ),
    ),
    Panel("Spool", "bytes", ((f"lamplight_edge_spool_bytes{ONE}", ""),)),
    Panel("Oldest kept frame", "s", ((f"lamplight_edge_spool_oldest_seconds{ONE}", ""),)),
    Panel(
        "Streams opened again, frames sent again",
        "short",
        (
            (f"increase(lamplight_edge_uplink_opened_total{ONE}[$__rate_interval])", "streams"),
            (f"increase(lamplight_edge_frames_resent_total{ONE}[$__rate_interval])", "frames"),
        ),
    ),
)


def panel(number: int, what: Panel) -> dict[str, Any]:
    custom = {"fillOpacity": 25 if what.stacked else 8, "stacking": {"mode": "normal" if what.stacked else "none"}}
    defaults = {"unit": what.unit, "min": 0} | ({} if what.kind == "stat" else {"custom": custom})
    return {
        "id": number + 1,
        "type": what.kind,
        "title": what.title,
        "description": what.about,
        "datasource": PROMETHEUS,
        "gridPos": {"x": number % 3 * WIDTH, "y": number // 3 * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": defaults},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": PROMETHEUS, "expr": query, "legendFormat": legend}
            for place, (query, legend) in enumerate(what.queries)
        ],
    }


def dashboard(uid: str, title: str, panels: Iterable[Panel], variables: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "uid": uid,
        "title": title,
        "tags": ["lamplight"],
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["lamplight"], "title": "Lamplight", "asDropdown": True}],
        "templating": {"list": variables},
        "panels": [panel(number, what) for number, what in enumerate(panels)],
    }


def dashboards() -> dict[str, dict[str, Any]]:
    """File name -> dashboard."""
    query = "label_values(lamplight_edge_uplink_connected, edge)"
    edge = {"name": "edge", "label": "Edge", "type": "query", "datasource": PROMETHEUS, "query": query, "refresh": 2}
    return {
        "fleet.json": dashboard("lamplight-fleet", "Lamplight: the fleet", FLEET, []),
        "edge.json": dashboard("lamplight-edge", "Lamplight: one edge", EDGE, [edge]),
    }


def main() -> None:
    for name, content in dashboards().items():
        (FOLDER / name).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
