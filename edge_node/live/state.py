"""How an edge node stands, for whoever looks: link, route, what waits where. Made in the node's own event loop."""

import time
from typing import TYPE_CHECKING, Any

from common.frame import Outcome, Priority, Route

if TYPE_CHECKING:
    from edge_node.node import EdgeNode
    from edge_node.uplink import Uplink


def state_of(node: "EdgeNode", uplink: "Uplink", results_connected: bool) -> dict[str, Any]:
    """A snapshot as JSON; the names of priorities, outcomes and routes are those of readings.jsonl."""
    ledger, router, window, source = node.ledger, node.takeover.router, uplink.window, node.source
    keeping, moving = node.backlog.keeping, list(ledger.flights.values())
    return {
        "source": {"name": source.name, "live": source.live, "problem": source.status.problem},
        "cloud": {
            "wanted": router.mode.value != "only",
            "connected": uplink.connected,
            "results": results_connected,
            "address": uplink.address,
            "others": [address for address in uplink.clouds.addresses if address != uplink.address],
            "bytes_s": round(uplink.meter.rate_now(time.monotonic())),
            "round_trip_ms": round(uplink.meter.round_trip_s * 1e3, 2),
            "slow": uplink.meter.slow,
            "window": {"free": max(0, window.frames), "granted": window.granted},
        },
        "route": {"mode": router.mode.value, "now": router.route.value, "reason": router.reason},
        "priority": node.settings.sending.priority.name.lower(),
        "on_way": {
            priority.name.lower(): sum(flight.frame.priority is priority for flight in moving) for priority in Priority
        },
        "spool": {
            "waiting": len(keeping),
            "limit_mib": node.settings.spooling.spool_mib,
            "kept": keeping.counts["kept"],
            "given_up": keeping.counts["given up"] + keeping.counts["not kept"] + keeping.counts["damaged"],
        },
        "gate": dict(node.gate.counts),
        "outcomes": {outcome.name.lower(): ledger.outcomes[outcome] for outcome in Outcome},
        "lit": {route.value: ledger.paths[route] for route in (Route.CLOUD, Route.EDGE)},
        "replaced": node.captured.dropped + source.status.dropped,
        "skipped": sum(node.selection.skipped.values()),
        "sent_again": ledger.resent,
    }
