"""What becomes of the frames that a node took: each fate is counted, told and traced once."""

from dataclasses import replace

from cloud_node.admission import Admission
from cloud_node.jobs import Job
from cloud_node.metrics import Activity
from cloud_node.publisher import Publisher
from cloud_node.settings import CloudSettings
from cloud_node.streams import Streams
from common.frame import Outcome, Result
from common.frame_spans import sampled
from common.telemetry import Timeline
from lamplight.v1 import enhancement_pb2 as pb

DROPPED_RETRY_MS = 1_000  # an edge whose result had no room may send the frame again after this


class Fates:
    """Between the devices and the publisher, and between the publisher and the streams.

    `publisher` and `admission`, which call it themselves, are for whoever builds the node to set.
    """

    publisher: Publisher
    admission: Admission

    def __init__(self, settings: CloudSettings, activity: Activity, streams: Streams) -> None:
        self._settings, self._activity, self._streams = settings, activity, streams

    def give_back(self, job: Job, reason: str) -> None:
        """Another node should do it."""
        job.timeline.let_go()
        self.admission.give_back(job, reason)

    def settle(self, job: Job, result: Result) -> None:
        """It has a result, to be published or answered."""
        self._activity.on_settled(result)
        error = "" if result.outcome is Outcome.ENHANCED else result.reason
        job.timeline.end(error, _about(result))
        if job.timeline.sampled:  # the edge learns that this side kept its spans
            result = replace(result, trace=job.timeline.trace)
        if job.reply is None:
            self.publisher.submit(result)
        elif not job.reply.done():
            job.reply.set_result(result)
            self._activity.on_delivered(result)

    def published(self, result: Result, submitted_unix_ns: int, spent_ns: int) -> None:
        """JetStream has it."""
        slow_ms = self._settings.telling.trace_slow_ms
        whole_ns = spent_ns + sum(ns for stage, ns in result.stages_ns.items() if "/" not in stage)
        slow = 0 < slow_ms <= whole_ns / 1e6  # as long as NATS is away, say
        timeline = Timeline(sampled(result.trace) if slow else result.trace)
        timeline.add("publisher", submitted_unix_ns, spent_ns, (), outcome=result.outcome.name.lower())
        timeline.end("", _about(result))
        self._activity.on_delivered(result, spent_ns)
        self._streams.settled(result.id.edge, result.id.session, result.id.sequence)

    def given_up(self, result: Result, reason: str) -> None:
        """It will not be published. Most times the edge will send the frame again, and it must be worked on again."""
        if reason == "refused" and result.image is not None:  # NATS will never take it: say so instead
            why = "the result is too large for NATS: ask for it as JPEG or WebP, or send smaller frames"
            self.publisher.submit(replace(result, outcome=Outcome.FAILED, image=None, reason=why))
            return
        frame = result.id
        self._streams.give_back(
            frame.edge,
            frame.session,
            frame.sequence,
            result.attempt,
            pb.REJECT_REASON_OVERLOADED,
            f"its result was dropped: {reason}",
            DROPPED_RETRY_MS if result.image is not None else 0,  # what NATS never takes would come for ever
        )


def _about(result: Result) -> dict[str, str]:
    """What every span of a frame tells."""
    return {"lamplight.edge": result.id.edge, "lamplight.priority": result.priority.name.lower()}
