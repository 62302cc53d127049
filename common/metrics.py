"""The instruments of a node, made from the table in `common.metric_table`.

They are pushed over OTLP/gRPC when OTEL_EXPORTER_OTLP_ENDPOINT names a collector, and given to whoever asks over
HTTP. Counters and gauges are read from the parts that count anyway, when somebody asks; only histograms are fed as
things happen.
"""

import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from common import spans
from common.metric_table import METRICS, Kind, Metric

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
log = logging.getLogger(__name__)


Points = Iterable[tuple[Any, ...]]  # (value, *values of the labels), in the table's order
Sources = Mapping[str, Callable[[], Points]]  # by name, of all counters and gauges
Observe = Callable[..., None]  # (name, value, *values of the labels), for histograms


def discard(name: str, value: float, *labels: str) -> None:
    """An `Observe` while nobody wants to know."""


def resident_bytes() -> int:
    """This process's memory; where the kernel does not tell, the most that it had."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def of_process() -> Sources:
    """Of either node."""
    began_s = time.monotonic()
    return {
        "lamplight.process.cpu": lambda: [(time.process_time(),)],
        "lamplight.process.resident": lambda: [(resident_bytes(),)],
        "lamplight.process.uptime": lambda: [(time.monotonic() - began_s,)],
        "lamplight.process.spans": lambda: [(count, outcome) for outcome, count in list(spans.COUNTS.items())],
    }


class Meters:
    """The instruments of one node.

    Args:
        side: "cloud" or "edge".
        sources: of all its counters and gauges but those of the process.
        service, instance: who it is, for OTLP.
        prometheus: whether `scrape` will be called.

    Raises:
        ValueError: `sources` and the table differ.
    """

    def __init__(self, side: str, sources: Sources, *, service: str, instance: str, prometheus: bool) -> None:
        from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider

        self._registry: Any = None
        readers: list[Any] = []
        if prometheus:
            from opentelemetry.exporter.prometheus import PrometheusMetricReader
            from prometheus_client import CollectorRegistry

            self._registry = CollectorRegistry()
            readers.append(
                PrometheusMetricReader(scope_info_enabled=False, registry=self._registry, disable_target_info=True)
            )
        if pushes():
            readers.append(_pushing())
        self._provider = MeterProvider(
            readers,
            resource=spans.resource(service, instance),
            exemplar_filter=AlwaysOffExemplarFilter(),
            shutdown_on_exit=False,
        )
        self._lock = threading.Lock()
        self._histograms: dict[str, tuple[Any, tuple[str, ...]]] = {}
        self._attributes: dict[tuple[str, ...], dict[str, str]] = {}
        self._make(METRICS[side], {**of_process(), **sources})

    @property
    def registry(self) -> Any:
        """For a server of prometheus_client's."""
        return self._registry

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Feed a histogram."""
        histogram, names = self._histograms[name]
        key = (name, *labels)
        attributes = self._attributes.get(key)
        if attributes is None:
            attributes = self._attributes[key] = dict(zip(names, labels, strict=True))
        histogram.record(value, attributes)

    def scrape(self) -> bytes:
        """All that is known now, as Prometheus reads it."""
        from prometheus_client import generate_latest

        with self._lock:
            return generate_latest(self._registry)

    def stop(self) -> None:
        """Send the last values, for `spans.STOP_S` at most."""
        spans.within_limit(self._provider.shutdown, "the collector did not answer: the last metrics are lost")

    def _make(self, table: Iterable[Metric], sources: Sources) -> None:
        meter = self._provider.get_meter("lamplight")
        wanted = {metric.name for metric in table if metric.kind is not Kind.HISTOGRAM}
        if wanted != sources.keys():
            raise ValueError(f"metrics without a source, or the reverse: {sorted(wanted ^ sources.keys())}")
        for metric in table:
            about = {"name": metric.name, "unit": metric.unit, "description": metric.help}
            if metric.kind is Kind.HISTOGRAM:
                made = meter.create_histogram(**about, explicit_bucket_boundaries_advisory=metric.buckets)
                self._histograms[metric.name] = made, metric.labels
            elif metric.kind is Kind.COUNTER:
                meter.create_observable_counter(callbacks=[_callback(metric, sources[metric.name])], **about)
            else:
                meter.create_observable_gauge(callbacks=[_callback(metric, sources[metric.name])], **about)


def pushes() -> bool:
    """Whether the environment names a collector for metrics."""
    return os.environ.get("OTEL_METRICS_EXPORTER", "otlp") != "none" and any(map(os.environ.get, ENDPOINTS))


def _callback(metric: Metric, source: Callable[[], Points]) -> Callable[[Any], list[Any]]:
    from opentelemetry.metrics import Observation

    def observe(options: Any) -> list[Any]:
        return [Observation(value, dict(zip(metric.labels, labels, strict=True))) for value, *labels in source()]

    return observe


def _pushing() -> Any:
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import MetricExportResult, PeriodicExportingMetricReader

    class Exporter(OTLPMetricExporter):
        _away = spans.Away("metrics")

        def export(self, *arguments: Any, **named: Any) -> MetricExportResult:
            result = super().export(*arguments, **named)
            self._away.note(result is not MetricExportResult.SUCCESS)
            return result

    spans.hush_exporters()
    return PeriodicExportingMetricReader(Exporter())
