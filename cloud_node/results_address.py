"""Where edges are told to fetch their results."""

import logging

from cloud_node.settings import CloudSettings
from cloud_node.shared_calls import SharedCalls
from common.broker import Broker
from common.nats_connection import server_list
from common.nats_server import EmbeddedServer
from lamplight.v1 import enhancement_pb2 as pb

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "::1")
CONSUMERS_HOLD_S = 2.0  # an edge that opens stream after stream costs NATS, and those behind it, no more than this


class ResultsAddresses:
    """One for each edge, whose consumers are made before it hears of them."""

    def __init__(self, settings: CloudSettings, broker: Broker, embedded: EmbeddedServer | None) -> None:
        self._settings, self._embedded = settings, embedded
        self._consumers = SharedCalls(broker.ensure_consumers, CONSUMERS_HOLD_S)

    async def of(self, edge: str) -> pb.ResultsAddress:
        """Raises BrokerUnavailable while NATS is away."""
        consumers = await self._consumers(edge)
        mine = self._embedded.edge_url() if self._embedded else self._settings.nats
        return pb.ResultsAddress(
            servers=server_list(self._settings.nats_advertise or mine),
            consumers=[
                pb.ResultsConsumer(priority=int(item.priority), stream=item.stream, consumer=item.name)
                for item in consumers
            ],
        )


def warn_of_addresses(settings: CloudSettings, enrolled: bool) -> None:
    """Say in the log what edges elsewhere will stumble upon."""
    if settings.host not in LOOPBACK and not settings.nats and not enrolled:
        log.warning("results are published on this machine's loopback alone: edges elsewhere need --nats URL")
    if "@" in settings.nats and not settings.nats_advertise:
        log.warning("edges are told the login in --nats: give them one of their own with --nats-advertise")
