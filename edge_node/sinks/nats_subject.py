"""A NATS subject: each message is published there, and counts as delivered once the server has seen it.

Whoever wants to keep them makes a JetStream stream over the subject: `Nats-Msg-Id` lets it drop what came twice.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import nats.errors
from nats.aio.client import Client

from common.errors import BrokerUnavailable, SettingsError
from common.identity import EDGE_MAX_PAYLOAD
from common.nats_connection import Connection, Login, has_read, masked, server_list
from common.subjects import HEADER_MESSAGE_ID, check_edge, header_bytes
from edge_node.sinks.outlet import Message, NotDelivered, Refused

READINGS: Final = "lamplight.readings"
ALERTS: Final = "lamplight.alerts"
WAIT_S: Final = 5.0


class NatsSubject:
    """Publishes on `<subject>.<edge>`, over a connection of its own: results must not wait behind it.

    Args:
        servers: NATS URLs; one string may name several, with commas.
        login: of an enrolled edge, asked before each connection; addresses with logins of their own go without, and
            `tls://` among them by the system's authorities.

    Raises:
        SettingsError: the edge name is no subject token, or some addresses have a login and others need the edge's.
    """

    def __init__(self, servers: str, subject: str, edge: str, login: Callable[[], Login] | None = None) -> None:
        self._subject = f"{subject}.{check_edge(edge)}"
        with_own = ["@" in url for url in server_list(servers)]
        if login is not None and any(with_own) and not all(with_own):
            raise SettingsError(
                f"NATS at {', '.join(map(masked, server_list(servers)))}: some have a login of their own, the others "
                "would need this edge's: give a login to all or to none"
            )
        login = None if all(with_own) else login
        self._enrolled = login is not None
        self._connection = Connection(servers, name=f"edge {edge} {subject.rpartition('.')[2]}", login=login)
        self.where = f"{self._subject} at {self._connection.address}"

    async def open(self) -> None:
        self._connection.start()

    async def send(self, message: Message) -> None:
        try:
            async with asyncio.timeout(WAIT_S):
                client = await self._connection.wait()
        except TimeoutError:
            raise NotDelivered("not connected") from None
        headers = {HEADER_MESSAGE_ID: message.id}
        size = len(message.body) + header_bytes(headers)
        # nats-py counts the body alone, and knows nothing of a login's limit; for either the server would hang up.
        if size > client.max_payload:
            raise Refused(f"{size:,} bytes are more than the server's max_payload of {client.max_payload:,}")
        if self._enrolled and size > EDGE_MAX_PAYLOAD:
            raise Refused(f"{size:,} bytes are more than the {EDGE_MAX_PAYLOAD:,} that an enrolled edge may publish")
        before = client.last_error
        try:
            await client.publish(self._subject, message.body, headers=headers)
            await self._seen(client)
        except (nats.errors.Error, BrokerUnavailable, OSError) as error:
            raise NotDelivered(str(error) or type(error).__name__) from None
        if client.last_error is not before and "permissions violation" in str(client.last_error).lower():
            raise Refused(f"this login may not publish on {self._subject}")

    async def close(self) -> None:
        await self._connection.close()

    async def probe(self) -> str:
        try:
            await self._connection.open(WAIT_S)
        except BrokerUnavailable as error:
            raise NotDelivered(str(error)) from None
        finally:
            await self._connection.close()
        return "takes this login"

    async def _seen(self, client: Client) -> None:
        """Wait until the server has read what was published."""
        if not await has_read(client, WAIT_S, 2 * WAIT_S):
            await self._connection.check()
            raise NotDelivered(f"no answer within {WAIT_S:g} s")
