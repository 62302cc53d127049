"""The SDK's span objects, filled in by hand once a frame's end is known (`common.telemetry`)."""

import random
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

Value = str | int | float
SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
WELL: Final = Status()


def context(trace_id: int, span_id: int) -> SpanContext:
    """Of a span that goes out."""
    return SpanContext(trace_id, span_id, False, SAMPLED)


def span(
    make: "Callable[..., ReadableSpan]",
    name: str,
    own: SpanContext,
    start_unix_ns: int,
    duration_ns: int,
    attributes: Mapping[str, Value],
    *,
    parent: SpanContext | None = None,
    links: Iterable[SpanContext] = (),
    root: bool = False,
    error: str = "",
) -> "ReadableSpan":
    """A finished span, made by `Sender.make`."""
    return make(
        name,
        own,
        parent=parent,
        attributes=attributes,
        links=[Link(linked) for linked in links],
        kind=SpanKind.PRODUCER if root else SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR, error) if error else WELL,
        start_time=start_unix_ns,
        end_time=start_unix_ns + duration_ns,
    )


def sampled(trace: Mapping[str, str]) -> Mapping[str, str]:
    """A trace context whose spans are kept from here on."""
    parent = trace.get("traceparent", "")
    return {**trace, "traceparent": f"{parent[:53]}01"} if parent else trace


class Batch:
    """Span `batch` in a trace of its own, linked to every frame in it; it goes out with the first of them that does."""

    def __init__(
        self,
        frames: list[SpanContext],
        start_unix_ns: int,
        duration_ns: int,
        attributes: Mapping[str, Value],
    ) -> None:
        self.context = context(random.getrandbits(128) or 1, random.getrandbits(64) or 1)
        self._frames, self._sent = frames, False
        self._times, self._attributes = (start_unix_ns, duration_ns), attributes

    def first(self) -> bool:
        """True at the first call."""
        sent, self._sent = self._sent, True
        return not sent

    def span(self, make: "Callable[..., ReadableSpan]") -> "ReadableSpan":
        attributes = {f"lamplight.{name}": value for name, value in self._attributes.items()}
        return span(make, "batch", self.context, *self._times, attributes, links=self._frames)
