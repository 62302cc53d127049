"""Spans against a real OTLP/gRPC receiver."""

import socket
import threading
import time

import pytest

from common import telemetry
from common.telemetry import Timeline, batch_link


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


def test_one_frame_is_one_trace(otlp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.endpoint)
    assert telemetry.start("lamplight-test", "i1")
    captured = time.time_ns()
    edge = Timeline.begin(captured, {"lamplight.edge": "cam"})
    with edge.stage("pack", raw_bytes=12):
        pass
    cloud = Timeline(edge.trace)
    start = time.time_ns()
    links = batch_link([cloud], start, 5_000_000, frames=1)
    cloud.add("engine", start, 5_000_000, links, model="m")
    edge.end("broken", {"lamplight.outcome": "failed"})
    telemetry.stop()

    spans = {span.name: span for span in otlp.spans()}
    assert set(spans) == {"frame", "pack", "batch", "engine"}
    root = spans["frame"]
    assert not root.parent_span_id and root.start_time_unix_nano == captured
    assert root.status.code == 2 and root.status.message == "broken"
    assert {spans[name].trace_id for name in ("frame", "pack", "engine")} == {root.trace_id}
    assert {spans[name].parent_span_id for name in ("pack", "engine")} == {root.span_id}
    assert spans["engine"].end_time_unix_nano - spans["engine"].start_time_unix_nano == 5_000_000
    assert spans["batch"].trace_id != root.trace_id
    assert [link.span_id for link in spans["engine"].links] == [spans["batch"].span_id]
    assert [link.trace_id for link in spans["batch"].links] == [root.trace_id]
    assert otlp.services() == {"lamplight-test"}


def test_a_broken_trace_context_is_ignored(otlp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.endpoint)
    telemetry.start("lamplight-test", "i1")
    timeline = Timeline({"traceparent": "00-zz-zz-01", "tracestate": "\x00"})
    links = batch_link([timeline], time.time_ns(), 1)
    timeline.add("engine", time.time_ns(), 1, links)
    telemetry.stop()
    assert timeline.stages_ns == {"engine": 1}


def test_a_collector_that_is_away_stops_nothing(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    telemetry.start("lamplight-test", "i1")
    timeline = Timeline.begin(time.time_ns(), {})
    timeline.end("", {})
    telemetry.stop()
    assert timeline.trace


def test_stop_leaves_a_collector_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "STOP_S", 0.2)
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
