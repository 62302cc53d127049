"""One trace per frame, and the time that each stage took.

With OTEL_EXPORTER_OTLP_ENDPOINT set, spans go out over OTLP/gRPC; without it nothing is made and nothing costs.
A frame's spans wait until it ends: only then is it known whether it failed or was slow, which is always kept
(docs/tracing.md). Stage names are those of docs/architecture.md.
"""

import logging
import os
import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from common.errors import SettingsError
from common.frame_spans import Batch, Span, Value
from common.logs import LOGIN
from common.spans import Sender

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

SAMPLED: Final = 1
SLOW_MS: Final = 1_000
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which frames are kept: a share of all, and those that failed or took longer than `slow_ns`; 0 = none for that."""

    share: float = 1.0
    slow_ns: int = SLOW_MS * 1_000_000

    @classmethod
    def chosen(cls, share: float | None, slow_ms: float) -> "Sampling":
        """With `share` None, OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG tell. Raises SettingsError."""
        slow_ns = int(slow_ms * 1e6)
        if share is not None:
            return cls(share, slow_ns)
        name = os.environ.get("OTEL_TRACES_SAMPLER", "always_on").removeprefix("parentbased_")
        if name in ("always_on", "always_off"):
            return cls(float(name == "always_on"), slow_ns)
        text = os.environ.get("OTEL_TRACES_SAMPLER_ARG", "1")
        try:
            if name != "traceidratio" or not 0 <= float(text) <= 1:
                raise ValueError
            return cls(float(text), slow_ns)
        except ValueError:
            raise SettingsError(
                f"OTEL_TRACES_SAMPLER={name} with OTEL_TRACES_SAMPLER_ARG={text}: always_on, always_off, or "
                "traceidratio with 0 to 1"
            ) from None


_sender: Sender | None = None
_sampling = Sampling()


def start(service: str, instance: str, sampling: Sampling | None = None) -> bool:
    """Begin exporting spans if the environment names a collector. Returns whether it does.

    Raises:
        SettingsError: for a sampler in the environment that is not known.
    """
    global _sender, _sampling
    endpoint = next(filter(None, map(os.environ.get, _ENDPOINTS)), None)
    if endpoint is None or os.environ.get("OTEL_TRACES_EXPORTER", "otlp") == "none":
        return False
    _sampling = sampling or Sampling.chosen(None, SLOW_MS)
    _sender = Sender(service, instance)
    log.info("tracing to %s", LOGIN.sub("//***@", endpoint))
    return True


def stop() -> None:
    """Send what is left, for a few seconds at most."""
    global _sender
    sender, _sender = _sender, None
    if sender is not None:
        sender.stop()


@dataclass(slots=True)
class _Stage:
    name: str
    start_unix_ns: int
    duration_ns: int
    batches: Iterable[Batch]
    attributes: Mapping[str, Value]


class Timeline:
    """The stages of one frame on one side: their durations, and a span for each when tracing is on.

    On the edge it opens the root span `frame`, at capture; on the cloud node it joins the trace that came
    with the frame. Which frames are sampled is in the trace context from the start; `end` decides on the others.
    """

    __slots__ = ("_attributes", "_began_ns", "_captured_unix_ns", "_ids", "_kept", "_told", "_waiting", "stages_ns",
                 "trace")  # fmt: skip

    def __init__(self, parent: Mapping[str, str]) -> None:
        self.stages_ns: dict[str, int] = {}
        self.trace: Mapping[str, str] = parent
        self._ids: tuple[int, int] | None = None  # of the trace and the root span; None = nothing is made
        self._captured_unix_ns = 0  # on the edge
        self._kept: bool | None = None  # None = it is not decided
        if _sender is not None and parent and (found := _TRACEPARENT.fullmatch(parent.get("traceparent", ""))):
            self._prepare(int(found[1], 16), int(found[2], 16))
            self._kept = True if int(found[3], 16) & SAMPLED else None

    @classmethod
    def begin(cls, captured_unix_ns: int, attributes: Mapping[str, Value]) -> "Timeline":
        """The root of a new trace, from capture on."""
        timeline = cls({})
        if _sender is not None:
            trace_id, span_id = random.getrandbits(128) or 1, random.getrandbits(64) or 1
            timeline._prepare(trace_id, span_id)
            timeline._captured_unix_ns, timeline._attributes = captured_unix_ns, dict(attributes)
            sampled = trace_id & (2**64 - 1) < _sampling.share * 2**64
            timeline._kept = True if sampled else None
            timeline.trace = {"traceparent": f"00-{trace_id:032x}-{span_id:016x}-{sampled:02x}"}
        return timeline

    def _prepare(self, trace_id: int, span_id: int) -> None:
        self._ids = trace_id, span_id
        self._began_ns = time.perf_counter_ns()
        self._waiting: list[_Stage] | None = []  # None = the frame ended
        self._told: dict[str, int] = {}  # stages on the other side, which let its spans go
        self._attributes: dict[str, Value] = {}

    @property
    def sampled(self) -> bool:
        """Whether its spans are kept, as far as is known."""
        return self._ids is not None and bool(self._kept)

    @contextmanager
    def stage(self, name: str, **attributes: Value) -> Iterator[None]:
        """Time a stage."""
        start_unix_ns, start_ns = time.time_ns(), time.perf_counter_ns()
        try:
            yield
        finally:
            self.add(name, start_unix_ns, time.perf_counter_ns() - start_ns, (), **attributes)

    def add(
        self, name: str, start_unix_ns: int, duration_ns: int, batches: Iterable[Batch] = (), **attributes: Value
    ) -> None:
        """Note a stage that was timed elsewhere. The same stage twice adds up."""
        duration_ns = max(0, duration_ns)
        self.stages_ns[name] = self.stages_ns.get(name, 0) + duration_ns
        if self._ids is None:
            return
        stage = _Stage(name, start_unix_ns, duration_ns, batches, attributes)
        if self._waiting is not None:
            self._waiting.append(stage)
        elif self._kept and _sender is not None:
            _sender.send(self._spans([stage]))

    def heard(self, trace: Mapping[str, str], stages_ns: Mapping[str, int]) -> None:
        """What the other side says of this frame: if it kept its spans, so does this side."""
        if self._ids is None or self._kept:
            return
        found = _TRACEPARENT.fullmatch(trace.get("traceparent", ""))
        if found is not None and int(found[1], 16) == self._ids[0] and int(found[3], 16) & SAMPLED:
            self._kept = True
        else:
            self._told = {name: spent for name, spent in stages_ns.items() if "/" not in name}

    def end(self, error: str, attributes: Mapping[str, Value]) -> None:
        """The frame is read, rejected or given up, or leaves this side: decide, and let its spans go out or go.

        What was kept here is marked as sampled in `trace`, for the other side.
        """
        if self._ids is None or self._waiting is None or _sender is None:
            return
        stages, self._waiting = self._waiting, None
        spent_ns = time.perf_counter_ns() - self._began_ns + self.stages_ns.get("source", 0)
        if self._kept is None:
            slow = 0 < _sampling.slow_ns <= spent_ns
            self._kept = bool(error) or slow
            if self._kept:
                self.trace = {**self.trace, "traceparent": f"{self.trace['traceparent'][:53]}01"}
        if self._kept:
            self._attributes |= attributes
            stages += _placed(self._told, stages)
            spans = self._spans(stages)
            if self._captured_unix_ns:
                spans.append(self._root(error))
            _sender.send(spans)

    def let_go(self) -> None:
        """This side gives the frame back: what is sampled goes out, and whoever gets the frame decides on the rest."""
        if self._kept is None:
            self._waiting = None
        self.end("", {})

    def _spans(self, stages: Iterable[_Stage]) -> list[Span]:
        assert self._ids is not None
        (trace_id, parent_id), made = self._ids, []
        for stage in stages:
            attributes = stage.attributes
            if stage.name in TELLING:
                attributes = {**attributes, **{key: self._attributes[key] for key in SHARED if key in self._attributes}}
            own, times = (trace_id, random.getrandbits(64) or 1), (stage.start_unix_ns, stage.duration_ns)
            links = [batch.context for batch in stage.batches]
            made.append(Span(own, parent_id, stage.name, *times, attributes, links))
            made += [batch.span() for batch in stage.batches if batch.first()]
        return made

    def _root(self, error: str) -> Span:
        assert self._ids is not None
        took_ns = max(0, time.time_ns() - self._captured_unix_ns)
        return Span(self._ids, 0, "frame", self._captured_unix_ns, took_ns, self._attributes, error=error)


SHARED: Final = ("lamplight.edge", "lamplight.priority")  # attributes of a frame that its root has, and...
TELLING: Final = ("engine", "local_enhancer")  # ...these stages: a collector that samples by the trace's end finds them


def _placed(told: Mapping[str, int], stages: Iterable[_Stage]) -> list[_Stage]:
    """Stages on the other side of which only the durations are known: one after the other, once the frame was sent."""
    sent = [stage.start_unix_ns + stage.duration_ns for stage in stages if stage.name == "uplink"]
    start_unix_ns, made = max(sent, default=time.time_ns() - sum(told.values())), []
    for name in sorted(told, key=lambda name: STAGES.index(name) if name in STAGES else len(STAGES)):
        made.append(_Stage(name, start_unix_ns, told[name], (), {"told": 1}))
        start_unix_ns += told[name]
    return made


def batch_link(
    timelines: Iterable[Timeline], start_unix_ns: int, duration_ns: int, **attributes: str | int
) -> list[Batch]:
    """The batch of these frames, to be given to `Timeline.add`; none when tracing is off."""
    if _sender is None:
        return []
    frames = [timeline._ids for timeline in timelines if timeline._ids is not None]
    return [Batch(frames, start_unix_ns, duration_ns, attributes)] if frames else []
