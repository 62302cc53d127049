"""The simulated edges of one process: connect them all, let their frames come, wait for the answers."""

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import Awaitable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from common.errors import LamplightError, SettingsError
from common.packing import PackedImage
from common.tasks import end_tasks, run_all
from edge_node.load.edge import SimulatedEdge
from edge_node.load.records import Measured, Progress, Recorder
from edge_node.load.settings import LoadSettings

CONNECTING = 8  # edges at once; more only wait for each other at the node
FILES_PER_EDGE, OTHER_FILES = 3, 64  # two sockets, and one of gRPC's own
DECODERS = 2  # threads
# Their words on each of a thousand edges are said once, as numbers.
TALKATIVE = ("edge_node.uplink", "edge_node.downlink", "common.nats_connection")


class Fleet:
    """Use it as `await fleet.connect()`, `await fleet.play(start_s, stop)`, and always `await fleet.close()`."""

    def __init__(self, settings: LoadSettings, indices: Sequence[int], images: Sequence[PackedImage]) -> None:
        self._settings = settings
        self._recorder = Recorder(settings.warm_up_s)
        self._pixels = ThreadPoolExecutor(DECODERS, thread_name_prefix="pixels")
        self._edges = [SimulatedEdge(settings, index, images, self._recorder, self._pixels) for index in indices]
        self._start_s = 0.0

    async def connect(self) -> None:
        """Connect every edge.

        Raises:
            TransportError: the cloud node or NATS cannot be reached, or refused.
            SettingsError: this process may not have so many connections.
        """
        _allow_files(len(self._edges) * FILES_PER_EDGE + OTHER_FILES)
        turns = asyncio.Semaphore(CONNECTING)

        async def connect(edge: SimulatedEdge) -> None:
            async with turns:
                await edge.connect()

        await run_all(map(connect, self._edges), "connect")
        # What a thousand connections are made of stays: searching it for garbage would halt them all for a second.
        gc.collect()
        gc.freeze()

    async def play(self, start_s: float, stop: asyncio.Event) -> Measured:
        """From the schedule's zero (`start_s`, monotonic clock) until the last answer, or the end of patience.

        `stop` ends arrivals early; what is on its way is still waited for.
        """
        self._start_s = start_s
        end_s = self._settings.end_s
        for edge in self._edges:
            edge.begin(start_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(start_s + end_s - time.monotonic()):
                await stop.wait()
        for edge in self._edges:
            edge.end_arrivals()
        ended_s = min(end_s, self._elapsed_s())
        patient_until_s = time.monotonic() + self._settings.patience.timeout_s
        while any(edge.flights for edge in self._edges) and time.monotonic() < patient_until_s:
            await asyncio.sleep(0.01)
        for edge in self._edges:
            edge.give_up()
        measured = self._recorder.measured()
        measured.ended_s = ended_s
        measured.connected_at_end = self._connected()
        measured.reopened = sum(edge.link.opened - 1 for edge in self._edges)
        return measured

    def progress(self) -> Progress:
        """How it goes; resets the largest lateness."""
        counted = self._recorder.progress
        on_the_way = sum(flight.on_the_way for edge in self._edges for flight in edge.flights.values())
        unsent = sum(len(edge.flights) for edge in self._edges) - on_the_way
        made = Progress(self._elapsed_s(), len(self._edges), self._connected(), unsent, on_the_way) + counted
        counted.late_ms = 0.0
        return made

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.gather(*(edge.close() for edge in self._edges))
        gc.unfreeze()
        self._pixels.shutdown(wait=False)

    def _connected(self) -> int:
        return sum(edge.link.connected for edge in self._edges)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._start_s if self._start_s else 0.0


async def unless_stopped(connecting: Awaitable[object], stop: asyncio.Event) -> None:
    """Wait for it. Raises LamplightError when `stop` comes first, since nothing is measured then."""
    work, stopped = asyncio.ensure_future(connecting), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise LamplightError("stopped before every edge was connected: nothing was measured")
        work.result()
    finally:
        await end_tasks([stopped, work])


@contextlib.contextmanager
def quiet(verbose: bool) -> Iterator[None]:
    """Only errors from what belongs to a single edge."""
    loggers = [logging.getLogger(name) for name in TALKATIVE]

    def wanted(record: logging.LogRecord) -> bool:
        return verbose or record.levelno >= logging.ERROR

    for logger in loggers:
        logger.addFilter(wanted)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(wanted)


def _allow_files(wanted: int) -> None:
    """Raise this process's own limit of open files as far as it may. Raises SettingsError when that is too little."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < wanted:
        raise SettingsError(
            f"these edges need {wanted} open files, this process may have {hard}: "
            "raise the limit (ulimit -Hn), or spread the edges with --processes"
        )
