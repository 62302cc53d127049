"""Every metric of both nodes in one table: instruments are made from it, and docs/metrics.md is held to it.

No label has more values than the table's words, devices, presets, or cameras of one process: a fleet of any size adds
no series to a cloud node's.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

SECONDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
FRAMES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_SUFFIXES: Final = {"s": "_seconds", "By": "_bytes", "By/s": "_bytes_per_second"}


class Kind(Enum):
    """What a metric's values mean."""

    COUNTER = "counter"  # only grows
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `unit` is UCUM's: s, By, By/s, or {what is counted}."""

    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = SECONDS

    @property
    def prometheus(self) -> str:
        """Its name there."""
        total = "_total" if self.kind is Kind.COUNTER else ""
        return self.name.replace(".", "_") + _SUFFIXES.get(self.unit, "") + total


def _of(prefix: str, kind: Kind, unit: str, *rows: tuple[str, str, tuple[str, ...]]) -> tuple[Metric, ...]:
    buckets = FRAMES if unit == "{frame}" else SECONDS
    return tuple(Metric(prefix + name, kind, unit, help, labels, buckets) for name, help, labels in rows)


PROCESS: Final = (
    *_of("lamplight.process.", Kind.COUNTER, "s", ("cpu", "processor time of this process", ())),
    *_of("lamplight.process.", Kind.GAUGE, "By", ("resident", "memory of this process", ())),
    *_of("lamplight.process.", Kind.GAUGE, "s", ("uptime", "since it began", ())),
    *_of(
        "lamplight.process.", Kind.COUNTER, "{span}",
        ("spans", "spans by what became of them: sent, failed (the collector did not take them), full (no room)",
         ("outcome",)),
    ),
)  # fmt: skip

CLOUD: Final = (
    *PROCESS,
    *_of(
        "lamplight.cloud.", Kind.COUNTER, "{frame}",
        ("frames.received", "frames that came, by stream or single call", ()),
        ("frames.settled", "frames that ended here: enhanced, expired, failed", ("outcome", "priority")),
        ("frames.rejected", "frames turned away, by reason", ("reason",)),
        ("frames.shed", "of these, frames that waited and made way for others", ()),
    ),
    *_of(
        "lamplight.cloud.", Kind.COUNTER, "By",
        ("received", "payload of frames that came", ()),
        ("published", "results given to NATS", ()),
    ),
    *_of(
        "lamplight.cloud.", Kind.GAUGE, "{frame}",
        ("queue.frames", "frames that wait for a device", ("priority",)),
        ("working.frames", "frames on the devices or being encoded", ()),
    ),
    *_of(
        "lamplight.cloud.", Kind.GAUGE, "s",
        ("queue.oldest", "how long the oldest frame has waited; 0 = none waits", ("priority",)),
        ("queue.wait", "how long a new frame is expected to wait", ("priority",)),
        ("spool.oldest", "how long the oldest result has waited for NATS", ()),
    ),
    *_of(
        "lamplight.cloud.", Kind.GAUGE, "By",
        ("queue", "payload of frames that wait for a device", ()),
        ("spool", "results that wait for NATS", ()),
    ),
    *_of(
        "lamplight.cloud.", Kind.GAUGE, "{result}",
        ("spool.results", "results that wait for NATS", ("priority",)),
    ),
    *_of(
        "lamplight.cloud.", Kind.COUNTER, "{result}",
        ("results.published", "results that NATS has", ()),
        ("results.dropped", "results given up, by reason", ("reason",)),
    ),
    *_of(
        "lamplight.cloud.", Kind.COUNTER, "s",
        ("device.busy", "time that batches took on a device", ("device",)),
        ("device.cpu", "processor time of a device's process", ("device",)),
    ),
    *_of("lamplight.cloud.", Kind.GAUGE, "By", ("device.resident", "memory of a device's process", ("device",))),
    *_of("lamplight.cloud.", Kind.COUNTER, "{pixel}", ("device.pixels", "pixels lit up", ("device",))),
    *_of("lamplight.cloud.", Kind.COUNTER, "{fault}", ("device.faults", "faults of a device", ("device", "fault"))),
    *_of(
        "lamplight.cloud.", Kind.GAUGE, "{state}",
        ("device.healthy", "1 = it works", ("device",)),
        ("ready", "1 = it takes frames", ()),
        ("nats.connected", "1 = NATS is there", ()),
        ("model.info", "1; a model that is served", ("preset", "model")),
    ),
    *_of("lamplight.cloud.", Kind.GAUGE, "{edge}", ("edges", "edges connected", ())),
    *_of("lamplight.cloud.", Kind.COUNTER, "{stream}", ("streams.opened", "streams since the start", ())),
    *_of("lamplight.cloud.", Kind.HISTOGRAM, "{frame}", ("batch.frames", "frames of a batch", ("device",))),
    *_of(
        "lamplight.cloud.", Kind.HISTOGRAM, "s",
        ("batch.duration", "a batch on the device", ("device",)),
        ("frame.duration", "an enhanced frame, from its arrival until NATS, or its caller, has the result",
         ("priority",)),
    ),
)  # fmt: skip

EDGE: Final = (
    *PROCESS,
    *_of(
        "lamplight.edge.", Kind.COUNTER, "{frame}",
        ("frames.taken", "frames taken from the source", ("edge",)),
        ("frames.dropped", "frames of the source that were not taken, by reason", ("edge", "reason")),
        ("frames.settled", "frames that ended: enhanced, as_is, expired, failed", ("edge", "outcome")),
        ("frames.routed", "frames that were read, by where they were lit up: cloud, edge, none", ("edge", "route")),
        ("frames.taken_over", "of these, frames that this device took over from the cloud, by reason",
         ("edge", "reason")),
        ("frames.resent", "attempts after the first", ("edge",)),
        ("gate.verdicts", "frames taken, by what the gate said", ("edge", "verdict")),
        ("spool.events", "kept frames by what happened: kept, restored, not kept, given up, damaged, "
         "unsure (gone before its line was sure)",
         ("edge", "event")),
    ),
    *_of(
        "lamplight.edge.", Kind.COUNTER, "By",
        ("captured", "pixels of frames that ended, as the source gave them", ("edge",)),
        ("sent", "payload of frames sent, as of their last attempt", ("edge",)),
        ("received", "results that came", ("edge",)),
    ),
    *_of("lamplight.edge.", Kind.COUNTER, "{region}", ("regions", "pieces of text found", ("edge",))),
    *_of(
        "lamplight.edge.", Kind.COUNTER, "{result}",
        ("results.unused", "results that came too late, twice, broken, or in part", ("edge", "reason")),
    ),
    *_of(
        "lamplight.edge.", Kind.COUNTER, "{stream}",
        ("uplink.opened", "streams to a cloud node; each after the first is a reconnect", ("edge",)),
    ),
    *_of(
        "lamplight.edge.", Kind.GAUGE, "{state}",
        ("uplink.connected", "1 = a stream is open", ("edge",)),
        ("downlink.connected", "1 = NATS is there", ("edge",)),
        ("route.local", "1 = this device lights frames up by itself", ("edge",)),
    ),
    *_of(
        "lamplight.edge.", Kind.GAUGE, "{frame}",
        ("flying.frames", "frames on their way to the cloud and back", ("edge",)),
        ("window.frames", "frames that may still be sent", ("edge",)),
        ("window.granted", "frames of an unused window", ("edge",)),
        ("spool.frames", "frames kept on disk and not read", ("edge",)),
    ),
    *_of(
        "lamplight.edge.", Kind.GAUGE, "{result}",
        ("results.waiting", "messages with results that NATS holds for this edge", ("edge", "priority")),
    ),
    *_of("lamplight.edge.", Kind.GAUGE, "By/s", ("link.rate", "measured on the uplink; 0 = unknown", ("edge",))),
    *_of("lamplight.edge.", Kind.GAUGE, "By", ("spool", "frames kept on disk", ("edge",))),
    *_of(
        "lamplight.edge.", Kind.GAUGE, "s",
        ("link.round_trip", "shortest lately; 0 = unknown", ("edge",)),
        ("spool.oldest", "age of the oldest kept frame", ("edge",)),
    ),
    *_of(
        "lamplight.edge.", Kind.HISTOGRAM, "s",
        ("frame.latency", "from capture to reading, of frames that were read", ("edge", "priority")),
        ("result.lag", "from NATS having the result to its reading; by two clocks if NATS is on another machine",
         ("edge", "priority")),
        ("stage.duration", "of each stage of the frames that were read, the cloud node's included",
         ("edge", "stage")),
    ),
)  # fmt: skip

METRICS: Final = {"cloud": CLOUD, "edge": EDGE}
