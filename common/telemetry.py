"""One trace per frame, and the time that each stage took.

`python -m ...` with OTEL_EXPORTER_OTLP_ENDPOINT set exports over OTLP/gRPC; without it nothing is made
and nothing costs. Stage names are those of docs/architecture.md.
"""

import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

STAGES = (
    "source",
    "gate",
    "pack",
    "spool",
    "uplink",
    "ingress",
    "scheduler",
    "engine",
    "publisher",
    "downlink",
    "unpack",
    "local_enhancer",
    "reader",
    "sinks",
)

STOP_S = 3.0  # to send the last spans; an OTLP exporter alone would try for longer
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_propagator = TraceContextTextMapPropagator()
_tracer: trace.Tracer | None = None
_provider: Any = None
log = logging.getLogger(__name__)


def start(service: str, instance: str) -> bool:
    """Begin exporting spans if the environment names a collector. Returns whether it does."""
    global _tracer, _provider
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return False
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create(
        {
            "service.name": os.environ.get("OTEL_SERVICE_NAME", service),
            "service.namespace": "lamplight",
            "service.instance.id": instance,
        }
    )
    _provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = _provider.get_tracer("lamplight")
    log.info("tracing to %s", next(os.environ[name] for name in _ENDPOINTS if os.environ.get(name)))
    return True


def stop() -> None:
    """Send what is left, for `STOP_S` at most; then a daemon thread is left behind, and what it could not send."""
    global _tracer, _provider
    provider, _tracer, _provider = _provider, None, None
    if provider is None:
        return
    sender = threading.Thread(target=_send_and_shut_down, args=(provider,), name="telemetry stop", daemon=True)
    sender.start()
    sender.join(STOP_S)
    if sender.is_alive():
        log.warning("the collector did not answer within %g s: the last spans are lost", STOP_S)


def _send_and_shut_down(provider: Any) -> None:
    provider.force_flush()
    provider.shutdown()


class Timeline:
    """The stages of one frame on one side: their durations, and a span for each when tracing is on.

    On the edge it opens the root span `frame`, at capture; on the cloud node it joins the trace that came
    with the frame.
    """

    __slots__ = ("_context", "_root", "stages_ns", "trace")

    def __init__(self, parent: Mapping[str, str], *, root: Span | None = None) -> None:
        self.stages_ns: dict[str, int] = {}
        self.trace: Mapping[str, str] = parent
        self._root = root
        self._context = _propagator.extract(parent) if _tracer is not None and parent else None

    @classmethod
    def begin(cls, captured_unix_ns: int, attributes: Mapping[str, str | int]) -> "Timeline":
        """The root of a new trace, from capture on."""
        if _tracer is None:
            return cls({})
        root = _tracer.start_span(
            "frame", start_time=captured_unix_ns, kind=SpanKind.PRODUCER, attributes=dict(attributes)
        )
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, trace.set_span_in_context(root))
        return cls(carrier, root=root)

    @contextmanager
    def stage(self, name: str, **attributes: str | int | float) -> Iterator[None]:
        """Time a stage."""
        start_unix_ns, start_ns = time.time_ns(), time.perf_counter_ns()
        try:
            yield
        finally:
            self.add(name, start_unix_ns, time.perf_counter_ns() - start_ns, (), **attributes)

    def add(
        self,
        name: str,
        start_unix_ns: int,
        duration_ns: int,
        links: Iterable[Link] = (),
        **attributes: str | int | float,
    ) -> None:
        """Note a stage that was timed elsewhere. The same stage twice adds up."""
        duration_ns = max(0, duration_ns)
        self.stages_ns[name] = self.stages_ns.get(name, 0) + duration_ns
        if _tracer is not None and self._context is not None:
            span = _tracer.start_span(
                name, self._context, start_time=start_unix_ns, links=list(links), attributes=attributes
            )
            span.end(start_unix_ns + duration_ns)

    def end(self, error: str, attributes: Mapping[str, str | int]) -> None:
        """Close the root span: the frame is read, rejected or given up."""
        if self._root is not None:
            self._root.set_attributes(dict(attributes))
            if error:
                self._root.set_status(Status(StatusCode.ERROR, error))
            self._root.end()


def batch_link(
    timelines: Iterable[Timeline], start_unix_ns: int, duration_ns: int, **attributes: str | int
) -> list[Link]:
    """Span `batch` in a trace of its own, linked to every frame in it; returns the link back to it."""
    if _tracer is None:
        return []
    links = []
    for timeline in timelines:
        context = trace.get_current_span(timeline._context).get_span_context() if timeline._context else None
        if context is not None and context.is_valid:
            links.append(Link(context))
    if not links:
        return []
    span = _tracer.start_span("batch", Context(), start_time=start_unix_ns, links=links, attributes=attributes)
    span.end(start_unix_ns + duration_ns)
    return [Link(span.get_span_context())]
