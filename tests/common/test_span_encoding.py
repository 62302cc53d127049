"""Spans as OTLP: the same messages as the SDK's own encoder makes of the same spans."""

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from common.frame_spans import Span
from common.span_encoding import encoder

RESOURCE = Resource({"service.name": "edge", "host.cpus": 4, "tags": ("a", "b")}, "https://example.com/schema")
ROOT = Span((2**127 + 5, 7), 0, "frame", 1_000, 50, {"lamplight.edge": "Tür", "lamplight.sequence": 3}, error="broken")
STAGE = Span((2**127 + 5, 8), 7, "engine", 1_010, 20, {"share": 0.5, "batch_size": 1, "model": ""}, [(9, 10), (1, 2)])


def context(trace_id: int, span_id: int) -> SpanContext:
    return SpanContext(trace_id, span_id, False, TraceFlags(TraceFlags.SAMPLED))


def by_the_sdk(span: Span) -> ReadableSpan:
    return ReadableSpan(
        span.name,
        context(*span.own),
        parent=context(span.own[0], span.parent_id) if span.parent_id else None,
        resource=RESOURCE,
        attributes={f"lamplight.{key.removeprefix('lamplight.')}": value for key, value in span.attributes.items()},
        links=[Link(context(*linked)) for linked in span.links],
        kind=SpanKind.INTERNAL if span.parent_id else SpanKind.PRODUCER,
        status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
        start_time=span.start_unix_ns,
        end_time=span.start_unix_ns + span.duration_ns,
        instrumentation_scope=InstrumentationScope("lamplight"),
    )


def test_it_says_what_the_sdk_would() -> None:
    made, expected = encoder(RESOURCE)([ROOT, STAGE]), encode_spans([by_the_sdk(ROOT), by_the_sdk(STAGE)])
    for request in (made, expected):
        for span in request.resource_spans[0].scope_spans[0].spans:
            span.status.SetInParent()  # no status and an empty one are the same
    assert made == expected


def test_the_same_value_of_another_kind_is_another_value() -> None:
    spans = [Span((1, 2), 3, "a", 0, 0, {"value": value}) for value in (1, 1.0, "1")]
    made = encoder(RESOURCE)(spans).resource_spans[0].scope_spans[0].spans
    assert [span.attributes[0].value.WhichOneof("value") for span in made] == [
        "int_value", "double_value", "string_value",
    ]  # fmt: skip


def test_a_name_that_is_no_text_costs_no_span() -> None:
    [made] = encoder(RESOURCE)([Span((1, 2), 3, "a", 0, 0, {"name": "n\udcff"}, error="\udcfe!")]).resource_spans
    [span] = made.scope_spans[0].spans
    assert span.attributes[0].value.string_value == "n?" and span.status.message == "?!"
