"""JetStream's streams and consumers as results need them: what they hold, how long, and for whom."""

from dataclasses import dataclass

import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from common.frame import Priority
from common.subjects import ACK_WAIT_S, ESSENTIAL_STREAM, OTHER_STREAM, SUBJECT, Consumer, stream_of, subject_of

MAX_DELIVER = 50
MAX_ACK_PENDING = 4096
MAX_WAITING = 64
INACTIVE_MARGIN_S = 3600.0  # an unused consumer outlives the results it could fetch
DUPLICATE_WINDOW_S = 120.0
STREAM_NAME_IN_USE = 10058


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of one stream. The oldest messages go first, of the subject or of the stream."""

    max_bytes: int
    max_age_s: float
    max_messages_per_subject: int  # parts kept for one edge and priority, so that no edge evicts another's


# With parts of PART_BYTES and their headers, 8 edges that fetch nothing fit in the first, and 4 in the second, where
# each has two subjects. Beyond that the oldest message goes, whoever's it is (docs/results.md).
ESSENTIAL_LIMITS = StreamLimits(1 << 30, 24 * 3600, 250)
OTHER_LIMITS = StreamLimits(256 << 20, 300, 60)


def stream_config(stream: str, limits: StreamLimits, replicas: int) -> StreamConfig:
    """A stream with one subject for each of its priorities and edges."""
    essential = stream == ESSENTIAL_STREAM
    priorities = [item for item in Priority if stream_of(item) == stream]
    return StreamConfig(
        name=stream,
        description="Lamplight: essential results" if essential else "Lamplight: standard and secondary results",
        subjects=[f"{SUBJECT}.*.{priority.name.lower()}" for priority in priorities],
        storage=StorageType.FILE if essential else StorageType.MEMORY,
        retention=RetentionPolicy.WORK_QUEUE,  # what an edge acknowledged makes room at once
        discard=DiscardPolicy.OLD,
        max_bytes=limits.max_bytes,
        max_age=limits.max_age_s,
        max_msgs_per_subject=limits.max_messages_per_subject,
        duplicate_window=min(DUPLICATE_WINDOW_S, limits.max_age_s),
        num_replicas=replicas,
    )


async def ensure_stream(js: JetStreamContext, config: StreamConfig) -> None:
    """Make a stream, or bring it to these limits. Raises what nats-py raises."""
    try:
        await js.add_stream(config)  # succeeds when the same one exists
    except nats.js.errors.BadRequestError as error:
        if error.err_code != STREAM_NAME_IN_USE:
            raise
        await js.update_stream(config)


def consumer_config(edge: str, consumer: Consumer, max_age_s: float) -> ConsumerConfig:
    """A durable consumer of one edge and priority; `max_age_s` is its stream's."""
    return ConsumerConfig(
        durable_name=consumer.name,
        filter_subject=subject_of(edge, consumer.priority),
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_S,
        deliver_policy=DeliverPolicy.ALL,
        max_deliver=MAX_DELIVER,
        max_ack_pending=MAX_ACK_PENDING,
        max_waiting=MAX_WAITING,
        inactive_threshold=max_age_s + INACTIVE_MARGIN_S,
        mem_storage=consumer.stream == OTHER_STREAM,  # as its stream: it must not outlive that
    )
