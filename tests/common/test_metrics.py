"""The table, its page, and the instruments that are made from it."""

import logging
import re
import runpy

import pytest
from processes import ROOT
from prometheus_client.parser import text_string_to_metric_families

from common import spans
from common.metric_table import CLOUD, EDGE, METRICS, PROCESS, Kind
from common.metrics import Meters, Sources, pushes


@pytest.fixture(autouse=True)
def no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


def numbered(side: str) -> Sources:
    """A source for each metric, that gives its place in the table and a word for each label."""
    return {
        metric.name: lambda number=number, metric=metric: [(number, *metric.labels)]
        for number, metric in enumerate(METRICS[side])
        if metric.kind is not Kind.HISTOGRAM and metric not in PROCESS
    }


def meters(side: str = "cloud", prometheus: bool = True) -> Meters:
    return Meters(side, numbered(side), service="lamplight-test", instance="i", prometheus=prometheus)


def test_the_page_has_the_table() -> None:
    write = runpy.run_path(str(ROOT / "docs" / "write_metrics.py"))
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert page == write["written"](page), "python docs/write_metrics.py"
    known = {metric.prometheus for metric in (*CLOUD, *EDGE)}
    for file in sorted((ROOT / "docs").glob("*.md")):
        named = set(re.findall(r"\blamplight_(?:cloud|edge|process)_\w+", file.read_text()))
        named = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named}
        assert named <= known, f"{file.name} names metrics that nobody emits: {named - known}"


@pytest.mark.parametrize("side", ["cloud", "edge"])
def test_every_metric_is_scraped_under_its_name(side: str) -> None:
    made = meters(side)
    for metric in METRICS[side]:
        if metric.kind is Kind.HISTOGRAM:
            made.observe(metric.name, 0.03, *metric.labels)
    families = {family.name: family for family in text_string_to_metric_families(made.scrape().decode())}
    made.stop()
    for number, metric in enumerate(METRICS[side]):
        family = families.pop(metric.prometheus.removesuffix("_total"))
        assert family.type == metric.kind.value and family.documentation == metric.help
        if metric not in PROCESS and metric.kind is not Kind.HISTOGRAM:
            [sample] = family.samples
            assert sample.value == number and sample.labels == dict(zip(metric.labels, metric.labels, strict=True))
    assert not families


def test_a_histogram_counts_by_its_buckets() -> None:
    made = meters()
    for seconds in (0.001, 0.3, 100.0):
        made.observe("lamplight.cloud.frame.duration", seconds, "essential")
    text = made.scrape().decode()
    made.stop()
    buckets = dict(re.findall(r'frame_duration_seconds_bucket\{le="([^"]+)",priority="essential"\} (\S+)', text))
    assert (buckets["0.005"], buckets["0.5"], buckets["60.0"], buckets["+Inf"]) == ("1.0", "2.0", "2.0", "3.0")


def test_a_metric_without_a_source_is_an_error() -> None:
    lacking = dict(numbered("cloud"))
    del lacking["lamplight.cloud.edges"]
    with pytest.raises(ValueError, match=r"lamplight\.cloud\.edges"):
        Meters("cloud", lacking, service="s", instance="i", prometheus=True)


def test_a_collector_gets_all_at_the_end(otlp, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not pushes()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.endpoint)
    assert pushes()
    made = meters("edge", prometheus=False)
    made.observe("lamplight.edge.frame.latency", 0.25, "cam", "standard")
    made.stop()
    got = otlp.metrics()
    assert set(got) >= {metric.name for metric in EDGE if metric.kind is not Kind.HISTOGRAM}
    assert got["lamplight.edge.link.rate"].unit == "By/s"
    [point] = got["lamplight.edge.frame.latency"].histogram.data_points
    assert point.count == 1 and {item.key: item.value.string_value for item in point.attributes} == {
        "edge": "cam",
        "priority": "standard",
    }


def test_a_collector_that_is_away_is_said_once(
    free_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setattr(spans, "STOP_S", 30.0)
    with caplog.at_level(logging.DEBUG):
        made = meters()
        for _ in range(3):
            made._provider.force_flush()
        assert b"lamplight_cloud_edges" in made.scrape(), "Prometheus gets its answer all the same"
        made.stop()
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == ["the collector does not take metrics: they are dropped until it does"]
