"""One NATS connection that stays: a client is used until it closes, then a new one is dialled."""

import asyncio
import contextlib
import logging
import re
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import nats
import nats.errors
from nats.aio.client import Client, RawCredentials

from common.backoff import Backoff
from common.errors import BrokerUnavailable, SettingsError
from common.logs import LOGIN
from common.tasks import end_tasks

log = logging.getLogger(__name__)

DIAL_TIMEOUT_S = 5.0
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
CHECK_S = 0.5
PING_INTERVAL_S = 15  # two without an answer and the connection counts as dead
SEND_BUFFER_BYTES = 16 * 1024 * 1024


class SteadyClient(Client):  # type: ignore[misc]
    """nats-py's, which hears on after a ping was given up, and takes `tls://` at its word.

    There the late answer to such a ping ends the reader for good, in silence: nothing was heard for the half minute or
    more until the next pings had no answer either. And there TLS is spoken only if the server asks for it in the clear:
    one in the middle would just not ask, and get the login.
    """

    always_tls = False  # for `nats://` as well

    @property
    def deaf(self) -> bool:
        """Whether its reader has ended, for whatever reason."""
        return self._reading_task is not None and self._reading_task.done()

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():  # who waited for it has gone
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and (self.always_tls or self._current_server.uri.scheme == "tls"):
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)

    def _connect_command(self) -> bytes:
        if self._server_info.get("tls_required"):
            # nats-py upgrades a plain connection, and asyncio would warn when the server closes it.
            with contextlib.suppress(AttributeError):
                self._transport._io_writer._protocol._over_ssl = True
        command: bytes = super()._connect_command()
        return command


Dialled = tuple[SteadyClient, asyncio.Event]  # connected, and set once it is closed


@dataclass(frozen=True, slots=True, repr=False)
class Login:
    """Who we are to a NATS server, and whom we take for one."""

    credentials: str  # the text of a .creds file
    tls: ssl.SSLContext
    inbox: str = "_INBOX"  # prefix of the subjects at which answers come

    def options(self) -> dict[str, Any]:
        """For nats-py."""
        return {"user_credentials": RawCredentials(self.credentials), "tls": self.tls, "inbox_prefix": self.inbox}


class SecureClient(SteadyClient):
    """Speaks TLS whatever the server and its URL say."""

    always_tls = True


def masked(url: str) -> str:
    """The URL without its password or token."""
    return LOGIN.sub("//***@", url)


def server_list(servers: str | Sequence[str]) -> list[str]:
    """NATS URLs from strings; each may name several, with commas. Raises BrokerUnavailable when there is none."""
    joined = servers if isinstance(servers, str) else ",".join(servers)
    urls = [url.strip() for url in joined.split(",") if url.strip()]
    if not urls:
        raise BrokerUnavailable("no NATS server is named: pass its URL, like nats://127.0.0.1:4222")
    return urls


class Connection:
    """Keeps a NATS client connected.

    nats-py has two ways to lose a server: it reconnects by itself, or it ends CLOSED for good (an authorisation or
    protocol error). Its own reconnecting is off here, so that both end CLOSED and one loop, with back-off, heals both.

    Args:
        servers: NATS URLs; one string may name several, with commas.
        name: shown in the server's monitoring.
        on_state: called with True when connected and False when lost, from the event loop.
        login: asked before each try, and TLS at any URL; without it TLS, by the system's authorities, at `tls://` or if
            the server asks, and no login but what stands in the URLs.
    """

    def __init__(
        self,
        servers: str | Sequence[str],
        *,
        name: str,
        on_state: Callable[[bool], None] | None = None,
        login: Callable[[], Login] | None = None,
    ) -> None:
        self._servers = server_list(servers)
        self._name, self._on_state, self._login = name, on_state, login
        if login is not None and any(re.match(r"(?!nats:|tls:)\w+:", url) for url in self._servers):
            raise BrokerUnavailable(f"NATS at {self.address}: with an identity use tls://HOST:PORT")
        self._client: SteadyClient | None = None
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._endings: set[asyncio.Task[None]] = set()  # of connections that were given up

    @property
    def address(self) -> str:
        """The servers, fit for a log line."""
        return ", ".join(map(masked, self._servers))

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.is_connected

    @property
    def client(self) -> Client:
        """The connected client. Raises BrokerUnavailable while there is none."""
        if self._client is None or not self._client.is_connected:
            raise BrokerUnavailable(f"not connected to NATS at {self.address}")
        return self._client

    async def wait(self) -> Client:
        """Wait until connected, however long that takes."""
        while not self.connected:
            await self._up.wait()
            if not self.connected:  # closed, but not noticed by the loop below yet
                await asyncio.sleep(FIRST_DELAY_S)
        return self.client

    async def open(self, timeout_s: float) -> None:
        """Connect for the first time, then stay connected in the background.

        Raises:
            BrokerUnavailable: no server answers within `timeout_s`, or it refuses these credentials.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            left = deadline - asyncio.get_running_loop().time()
            try:
                dialled = await self._dial(max(left, 0.1))
                break
            except BrokerUnavailable as error:
                left = deadline - asyncio.get_running_loop().time()
                if left <= FIRST_DELAY_S or "Authorization" in str(error):
                    raise
                await asyncio.sleep(FIRST_DELAY_S)
        self._task = asyncio.create_task(self._keep(dialled), name="nats")
        await self._up.wait()

    def start(self) -> None:
        """Connect in the background, now or whenever a server answers."""
        self._task = asyncio.create_task(self._keep(None), name="nats")

    async def close(self) -> None:
        """Stop staying connected. Safe to call twice."""
        kept, self._task = self._task, None
        try:
            await end_tasks([] if kept is None else [kept])
        finally:
            if self._endings:
                await asyncio.wait(self._endings)

    async def check(self) -> None:
        """The link was away and is back: connect anew, at once, unless the server answers on the connection we have.

        Left alone it would take until the next ping, or until TCP tries again.
        """
        checked = self._task
        if checked is None:
            return
        if self._client is not None and self._client.is_connected:
            with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
                if await has_read(self._client, CHECK_S, DIAL_TIMEOUT_S):
                    return
            log.info("NATS at %s does not answer: connecting again", self.address)
        if self._task is not checked:  # closed, or checked by another meanwhile
            return
        if self._client is not None:
            reset(self._client)
            self._set(None)
        ending = asyncio.create_task(end_tasks([checked]))  # on a dead link that takes a while
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        self._task = asyncio.create_task(self._keep(None), name="nats")

    async def _keep(self, dialled: Dialled | None) -> None:
        while True:
            client, closed = dialled or await self._dial_until_connected()
            self._set(client)
            try:
                # Asked as well: closing may hang on a dead link before it calls back.
                while not client.is_closed and not client.deaf:
                    await _set_within(closed, 1.0)
            finally:
                if self._client is client:
                    self._set(None)
                await close_client(client)
            log.warning("lost NATS at %s, connecting again", self.address)
            dialled = None

    def _set(self, client: SteadyClient | None) -> None:
        self._client = client
        if client is None:
            self._up.clear()
        else:
            self._up.set()
        if self._on_state is not None:
            self._on_state(client is not None)

    async def _dial_until_connected(self) -> Dialled:
        backoff, said = Backoff(FIRST_DELAY_S, LONGEST_DELAY_S), ""
        while True:
            try:
                dialled = await self._dial(DIAL_TIMEOUT_S)
                log.info("connected to NATS at %s", self.address)
                return dialled
            except BrokerUnavailable as error:
                if str(error) != said:  # one line, not one for each try
                    said = str(error)
                    log.warning("%s; trying again until it answers", said)
            await asyncio.sleep(backoff.next_s())

    async def _dial(self, timeout_s: float) -> Dialled:
        """One try at each server. Raises BrokerUnavailable."""
        reasons: list[str] = []
        closed = asyncio.Event()

        async def note(error: Exception) -> None:
            reasons.append(str(error) or type(error).__name__)
            if not isinstance(error, nats.errors.UnexpectedEOF):
                log.debug("NATS client: %s", reasons[-1])

        async def note_closed() -> None:
            closed.set()

        client = SecureClient() if self._login else SteadyClient()
        try:
            async with asyncio.timeout(timeout_s):
                await client.connect(
                    self._servers,
                    **(self._login().options() if self._login else {}),
                    name=self._name,
                    error_cb=note,
                    closed_cb=note_closed,
                    allow_reconnect=False,
                    connect_timeout=timeout_s,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=FIRST_DELAY_S,
                    ping_interval=PING_INTERVAL_S,
                    pending_size=SEND_BUFFER_BYTES,
                )
        except (nats.errors.Error, OSError, TimeoutError, ValueError, SettingsError) as error:
            await close_client(client)
            reason = reasons[-1] if reasons else str(error) or "no answer"
            raise BrokerUnavailable(
                f"no NATS server to use at {self.address} ({reason}): start one, or check --nats URL"
            ) from error
        except BaseException:
            await close_client(client)
            raise
        return client, closed


async def _set_within(event: asyncio.Event, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            return await event.wait()
    except TimeoutError:
        return False


def reset(client: Client) -> None:
    """Reset the TCP connection of a client that is given up.

    An orderly close would wait behind what TCP could not deliver, and until then the server would answer the requests
    that were made on it, with messages that nobody hears.
    """
    with contextlib.suppress(AttributeError, OSError):  # nats-py does not give its socket away
        writer = client._transport._io_writer
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


async def has_read(client: Client, within_s: float, give_up_s: float) -> bool:
    """Whether the server tells in time that it has read all that was sent; it is waited for no longer than `within_s`.

    Raises:
        nats.errors.Error, OSError, TimeoutError: the connection is gone.
    """
    # A ping that is given up breaks nats-py when its answer comes after all: it is left to itself.
    ping = asyncio.create_task(client.flush(timeout=give_up_s))
    ping.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.wait({ping}, timeout=within_s)
    if not ping.done():
        return False
    if ping.cancelled():  # by nats-py, as it closes: not for whoever waits here
        raise nats.errors.ConnectionClosedError
    ping.result()
    return True


async def close_client(client: Client) -> None:
    """Close a client in whatever state; do not wait for a link that is dead."""
    try:
        async with asyncio.timeout(1.0):
            await client.close()
    except (nats.errors.Error, OSError, RuntimeError, AttributeError, AssertionError) as error:
        log.debug("closing a NATS client: %s", error)
        if isinstance(error, TimeoutError):  # its socket would stay until TCP gives up
            reset(client)
    except asyncio.CancelledError:
        reset(client)
        raise
