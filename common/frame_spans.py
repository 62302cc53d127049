"""Spans of a frame, noted once its end is known (`common.telemetry`); `common.span_encoding` writes them."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from opentelemetry.trace import SpanContext, TraceFlags

Value = str | int | float
Context = tuple[int, int]  # numbers of a trace and of a span in it
PREFIX: Final = "lamplight."


@dataclass(slots=True)
class Span:
    """A span that goes out; `attributes` get `PREFIX` unless they have it."""

    own: Context
    parent_id: int  # 0 = it is a root
    name: str
    start_unix_ns: int
    duration_ns: int
    attributes: Mapping[str, Value]
    links: Iterable[Context] = ()
    error: str = ""

    context: ClassVar = SpanContext(1, 1, False, TraceFlags(TraceFlags.SAMPLED))  # asked for by the SDK's processor


def sampled(trace: Mapping[str, str]) -> Mapping[str, str]:
    """A trace context whose spans are kept from here on."""
    parent = trace.get("traceparent", "")
    return {**trace, "traceparent": f"{parent[:53]}01"} if parent else trace


class Batch:
    """Span `batch` in a trace of its own, linked to every frame in it; it goes out with the first of them that does."""

    def __init__(
        self,
        frames: list[Context],
        start_unix_ns: int,
        duration_ns: int,
        attributes: Mapping[str, Value],
    ) -> None:
        self.context: Context = random.getrandbits(128) or 1, random.getrandbits(64) or 1
        self._frames, self._sent = frames, False
        self._times, self._attributes = (start_unix_ns, duration_ns), attributes

    def first(self) -> bool:
        """True at the first call."""
        sent, self._sent = self._sent, True
        return not sent

    def span(self) -> Span:
        return Span(self.context, 0, "batch", *self._times, self._attributes, self._frames)
