"""One JetStream pull consumer, asked for a few messages ahead."""

import asyncio
import contextlib
import json
import time

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from common.subjects import Consumer

JS_API = "$JS.API"
EXPIRES_S = 30.0
HEARTBEAT_S = 5.0
SILENCE_S = 2.5 * HEARTBEAT_S
CLOSE_TIMEOUT_S = 5.0


class ConsumerMissing(Exception):
    """The consumer, or its stream, is not there (any more)."""


class Pull:
    """Keeps up to `window` messages asked for; each request is for one message, so none is sent that is not wanted.

    nats-py's own fetch returns when its whole batch is there or its time is over: too late for a lone result.

    Args:
        api: where JetStream's interface is for this login.
    """

    def __init__(self, client: Client, consumer: Consumer, window: int, api: str = JS_API) -> None:
        self.consumer, self.window = consumer, window
        self._client, self._api = client, api
        self._subject = f"{api}.CONSUMER.MSG.NEXT.{consumer.stream}.{consumer.name}"
        self._inbox = client.new_inbox()
        self._asked: list[tuple[float, bool]] = []  # when the requests still open end, and whether each has heartbeats
        self._arrived: asyncio.Queue[Msg | None] = asyncio.Queue()  # None: the connection is gone
        self._subscription: Subscription | None = None
        self._gone = False

    async def check(self) -> int:
        """How many messages wait. Raises ConsumerMissing, or nats.errors.Error when nobody answers."""
        try:
            jetstream = self._client.jsm(timeout=2.0, prefix=self._api)
            info = await jetstream.consumer_info(self.consumer.stream, self.consumer.name)
            return int(info.num_pending or 0)
        except (nats.js.errors.NotFoundError, nats.errors.NoRespondersError) as error:
            raise ConsumerMissing(f"consumer {self.consumer.name} is not there: {error}") from error

    async def ask(self) -> None:
        """Ask for messages up to the window."""
        if self._subscription is None:
            self._subscription = await self._client.subscribe(
                self._inbox, cb=self._arrived.put, pending_msgs_limit=0, pending_bytes_limit=0
            )
        now = time.monotonic()
        self._asked = [asked for asked in self._asked if asked[0] > now]
        while len(self._asked) < self.window:
            # One heartbeat says for all that the consumer is there; the oldest request is answered first.
            beats = not any(beats for _, beats in self._asked)
            request = {"batch": 1, "expires": int(EXPIRES_S * 1e9)}
            if beats:
                request["idle_heartbeat"] = int(HEARTBEAT_S * 1e9)
            self._asked.append((now + EXPIRES_S + 1.0, beats))
            await self._client.publish(self._subject, json.dumps(request).encode(), reply=self._inbox)

    async def next(self) -> Msg | None:
        """The next message, or None when a request ended without one (ask again).

        Raises:
            ConsumerMissing: it was deleted, or nothing was heard from it for too long and it is not there.
            nats.errors.Error: the connection is gone.
        """
        while True:
            try:
                async with asyncio.timeout(SILENCE_S):
                    message = await self._arrived.get()
            except TimeoutError:  # not even a heartbeat
                self._asked.clear()
                await self.check()
                return None
            if message is None:
                raise nats.errors.ConnectionClosedError
            headers = message.headers or {}
            status = headers.get("Status")
            if status == "100":
                continue
            if self._asked:
                self._asked.pop(0)
            if status is None:
                return message
            if status == "503" or "Deleted" in headers.get("Description", ""):
                self._asked.clear()
                raise ConsumerMissing(f"consumer {self.consumer.name} is not there")
            if status not in ("404", "408"):  # refused: do not ask in a hot loop
                await asyncio.sleep(0.2)
            return None

    def end(self) -> None:
        """The connection is gone: let `next` say so, and `close` ask nothing of it."""
        self._gone = True
        self._arrived.put_nowait(None)

    async def close(self) -> None:
        """Withdraw the open requests; what arrived and was not taken is given back, and comes again at once."""
        subscription, self._subscription = self._subscription, None
        if subscription is None or self._gone or not self._client.is_connected:
            return
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await subscription.drain()  # what is on its way already still arrives
        while not self._arrived.empty():
            message = self._arrived.get_nowait()
            if message is not None and "Status" not in (message.headers or {}):
                with contextlib.suppress(nats.errors.Error, OSError):
                    await message.nak()
