"""Hands the accounts' claims in to NATS, so that a revocation counts there at once, without a reload.

NATS takes whatever is handed in. So a server is asked first what it has: an older folder takes nothing back.
"""

import asyncio
import contextlib
import json
import logging

import nats.errors

from cloud_node.identity.claims import issued_of, subject_of
from cloud_node.identity.node import NodeIdentity
from common.errors import BrokerUnavailable
from common.nats_connection import Connection, server_list
from common.tasks import run_all

log = logging.getLogger(__name__)

LOOKUP, UPDATE = "$SYS.REQ.ACCOUNT.{}.CLAIMS.LOOKUP", "$SYS.REQ.CLAIMS.UPDATE"
ANSWER_S = 5.0
AGAIN_S = 2.0
LOOK_EVERY_S = 60.0  # whether another has handed in older ones meanwhile


class ClaimsPusher:
    """To each of the servers named: those of a cluster pass claims on, those that are none do not."""

    def __init__(self, servers: str, identity: NodeIdentity, look_every_s: float = LOOK_EVERY_S) -> None:
        self._identity, self._look_every_s = identity, look_every_s
        self._older: set[str] = set()  # servers that have newer claims than we, which was said
        self._changed = {url: asyncio.Event() for url in server_list(servers)}
        identity.on_change.append(self.push)

    def push(self) -> None:
        """The claims are other than they were."""
        for changed in self._changed.values():
            changed.set()

    async def run(self) -> None:
        """Push until cancelled: now, after each change, after each time that a server was away, and now and then."""
        await run_all(map(self._keep, self._changed), "claims")

    async def _keep(self, url: str) -> None:
        changed = self._changed[url]

        def connected(is_up: bool) -> None:
            if is_up:
                changed.set()

        connection = Connection(url, name="claims", login=self._identity.system_login, on_state=connected)
        connection.start()
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._look_every_s):
                        await changed.wait()
                await connection.wait()
                changed.clear()
                try:
                    await self._push(connection)
                except (BrokerUnavailable, nats.errors.Error, OSError, TimeoutError) as error:
                    log.warning("NATS at %s did not take who is revoked (%s): trying again", connection.address, error)
                    changed.set()
                    await asyncio.sleep(AGAIN_S)
        finally:
            await connection.close()

    async def _push(self, connection: Connection) -> None:
        older = False
        for token in self._identity.now.accounts.values():
            account = subject_of(token)
            held = await self._held(connection, account)
            if held == token:
                continue
            if _issued(held) > issued_of(token):
                older = True
                continue
            answer = await connection.client.request(UPDATE, token.encode(), timeout=ANSWER_S)
            told = json.loads(answer.data)
            if "error" in told:
                reason = str(told["error"].get("description", told["error"]))[:200]
                raise BrokerUnavailable(f"account {account[:8]}: {reason}")
        if older and connection.address not in self._older:
            log.warning(
                "NATS at %s knows of newer revocations than %s, and keeps them: copy node/ here again",
                connection.address,
                self._identity.folder,
            )
        (self._older.add if older else self._older.discard)(connection.address)

    async def _held(self, connection: Connection, account: str) -> str:
        """The claims that the server has of an account; "" for none."""
        answer = await connection.client.request(LOOKUP.format(account), b"", timeout=ANSWER_S)
        return str(answer.data, "ascii", "replace")


def _issued(held: str) -> int:
    """0 for what are no claims."""
    try:
        return issued_of(held)
    except (ValueError, IndexError):
        return 0
