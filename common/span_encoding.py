"""Spans as OTLP, by the generated messages: the SDK's encoder takes ten times as long for a frame's.

What spans have in common is written once: the resource and scope by the SDK, an attribute when it is first met.
Bytes of protobuf messages one after another are the message with all their fields, so pieces need only be joined.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from common.frame_spans import PREFIX, Span, Value

REMEMBERED: Final = 2_048  # attributes with their values
ERROR: Final = trace_pb2.Status.STATUS_CODE_ERROR
LOCAL: Final = trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
INTERNAL: Final = trace_pb2.Span.SPAN_KIND_INTERNAL
PRODUCER: Final = trace_pb2.Span.SPAN_KIND_PRODUCER


def encoder(resource: Resource) -> Callable[[Iterable[Span]], ExportTraceServiceRequest]:
    """Makes requests of one who reports."""
    scope = InstrumentationScope("lamplight")
    empty = encode_spans([ReadableSpan("", Span.context, resource=resource, instrumentation_scope=scope)])
    empty.resource_spans[0].scope_spans[0].ClearField("spans")

    def encode(spans: Iterable[Span]) -> ExportTraceServiceRequest:
        request = ExportTraceServiceRequest()
        request.CopyFrom(empty)
        made = request.resource_spans[0].scope_spans[0].spans
        for span in spans:
            _fill(made.add(), span)
        return request

    return encode


def _fill(made: trace_pb2.Span, span: Span) -> None:
    trace_id, span_id = span.own
    made.trace_id = trace_id.to_bytes(16, "big")
    made.span_id = span_id.to_bytes(8, "big")
    if span.parent_id:
        made.parent_span_id = span.parent_id.to_bytes(8, "big")
    made.name = span.name
    made.kind = PRODUCER if span.name == "frame" else INTERNAL
    made.start_time_unix_nano = span.start_unix_ns
    made.end_time_unix_nano = span.start_unix_ns + span.duration_ns
    made.flags = LOCAL
    if span.attributes:
        made.MergeFromString(b"".join([_attribute(name, value) for name, value in span.attributes.items()]))
    for linked, span_id in span.links:
        made.links.add(trace_id=linked.to_bytes(16, "big"), span_id=span_id.to_bytes(8, "big"), flags=LOCAL)
    if span.error:
        made.status.code, made.status.message = ERROR, _clean(span.error)


@lru_cache(REMEMBERED, typed=True)
def _attribute(name: str, value: Value) -> bytes:
    """A span's field with this attribute alone."""
    if isinstance(value, str):
        any_value = AnyValue(string_value=_clean(value))
    elif isinstance(value, float):
        any_value = AnyValue(double_value=value)
    else:
        any_value = AnyValue(int_value=value)
    key = name if name.startswith(PREFIX) else PREFIX + name
    written: bytes = trace_pb2.Span(attributes=[KeyValue(key=key, value=any_value)]).SerializeToString()
    return written


def _clean(text: str) -> str:
    """Names of files may hold what is no text."""
    return text.encode(errors="replace").decode()
