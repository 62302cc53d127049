"""MQTT: each message is published on `<base>/<kind>` with QoS 1, and counts as delivered once the broker has it."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from common.backoff import Backoff
from edge_node.sinks.addresses import Address
from edge_node.sinks.outlet import FIRST_DELAY_S, LONGEST_DELAY_S, Message, NotDelivered

if TYPE_CHECKING:
    import aiomqtt

log = logging.getLogger(__name__)

WAIT_S: Final = 5.0
KEEP_ALIVE_S: Final = 20


class MqttTopics:
    """Keeps a connection to a broker, and tells there whether this edge is online.

    Args:
        client: the name of this client, which no other may have at this broker.
        base: of the topics. The broker keeps the last message on `<base>/reading`, for whoever subscribes later.
        status_topic: says `online` or, by the broker itself if need be, `offline`; retained.
        hello: (topic, payload) published, and retained, on every new connection.
    """

    def __init__(
        self,
        address: Address,
        client: str,
        base: str,
        status_topic: str,
        hello: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        self.where = f"{base} at {address.shown}"
        self._address, self._client_name, self._base, self._status_topic = address, client, base, status_topic
        self._hello = hello
        self._client: aiomqtt.Client | None = None
        self._up = asyncio.Event()
        self._problem = "not connected"
        self._keeping: asyncio.Task[None] | None = None

    async def open(self) -> None:
        logging.getLogger("mqtt").setLevel(logging.CRITICAL)  # what it has to say comes as errors of the calls
        self._keeping = asyncio.create_task(self._keep())

    async def send(self, message: Message) -> None:
        import aiomqtt

        try:
            async with asyncio.timeout(WAIT_S):
                await self._up.wait()
        except TimeoutError:
            raise NotDelivered(self._problem) from None
        client = self._client
        if client is None:
            raise NotDelivered(self._problem)
        try:
            topic, retain = f"{self._base}/{message.kind}", message.kind == "reading"
            await client.publish(topic, message.body, qos=1, retain=retain, timeout=WAIT_S)
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            raise NotDelivered(str(error) or type(error).__name__) from None

    async def close(self) -> None:
        if self._keeping is None:
            return
        if self._client is not None:
            with contextlib.suppress(Exception):
                await self._client.publish(self._status_topic, "offline", qos=1, retain=True, timeout=0.5)
        self._keeping.cancel()
        await asyncio.gather(self._keeping, return_exceptions=True)

    async def probe(self) -> str:
        import aiomqtt

        logging.getLogger("mqtt").setLevel(logging.CRITICAL)
        client = self._dial("-check", will=False)  # a node that runs meanwhile keeps its name
        try:
            async with client:
                return "takes this login"
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            raise NotDelivered(str(error) or type(error).__name__) from None
        finally:
            _look_at(client)

    async def _keep(self) -> None:
        import aiomqtt

        backoff = Backoff(FIRST_DELAY_S, LONGEST_DELAY_S)
        while True:
            dialled = self._dial()
            try:
                async with dialled as client:
                    for topic, payload in self._hello:
                        await client.publish(topic, payload, qos=1, retain=True)
                    await client.publish(self._status_topic, "online", qos=1, retain=True)
                    self._client = client
                    backoff.reset()
                    self._up.set()
                    log.info("connected to MQTT, %s", self.where)
                    async for _ in client.messages:  # there are none: it ends with the connection
                        pass
            except (aiomqtt.MqttError, OSError, ValueError) as error:
                self._problem = f"not connected: {error}"
                log.debug("%s: %r", self.where, error)
            finally:
                self._client = None
                self._up.clear()
                _look_at(dialled)
            await asyncio.sleep(backoff.next_s())

    def _dial(self, suffix: str = "", will: bool = True) -> "aiomqtt.Client":
        import aiomqtt

        address = self._address
        return aiomqtt.Client(
            address.host,
            address.port,
            username=address.user,
            password=address.password,
            identifier=self._client_name + suffix,
            will=aiomqtt.Will(self._status_topic, "offline", qos=1, retain=True) if will else None,
            timeout=WAIT_S,
            keepalive=KEEP_ALIVE_S,
            tls_context=ssl.create_default_context() if address.scheme == "mqtts" else None,
        )


def _look_at(client: "aiomqtt.Client") -> None:
    """aiomqtt does not always look at why a connection ended, and asyncio complains about that at length."""
    for ended in (getattr(client, "_connected", None), getattr(client, "_disconnected", None)):
        if isinstance(ended, asyncio.Future) and ended.done() and not ended.cancelled():
            ended.exception()
