"""Lights frames up on this device: those that the router sends here, and those that it takes from the cloud."""

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Final

from common.color import to_rgb
from common.errors import SettingsError, WeightsError
from common.frame import Outcome, Result, Route
from common.pixels import Bytes, RawImage
from edge_node.ledger import Flight, Ledger
from edge_node.local_enhancer import LocalEnhancer
from edge_node.route import LocalMode, Router

log = logging.getLogger(__name__)

TICK_S: Final = 0.05
REMEMBERED: Final = 64  # frames that were taken over, whose results show how the cloud does


def load_enhancer(mode: LocalMode) -> LocalEnhancer | None:
    """The network that runs here; None where it is not wanted, or (with a word) in `auto` where it is missing.

    Raises:
        SettingsError, WeightsError: in `only`, without onnxruntime or the weights.
    """
    if mode is LocalMode.OFF:
        return None
    try:
        return LocalEnhancer()
    except (SettingsError, WeightsError) as error:
        if mode is LocalMode.ONLY:
            raise
        log.warning("%s; frames wait when the cloud is away (--local off says so)", error)
        return None


class Takeover:
    """One edge's own enhancer, and when it steps in.

    Args:
        enhancer: None = it never does.
        ledger: of the frames on their way.
        arrive: takes (flight, result, lit picture) of a frame that was settled here.
        is_open: whether a stream to a cloud node is open.
        thread: the reader's, so that both networks' memory is never needed at once.

    `counts` has the frames that were taken from the cloud after they were to go there, by reason.
    """

    def __init__(
        self,
        enhancer: LocalEnhancer | None,
        mode: LocalMode,
        deadline_ms: int,
        ledger: Ledger,
        arrive: Callable[[Flight, Result, Bytes | None], Awaitable[None]],
        is_open: Callable[[], bool],
        thread: Executor,
    ) -> None:
        self.router = Router(mode if enhancer else LocalMode.OFF, deadline_ms / 1000, time.monotonic())
        self.counts: Counter[str] = Counter()
        self._enhancer, self._ledger, self._arrive, self._is_open = enhancer, ledger, arrive, is_open
        self._said = self.router.route
        self._taken: OrderedDict[int, int] = OrderedDict()  # sequence -> captured, monotonic
        self._thread = thread
        self._tasks: set[asyncio.Task[None]] = set()

    def keeps(self, image: RawImage) -> RawImage | None:
        """The pixels of a frame that goes to the cloud, if they may be needed here."""
        return image if self.router.mode is LocalMode.AUTO else None

    async def watch(self) -> None:
        """Follow the cloud, say each switch once, and take over what it does not settle in time."""
        while True:
            self.router.connection(self._is_open(), time.monotonic())
            for flight in sorted(
                self._ledger.flights.values(), key=lambda flight: (flight.frame.priority, flight.sequence)
            ):
                if flight.pixels is not None and not flight.lighting and self.router.is_overdue(flight.age_ms() / 1000):
                    self._take_over(flight)
            self._say()
            await asyncio.sleep(TICK_S)

    def answered(self, sequence: int) -> None:
        """A cloud node lit this frame up."""
        flight, captured_ns = self._ledger.flights.get(sequence), self._taken.pop(sequence, None)
        if flight is not None and flight.origin is not None:
            return  # its age says nothing of the cloud
        if flight is not None:
            self.router.answered(flight.age_ms() / 1000)
        elif captured_ns is not None:
            self.router.answered((time.monotonic_ns() - captured_ns) / 1e9, missed=True)

    def lights(self, sequence: int) -> bool:
        """Whether this device lights the frame up, so that the cloud's failing does not end it."""
        flight = self._ledger.flights.get(sequence)
        return flight is not None and flight.lighting

    async def light(self, flight: Flight, image: RawImage) -> None:
        """Light a frame up here and settle it, unless its result comes first."""
        flight.lighting = True
        loop = asyncio.get_running_loop()
        lit: Bytes | None = None
        outcome, reason = Outcome.ENHANCED, ""
        try:
            with flight.timeline.stage("local_enhancer"):
                lit = await loop.run_in_executor(self._thread, self._enhance, flight, image)
        except Exception as error:
            log.exception("frame %s could not be lit up here", flight.frame.id)
            outcome, reason = Outcome.FAILED, f"it could not be lit up on this device: {error}"
        if flight.settled or self._ledger.settle(flight.sequence) is None:
            return
        flight.pixels = None
        if flight.delivery is not None:
            flight.delivery.cancel()
        frame, model = flight.frame, self._enhancer.model if self._enhancer else ""
        identity = (frame.id, frame.attempt, frame.priority, frame.captured_unix_ns)
        await self._arrive(flight, Result(*identity, outcome, reason=reason, model=model, trace=frame.trace), lit)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _enhance(self, flight: Flight, image: RawImage) -> Bytes | None:
        if flight.settled or self._enhancer is None:
            return None
        start = time.perf_counter()
        lit = self._enhancer.enhance(to_rgb(image))
        self.router.lit(time.perf_counter() - start)
        return lit

    def _take_over(self, flight: Flight) -> None:
        assert flight.pixels is not None
        if self._is_open():
            self.router.missed()
            self.counts["too late for the deadline" if self.router.deadline_s else "no result came"] += 1
        else:
            self.counts["the cloud was away"] += 1
        flight.lighting = True
        self._taken[flight.sequence] = flight.captured_ns
        while len(self._taken) > REMEMBERED:
            self._taken.popitem(last=False)
        task = asyncio.create_task(self.light(flight, flight.pixels))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _say(self) -> None:
        if self.router.route is self._said:
            return
        self._said = self.router.route
        model = self._enhancer.model if self._enhancer else ""
        if self._said is Route.EDGE:
            log.warning("%s: this device lights frames up by itself, with %s", self.router.reason, model)
        else:
            log.warning("the cloud lights frames up again")
