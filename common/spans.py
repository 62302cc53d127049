"""Spans to a collector: queued, sent in the background, and counted when they are not."""

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from common.frame_spans import Span

STOP_S = 3.0  # to send what is left; an OTLP exporter alone would try for longer
QUEUE: Final = 8_192  # spans that wait, at most
COUNTS: Counter[str] = Counter({"sent": 0, "failed": 0, "full": 0})  # spans of this process by what became of them
EXPORTERS: Final = ("opentelemetry.exporter.otlp.proto.grpc.exporter", "opentelemetry.sdk")
log = logging.getLogger(__name__)


def resource(service: str, instance: str) -> Any:
    """Who reports; OTEL_RESOURCE_ATTRIBUTES adds to it."""
    from opentelemetry.sdk.resources import Resource

    return Resource.create(
        {
            "service.name": os.environ.get("OTEL_SERVICE_NAME", service),
            "service.namespace": "lamplight",
            "service.instance.id": instance,
        }
    )


def hush_exporters() -> None:
    """A collector that is away is one line of ours (`Away`), not one for each try."""
    for name in EXPORTERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


class Away:
    """Says once that the collector is away, and once that it is back."""

    def __init__(self, what: str) -> None:
        self._what, self._away = what, False

    def note(self, failed: bool) -> None:
        """How the last try went."""
        if failed and not self._away:
            log.warning("the collector does not take %s: they are dropped until it does", self._what)
        elif self._away and not failed:
            log.warning("the collector takes %s again", self._what)
        self._away = failed


def within_limit(action: Callable[[], Any], words: str) -> None:
    """Run for `STOP_S` at most; then a daemon thread is left behind."""
    thread = threading.Thread(target=action, name="telemetry stop", daemon=True)
    thread.start()
    thread.join(STOP_S)
    if thread.is_alive():
        log.warning("%s (after %g s)", words, STOP_S)


class Sender:
    """Takes the finished spans of a frame together, so that a full queue leaves out whole frames.

    They go to the SDK's batch processor and its exporter without its tracer: what a frame's spans are is known only
    once it ended (`common.telemetry`).
    """

    def __init__(self, service: str, instance: str) -> None:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

        from common.span_encoding import encoder

        sender, encode = self, encoder(resource(service, instance))

        class Exporter(OTLPSpanExporter):
            def export(self, spans: Any) -> SpanExportResult:
                sender._taken += len(spans)
                result = super().export(spans)
                failed = result is not SpanExportResult.SUCCESS
                COUNTS["failed" if failed else "sent"] += len(spans)
                sender._away.note(failed)
                return result

            def _translate_data(self, data: Any) -> Any:
                return encode(data)

        hush_exporters()
        self._away, self._offered, self._taken, self._lock = Away("spans"), 0, 0, threading.Lock()
        self._processor = BatchSpanProcessor(Exporter(), max_queue_size=QUEUE + 1)

    def send(self, spans: Sequence["Span"]) -> None:
        """Never waits."""
        with self._lock:
            if self._offered - self._taken + len(spans) > QUEUE:
                COUNTS["full"] += len(spans)
                return
            self._offered += len(spans)
            for span in spans:
                self._processor.on_end(cast("ReadableSpan", span))

    def stop(self) -> None:
        """Send what is left, for `STOP_S` at most."""

        def finish() -> None:
            self._processor.force_flush()
            self._processor.shutdown()  # type: ignore[no-untyped-call]

        within_limit(finish, "the collector did not answer: the last spans are lost")
