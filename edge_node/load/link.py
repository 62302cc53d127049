"""A simulated edge's two connections: the stream to the cloud node, and NATS for its results."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection
from typing import Any

from common.errors import BrokerUnavailable, CloudUnavailable, StreamRefused
from common.identity import identity_of
from common.nats_connection import masked
from common.tasks import end_tasks
from edge_node.downlink import Downlink, OnResult
from edge_node.load.settings import LoadSettings
from edge_node.uplink import Uplink
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import image_pb2

log = logging.getLogger(__name__)

MAX_UNSETTLED = 1_000  # sequences named when a stream opens; a node takes few more
CLOSE_S = 2.0


class Link:
    """Connects once, then stays connected by itself until `close`.

    Args:
        unsettled: sequences that are on their way, asked for when a stream opens.
        on_holding: called then with those of them that the cloud node still works on.
        on_rejected, on_result: as Uplink and Downlink call them.
    """

    def __init__(
        self,
        settings: LoadSettings,
        edge: str,
        session: str,
        *,
        unsettled: Callable[[], list[int]],
        on_holding: Callable[[Collection[int]], None],
        on_rejected: Callable[[pb.Rejected], None],
        on_result: OnResult,
    ) -> None:
        self.opened = 0  # streams so far
        self._settings, self._edge, self._session = settings, edge, session
        self._unsettled, self._on_holding, self._on_result = unsettled, on_holding, on_result
        self.uplink = Uplink(
            settings.cloud,
            opening=self._opening,
            on_opened=self._opened,
            on_rejected=on_rejected,
            part_bytes=settings.results.part_kib * 1024,
            connect_timeout_s=settings.patience.connect_timeout_s,
            identity=identity_of(settings.identity),
        )
        self._address: pb.ResultsAddress | None = None
        self._hears = asyncio.Event()  # NATS is connected
        self._streaming: asyncio.Task[None] | None = None
        self._receiving: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self.uplink.connected and self._hears.is_set()

    async def connect(self) -> None:
        """Until the stream is open and NATS answers.

        Raises:
            CloudUnavailable, StreamRefused, BrokerUnavailable: with the reason.
        """
        timeout_s = self._settings.patience.connect_timeout_s
        self._streaming = asyncio.create_task(self.uplink.run())
        hearing = asyncio.create_task(self._hears.wait())
        try:
            # The stream notices by itself when its time is over, and knows why.
            await asyncio.wait({self._streaming, hearing}, timeout=2 * timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if self._streaming.done():
                self._streaming.result()
            if self._address is None:
                raise CloudUnavailable(f"no cloud node at {self._settings.cloud}: no answer in {timeout_s:g} s")
            if not hearing.done():
                where = ", ".join(map(masked, self._servers(self._address)))
                raise BrokerUnavailable(f"no NATS server answers at {where}, where results are published: try --nats")
        except StreamRefused as error:  # it speaks to an edge node, whose flag for its name is another
            raise StreamRefused(str(error).replace("--edge name", "--name")) from None
        finally:
            hearing.cancel()
        self.uplink.connect_timeout_s = 0.0  # from now on it keeps trying

    async def close(self) -> None:
        """End the stream in good order. Safe to call at any time."""
        if self.uplink.connected:
            self.uplink.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self.uplink.closed.wait()
        await end_tasks(task for task in (self._streaming, self._receiving) if task is not None)

    # --- up ---

    def _opening(self) -> pb.Open:
        asked = self._settings.results
        return pb.Open(
            edge=self._edge,
            session=self._session,
            encoding=image_pb2.ResultEncoding(format=int(asked.result_format or 0), quality=asked.quality),
            preset=asked.preset,
            unsettled=self._unsettled()[:MAX_UNSETTLED],
        )

    def _opened(self, opened: pb.Opened) -> None:
        self.opened += 1
        if opened.results != self._address:
            self._address = opened.results
            self._receiving = asyncio.create_task(self._receive(opened.results, self._receiving))
            self._receiving.add_done_callback(_tell)
        self._on_holding(set(opened.holding))

    # --- down ---

    async def _receive(self, address: pb.ResultsAddress, before: "asyncio.Task[None] | None") -> None:
        """Fetch results at this address, and at no other."""
        if before is not None:
            await end_tasks([before])
        downlink = Downlink(
            self._servers(address),
            [(item.priority, item.stream, item.consumer) for item in address.consumers],
            edge=self._edge,
            session=self._session,
            on_missing=self._make_consumers,
            on_state=lambda connected: self._hears.set() if connected else self._hears.clear(),
            identity=identity_of(self._settings.identity),
        )
        await downlink.run(self._on_result)

    async def _make_consumers(self) -> None:
        self.uplink.renew()

    def _servers(self, address: pb.ResultsAddress) -> list[str]:
        return [self._settings.nats] if self._settings.nats else list(address.servers)


def _tell(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("receiving results failed: %s", error, exc_info=error)
