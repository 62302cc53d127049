"""Spans against a real OTLP/gRPC receiver."""

import logging
import socket
import threading
import time

import pytest

from common import spans, telemetry
from common.errors import SettingsError
from common.telemetry import Sampling, Timeline, batch_link

ERRORS_AND_SLOW = Sampling(0.0, 3_600 * 10**9)


@pytest.fixture
def tracing(otlp, monkeypatch: pytest.MonkeyPatch):
    """Start with a sampling; gives the receiver. Stopped at the end."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.endpoint)

    def start(sampling: Sampling | None = None):
        assert telemetry.start("lamplight-test", "i1", sampling)
        return otlp

    yield start
    telemetry.stop()


def test_without_an_endpoint_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    assert not telemetry.start("s", "i")
    timeline = Timeline.begin(time.time_ns(), {})
    with timeline.stage("pack"):
        pass
    timeline.add("pack", time.time_ns(), 1_000)
    timeline.end("", {})
    assert timeline.trace == {}
    assert timeline.stages_ns["pack"] > 1_000, "stages are timed all the same, and add up"
    assert batch_link([timeline], 0, 1) == []


def test_one_frame_is_one_trace(tracing) -> None:
    otlp = tracing()
    captured = time.time_ns()
    edge = Timeline.begin(captured, {"lamplight.edge": "cam", "lamplight.priority": "standard"})
    with edge.stage("pack", raw_bytes=12):
        pass
    cloud = Timeline(edge.trace)
    start = time.time_ns()
    links = batch_link([cloud, cloud], start, 5_000_000, batch_size=2)
    cloud.add("engine", start, 5_000_000, links, model="m", bucket="600x400", batch_size=2)
    cloud.add("engine", start, 1, links)
    cloud.end("", {"lamplight.edge": "cam", "lamplight.priority": "standard"})
    edge.end("broken", {"lamplight.outcome": "failed"})
    edge.add("sinks", start, 7)
    telemetry.stop()

    made = otlp.spans()
    assert sorted(span.name for span in made) == ["batch", "engine", "engine", "frame", "pack", "sinks"]
    spans = {span.name: span for span in reversed(made)}
    root = spans["frame"]
    assert not root.parent_span_id and root.start_time_unix_nano == captured
    assert root.status.code == 2 and root.status.message == "broken"
    assert {spans[name].trace_id for name in ("frame", "pack", "engine", "sinks")} == {root.trace_id}
    assert {spans[name].parent_span_id for name in ("pack", "engine", "sinks")} == {root.span_id}
    assert len({span.span_id for span in made}) == 6
    engine = spans["engine"]
    assert engine.end_time_unix_nano - engine.start_time_unix_nano == 5_000_000
    attributes = {item.key: item.value.string_value or item.value.int_value for item in engine.attributes}
    assert attributes == {
        "lamplight.edge": "cam", "lamplight.priority": "standard", "lamplight.model": "m",
        "lamplight.bucket": "600x400", "lamplight.batch_size": 2,
    }  # fmt: skip
    assert spans["batch"].trace_id != root.trace_id
    assert [link.span_id for link in engine.links] == [spans["batch"].span_id]
    assert [link.trace_id for link in spans["batch"].links] == [root.trace_id] * 2
    assert otlp.services() == {"lamplight-test"}


def frame(cloud_error: str = "", edge_error: str = "", cloud_ns: int = 5) -> Timeline:
    """A frame's way through both sides."""
    edge = Timeline.begin(time.time_ns(), {})
    edge.add("uplink", 1_000, 500)
    cloud = Timeline(edge.trace)
    cloud.add("engine", time.time_ns(), cloud_ns, batch_link([cloud], 1, 1))
    cloud.end(cloud_error, {})
    edge.heard(cloud.trace, cloud.stages_ns)
    edge.end(edge_error, {})
    return edge


def names(otlp) -> list[str]:
    telemetry.stop()
    return sorted(span.name for span in otlp.spans())


def test_what_went_well_is_sampled_by_both_sides_alike(tracing) -> None:
    otlp = tracing(Sampling(0.5, 0))
    kept = [frame().trace["traceparent"].endswith("-01") for _ in range(200)]
    found = names(otlp)
    assert 50 < sum(kept) < 150
    assert [found.count(name) for name in ("frame", "uplink", "engine", "batch")] == [sum(kept)] * 4


def test_nothing_is_kept_of_what_went_well_at_a_share_of_0(tracing) -> None:
    otlp = tracing(ERRORS_AND_SLOW)
    frame()
    assert names(otlp) == []


def test_what_fails_in_the_cloud_is_kept_by_both(tracing) -> None:
    otlp = tracing(ERRORS_AND_SLOW)
    frame(cloud_error="no memory")
    assert names(otlp) == ["batch", "engine", "frame", "uplink"]


def test_what_fails_on_the_edge_has_the_clouds_times(tracing) -> None:
    otlp = tracing(ERRORS_AND_SLOW)
    frame(edge_error="no reader")
    assert names(otlp) == ["engine", "frame", "uplink"]
    [engine] = [span for span in otlp.spans() if span.name == "engine"]
    assert (engine.start_time_unix_nano, engine.end_time_unix_nano) == (1_500, 1_505), "after it was sent"
    assert [item.key for item in engine.attributes] == ["lamplight.told"]


def test_slow_frames_are_kept(tracing) -> None:
    otlp = tracing(Sampling(0.0, 1))
    frame()
    assert names(otlp) == ["batch", "engine", "frame", "uplink"]


def test_a_frame_given_back_leaves_no_half_trace(tracing) -> None:
    otlp = tracing(ERRORS_AND_SLOW)
    cloud = Timeline(Timeline.begin(time.time_ns(), {}).trace)
    cloud.add("ingress", 1, 1)
    cloud.let_go()
    cloud.add("engine", 1, 1)
    assert names(otlp) == []


@pytest.mark.parametrize("traceparent", ["00-zz-zz-01", f"00-{0:032x}-{1:016x}-01", f"ff-{1:032x}-{1:016x}-01", "\x00"])
def test_a_broken_trace_context_is_ignored(tracing, traceparent: str) -> None:
    otlp = tracing()
    timeline = Timeline({"traceparent": traceparent, "tracestate": "\x00"})
    links = batch_link([timeline], time.time_ns(), 1)
    timeline.add("engine", time.time_ns(), 1, links)
    timeline.heard({"traceparent": traceparent}, {})
    timeline.end("failed", {})
    assert timeline.stages_ns == {"engine": 1}
    assert names(otlp) == []


def test_a_collector_that_is_away_is_said_once_and_counted(
    free_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setattr(spans, "QUEUE", 20)
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5")
    monkeypatch.setattr(spans, "STOP_S", 30.0)
    before = spans.COUNTS.copy()
    telemetry.start("lamplight-test", "i1", Sampling())
    with caplog.at_level(logging.DEBUG):
        for _ in range(100):
            timeline = Timeline.begin(time.time_ns(), {})
            timeline.add("pack", 1, 1)
            timeline.end("", {})
        assert timeline.trace
        telemetry.stop()
    counts = spans.COUNTS - before
    assert counts["full"] >= 160 and counts["failed"] and counts["full"] + counts["failed"] == 200
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == ["the collector does not take spans: they are dropped until it does"]


def test_stop_leaves_a_collector_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "STOP_S", 0.2)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        telemetry.start("lamplight-test", "i1")
        Timeline.begin(time.time_ns(), {}).end("", {})
        telemetry.stop()
        left = [thread for thread in threading.enumerate() if thread.name == "telemetry stop"]
    assert len(left) == 1 and left[0].daemon
    assert Timeline.begin(time.time_ns(), {}).trace == {}, "tracing is off"
    telemetry.stop()
    left[0].join(60)
    assert not left[0].is_alive()


def test_the_share_comes_from_the_flag_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_TRACES_SAMPLER", raising=False)
    assert Sampling.chosen(None, 500) == Sampling(1.0, 500_000_000)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    assert Sampling.chosen(None, 0) == Sampling(0.25, 0)
    assert Sampling.chosen(0.01, 0) == Sampling(0.01, 0)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "many")
    with pytest.raises(SettingsError, match="OTEL_TRACES_SAMPLER_ARG=many: .*traceidratio with 0 to 1"):
        Sampling.chosen(None, 0)
