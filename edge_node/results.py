"""What comes back from the cloud: fetched from where the cloud node says, matched with its flight, unpacked."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from common import packing
from common.errors import CorruptImage
from common.frame import FrameId, Outcome, Priority, Result
from common.identity import identity_of
from common.pixels import Bytes
from edge_node.arrivals import Arrivals, Arrived
from edge_node.backlog import Backlog
from edge_node.downlink import Downlink
from edge_node.ledger import Flight, Ledger
from edge_node.packer import Packer
from edge_node.settings import EdgeSettings
from edge_node.smaller import restored
from edge_node.takeover import Takeover
from lamplight.v1 import enhancement_pb2 as pb

log = logging.getLogger(__name__)

UNUSED = ("duplicates", "errors", "foreign", "incomplete")
SOON_S = 4.0  # for results that NATS kept to come, once it is there again


@dataclass(slots=True)
class Results:
    """One node's.

    Args:
        let_go: awaited with a kept flight whose result says that its deadline passed: that is for live frames.
        renew: opens the stream anew, so that the cloud node makes what is missing.
        spawn: starts a task that the node looks after.
    """

    settings: EdgeSettings
    session: str
    ledger: Ledger
    backlog: Backlog
    takeover: Takeover
    packer: Packer
    arrivals: Arrivals
    pixels: ThreadPoolExecutor
    let_go: Callable[[Flight, Result], Coroutine[Any, Any, None]]
    renew: Callable[[], None]
    spawn: "Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]"
    _downlink: Downlink | None = None
    _former: Counter[str] = field(default_factory=Counter)  # what downlinks before this one counted
    _address: pb.ResultsAddress | None = None
    _receiving: "asyncio.Task[None] | None" = None

    @property
    def connected(self) -> bool:
        return self._downlink is not None and self._downlink.connected

    @property
    def counts(self) -> dict[str, int]:
        """Results that were of no use, by reason."""
        return {name: self._former[name] + getattr(self._downlink, name, 0) for name in UNUSED}

    @property
    def waiting(self) -> dict[str, int]:
        """Messages that NATS holds for this edge, by priority."""
        pending = dict(self._downlink.pending) if self._downlink is not None else {}
        return {priority.name.lower(): pending.get(priority, 0) for priority in Priority}

    def listen(self, address: pb.ResultsAddress) -> None:
        """Fetch results at this address, and at no other."""
        if address == self._address and self._downlink is not None:
            self.spawn(self._downlink.check())
            return
        self._address, self._former = address, Counter(self.counts)
        self._downlink = Downlink(
            [self.settings.nats] if self.settings.nats else list(address.servers),
            [(item.priority, item.stream, item.consumer) for item in address.consumers],
            edge=self.settings.name,
            session=self.session,
            former=self.backlog.keeping.sessions,
            on_missing=self._make_consumers,
            on_state=lambda connected: self._wait_anew() if connected else None,
            identity=identity_of(self.settings.identity),
        )
        self._receiving = self.spawn(self._receive(self._downlink, self._receiving))

    def _wait_anew(self) -> None:
        """NATS is there again. What it kept comes at once; what it lost is sent again soon, or all places wait."""
        self.ledger.wait_anew(max(0.0, self.settings.sending.retry_s - SOON_S))

    async def close(self) -> None:
        if self._downlink is not None:
            await self._downlink.close()

    async def _receive(self, downlink: Downlink, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            before.cancel()
            await asyncio.gather(before, return_exceptions=True)
        while True:
            try:
                await downlink.run(self._result)
                return
            except Exception:
                log.exception("receiving results failed; trying again")
            await asyncio.sleep(1.0)

    async def _make_consumers(self) -> None:
        self.renew()

    async def _result(self, result: Result, size: int) -> None:
        # What happens to the downlink meanwhile must not lose it.
        published_unix_ns = self._downlink.published_unix_ns if self._downlink is not None else 0
        await asyncio.shield(self.spawn(self._take(result, size, published_unix_ns)))

    async def _take(self, result: Result, size: int, published_unix_ns: int) -> None:
        if result.id.session == self.session:
            if result.outcome is Outcome.ENHANCED:
                self.takeover.answered(result.id.sequence)
            elif self.takeover.lights(result.id.sequence):
                return
        flight = await self._flight_of(result.id)
        if flight is None:
            return
        if result.outcome is Outcome.EXPIRED and flight.kept is not None:
            self.spawn(self.let_go(flight, result))
            return
        sent_ns = flight.sent_ns.get(result.attempt) if result.id == flight.frame.id else None
        if sent_ns is not None:
            # Both journeys together: what is left between sending and receiving after the node's own stages.
            inside_ns = sum(ns for stage, ns in result.stages_ns.items() if "/" not in stage)
            travel_ns = max(0, time.monotonic_ns() - sent_ns - inside_ns)
            flight.timeline.add("downlink", time.time_ns() - travel_ns, travel_ns, (), bytes=size)
        flight.timeline.heard(result.trace, result.stages_ns)
        if flight.origin is None:
            self.packer.arrived(flight)
        await self._unpack(flight, result, size, published_unix_ns)

    async def _flight_of(self, id: FrameId) -> Flight | None:
        """The flight that a result belongs to, settled with that."""
        if id.session != self.session or id.sequence not in self.ledger.flights:
            flight = await self.backlog.claim(id)  # from before a restart, or it waits in the spool again
            if flight is not None or id.session != self.session:
                return flight
        return self.ledger.settle(id.sequence)

    async def _unpack(self, flight: Flight, result: Result, size: int, published_unix_ns: int) -> None:
        enhanced: Bytes | None = None
        if result.image is not None:
            try:
                with flight.timeline.stage("unpack"):
                    loop, sent = asyncio.get_running_loop(), flight.frame.image
                    if (result.image.width, result.image.height) != (sent.width, sent.height):
                        raise CorruptImage(
                            f"{result.image.width}x{result.image.height} for a frame of {sent.width}x{sent.height}"
                        )
                    enhanced = await loop.run_in_executor(self.pixels, _decoded, result.image, flight.size)
            except Exception as error:
                result = replace(result, outcome=Outcome.FAILED, reason=f"the result came back broken: {error}")
        await self.arrivals.put(Arrived(flight, result, size, enhanced, published_unix_ns=published_unix_ns))


def _decoded(image: packing.PackedImage | packing.EncodedImage, size: tuple[int, int]) -> Bytes:
    """The enhanced image in the camera's size, whatever size was sent."""
    return restored(packing.decode(image), size)
