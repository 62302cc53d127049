"""Where the metrics of an edge's process are read (the table: common/metrics.py), and the port that shows them."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from common.errors import PortInUse
from common.frame import Outcome, Priority, Reading, Route
from common.loopback import is_loopback, names_loopback
from common.metrics import Meters, Observe, Points, Sources, discard, pushes
from common.telemetry import STAGES
from edge_node.settings import Telling

if TYPE_CHECKING:
    from edge_node.node import EdgeNode

TAKEN_OVER: Final = ("too late for the deadline", "no result came", "the cloud was away")
KEEPING: Final = ("kept", "restored", "not kept", "given up", "damaged", "unsure")
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Activity:
    """What one node's frames came to. `observe` feeds the histograms."""

    edge: str
    observe: Observe = discard
    bytes: Counter[str] = field(default_factory=Counter)
    regions: int = 0

    def on_reading(self, reading: Reading) -> None:
        """A frame ended."""
        self.bytes.update(captured=reading.bytes_raw, sent=reading.bytes_up, received=reading.bytes_down)
        self.regions += len(reading.regions)
        if self.observe is discard or not reading.outcome.is_read:
            return
        priority = reading.priority.name.lower()
        self.observe("lamplight.edge.frame.latency", reading.latency_ns / 1e9, self.edge, priority)
        for stage, spent_ns in reading.stages_ns.items():
            if stage in STAGES:  # a result may name any, and each would be a series for good
                self.observe("lamplight.edge.stage.duration", spent_ns / 1e9, self.edge, stage)

    def on_lag(self, priority: Priority, published_unix_ns: int) -> None:
        """A result whose reading was found; NATS has had it since then."""
        if self.observe is not discard and published_unix_ns:
            lag_s = max(0.0, (time.time_ns() - published_unix_ns) / 1e9)
            self.observe("lamplight.edge.result.lag", lag_s, self.edge, priority.name.lower())


def sources(nodes: "Sequence[EdgeNode]") -> Sources:
    """Where each counter and gauge is read, for all nodes of a process. Safe from another thread."""

    def each(value: "Callable[[EdgeNode], float]") -> Callable[[], Points]:
        return lambda: [(value(node), node.settings.name) for node in nodes]

    def many(values: "Callable[[EdgeNode], Mapping[str, float]]") -> Callable[[], Points]:
        return lambda: [(value, node.settings.name, key) for node in nodes for key, value in dict(values(node)).items()]

    return {
        f"lamplight.edge.{key}": source
        for key, source in {
            "frames.taken": each(lambda node: node.ledger.taken),
            "frames.dropped": many(_dropped),
            "frames.settled": many(lambda node: _named(node.ledger.outcomes, Outcome)),
            "frames.routed": many(lambda node: {route.value: node.ledger.paths[route] for route in Route}),
            "frames.taken_over": many(lambda node: _from_zero(node.takeover.counts, *TAKEN_OVER)),
            "frames.resent": each(lambda node: node.ledger.resent),
            "gate.verdicts": many(lambda node: _from_zero(node.gate.counts, "dark", "bright", "gate off")),
            "spool.events": many(lambda node: _from_zero(node.backlog.keeping.counts, *KEEPING)),
            "captured": each(lambda node: node.activity.bytes["captured"]),
            "sent": each(lambda node: node.activity.bytes["sent"]),
            "received": each(lambda node: node.activity.bytes["received"]),
            "regions": each(lambda node: node.activity.regions),
            "results.unused": many(lambda node: {"late": node.ledger.late, **node.downlink_counts}),
            "uplink.opened": each(lambda node: node.uplink.opened),
            "uplink.connected": each(lambda node: int(node.connected)),
            "downlink.connected": each(lambda node: int(node.results_connected)),
            "route.local": each(lambda node: int(node.takeover.router.route is Route.EDGE)),
            "flying.frames": each(lambda node: len(node.ledger)),
            "window.frames": each(lambda node: node.uplink.window.frames),
            "window.granted": each(lambda node: node.uplink.window.granted),
            "spool.frames": each(lambda node: len(node.backlog.keeping)),
            "spool": each(lambda node: node.backlog.keeping.held_bytes),
            "spool.oldest": each(lambda node: node.backlog.keeping.oldest_s()),
            "results.waiting": many(lambda node: node.results_waiting),
            "link.rate": each(lambda node: node.uplink.meter.rate),
            "link.round_trip": each(lambda node: node.uplink.meter.round_trip_s),
        }.items()
    }


def _named(counts: Counter[Outcome], kinds: type[Outcome]) -> dict[str, float]:
    return {kind.name.lower(): counts[kind] for kind in kinds}


def _from_zero(counts: Mapping[str, float], *words: str) -> dict[str, float]:
    """Also of what did not happen yet: a series that begins with its first event hides it from a rate."""
    return {**dict.fromkeys(words, 0), **dict(counts)}


def _dropped(node: "EdgeNode") -> dict[str, float]:
    skipped = _from_zero(node.selection.skipped, "between each N-th", "nothing new")
    status = node.source.status
    at_source = {"replaced at the source": status.dropped, "left out by --fps": status.thinned}
    return {"replaced by a newer one": node.captured.dropped, **at_source, **skipped}


@asynccontextmanager
async def measured(nodes: "Sequence[EdgeNode]", given: Telling) -> AsyncIterator[None]:
    """Tell of these nodes while the body runs: to a collector, and at `--metrics-port`.

    Raises:
        PortInUse: another program has it.
    """
    address = given.metrics_address
    if address is None and not pushes():
        yield
        return
    instance = f"{nodes[0].settings.name}-{nodes[0].session}"
    meters = Meters("edge", sources(nodes), service="lamplight-edge", instance=instance, prometheus=address is not None)
    for node in nodes:
        node.activity.observe = meters.observe
    server = _serve(address, meters.registry) if address is not None else None
    try:
        yield
    finally:
        if server is not None:
            await asyncio.to_thread(server.shutdown)
            server.server_close()
        await asyncio.to_thread(meters.stop)


def _for_this_machine(app: Callable[..., Any]) -> Callable[..., Any]:
    """Who asks by another name is refused."""

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if names_loopback(environ.get("HTTP_HOST", "")):
            return app(environ, start_response)
        start_response("421 Misdirected Request", [("Content-Type", "text/plain")])
        return [b"these metrics are on loopback alone: ask for localhost or 127.0.0.1\n"]

    return guarded


def _serve(address: tuple[str, int], registry: Any) -> Any:
    from prometheus_client import start_http_server

    host, port = address
    try:
        server, _ = start_http_server(port, host, registry)
    except OSError as error:
        raise PortInUse.by("--metrics-port", host, port, error) from None
    if is_loopback(host) and (app := server.get_app()) is not None:
        server.set_app(_for_this_machine(app))
    log.warning("metrics on http://%s:%d/metrics", host, server.server_port)
    return server
