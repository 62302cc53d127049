"""Gets flights to a cloud node, again and again if need be."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from common.errors import CloudUnavailable, ImageError
from common.frame import Outcome
from edge_node.ledger import Flight, Ledger
from edge_node.settings import EdgeSettings
from edge_node.uplink import Uplink

log = logging.getLogger(__name__)

RENEW_AT = 2  # attempts without a result, after which the stream is opened anew
RENEW_EVERY_S = 15.0  # at most


@dataclass(slots=True)
class Delivery:
    """Each flight that is started goes out whole, or is settled.

    Args:
        settle: ends a flight without a result, as `EdgeNode.settle`.
        spawn: starts a task that the node looks after.
    """

    settings: EdgeSettings
    uplink: Uplink
    ledger: Ledger
    settle: Callable[..., None]
    spawn: "Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]"

    def start(self, flight: Flight, delay_s: float = 0.0) -> "asyncio.Task[None]":
        """Send it; the task ends when it went out whole, over several streams if need be."""
        flight.delivery = self.spawn(self._deliver(flight, delay_s))
        return flight.delivery

    def again(self, flight: Flight, delay_s: float = 0.0) -> None:
        """Send it again under a new attempt."""
        if flight.delivery is not None:
            flight.delivery.cancel()  # of the attempt before, should it not have gone out yet
        flight.again()
        self.ledger.resent += 1
        self.start(flight, delay_s)

    async def care(self, reachable: Callable[[], bool]) -> None:
        """Send again what is without a result for too long though one could have come; `reachable` tells that."""
        retry_s, attempts = self.settings.sending.retry_s, self.settings.sending.attempts
        renewed_s = float("-inf")
        while True:
            await asyncio.sleep(min(1.0, retry_s / 4))
            if not reachable():
                self.ledger.wait_anew()
                continue
            renew = False
            for flight in self.ledger.overdue(retry_s):
                flight.unanswered += not flight.excused
                if flight.unanswered >= attempts:
                    reason = f"no result after {attempts} attempts"
                    self.settle(flight.sequence, Outcome.FAILED, reason, final=False)
                else:
                    log.warning("frame %s has no result: sending it again", flight.frame.id)
                    renew |= flight.unanswered == RENEW_AT
                    self.again(flight)
            if renew and time.monotonic() - renewed_s > RENEW_EVERY_S:  # the cloud node looks after our consumers then
                renewed_s = time.monotonic()
                self.uplink.renew()

    async def _deliver(self, flight: Flight, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        start_unix_ns, start_ns = time.time_ns(), time.perf_counter_ns()
        while not flight.settled:
            try:
                async with asyncio.timeout(self._left_s(flight)):
                    await self.uplink.reserve(flight.frame)
                if flight.settled:  # while it waited
                    await self.uplink.release(flight.frame)
                    return
                left_s = self._left_s(flight)
                if left_s == 0:
                    await self.uplink.release(flight.frame)
                    raise TimeoutError
                await self.uplink.send(replace(flight.frame, deadline_ms=ceil((left_s or 0) * 1000)))
            except TimeoutError:
                reason = "its deadline passed before it could be sent"
                return self.settle(flight.sequence, Outcome.EXPIRED, reason, final=False)
            except CloudUnavailable:
                continue
            except Exception as error:
                if not isinstance(error, ImageError):
                    log.exception("frame %s could not be sent", flight.frame.id)
                return self.settle(flight.sequence, Outcome.FAILED, str(error))
            flight.sent()
            spent_ns, size = time.perf_counter_ns() - start_ns, len(flight.frame.image.payload)
            flight.timeline.add("uplink", start_unix_ns, spent_ns, (), bytes=size, attempt=flight.frame.attempt)
            return

    def _left_s(self, flight: Flight) -> float | None:
        """Seconds to the deadline; None = there is none, as for what comes from the spool."""
        deadline_ms = self.settings.sending.deadline_ms if flight.origin is None else 0
        return max(0.0, (deadline_ms - flight.age_ms()) / 1000) if deadline_ms else None
