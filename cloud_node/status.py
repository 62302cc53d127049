"""What `/status` shows."""

from typing import Any

from cloud_node.admission import Admission
from cloud_node.assembly import Assembly
from cloud_node.publisher import Publisher
from cloud_node.streams import Streams
from common.frame import Priority


def status_of(parts: Assembly, streams: Streams, publisher: Publisher, about: dict[str, Any]) -> dict[str, Any]:
    """Plain numbers and words; `about` the node itself comes first."""
    return {
        **about,
        "models": dict(parts.supervisor.models),
        "devices": [
            {"device": worker.name, "healthy": worker.healthy, "faults": dict(worker.counts)}
            for worker in parts.supervisor.workers
        ],
        "edges": len(streams.live),
        "queued": {
            "frames": len(parts.scheduler),
            "bytes": parts.admission.queued_bytes,
            "wait_ms": _waits_ms(parts.admission),
        },
        "working": parts.supervisor.pending,
        "sacrificed": parts.admission.sacrificed,
        "results": {
            "published": publisher.published,
            "waiting": publisher.pending,
            "dropped": dict(publisher.dropped),
        },
    }


def _waits_ms(admission: Admission) -> dict[str, float]:
    return {item.name.lower(): round(admission.wait_ms(item), 1) for item in Priority}
