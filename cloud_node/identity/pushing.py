"""Hands the accounts' claims in to NATS, so that a revocation counts there at once, without a reload."""

import asyncio
import json
import logging

import nats.errors

from cloud_node.identity.claims import subject_of
from cloud_node.identity.node import NodeIdentity
from common.errors import BrokerUnavailable
from common.nats_connection import Connection, end_tasks, server_list

log = logging.getLogger(__name__)

SUBJECT = "$SYS.REQ.CLAIMS.UPDATE"
ANSWER_S = 5.0
AGAIN_S = 2.0


class ClaimsPusher:
    """To each of the servers named: those of a cluster pass claims on, those that are none do not."""

    def __init__(self, servers: str, identity: NodeIdentity) -> None:
        self._identity = identity
        self._changed = {url: asyncio.Event() for url in server_list(servers)}
        identity.on_change.append(self.push)

    def push(self) -> None:
        """The claims are other than they were."""
        for changed in self._changed.values():
            changed.set()

    async def run(self) -> None:
        """Push until cancelled: now, after each change, and after each time that a server was away."""
        tasks = [asyncio.create_task(self._keep(url), name="claims") for url in self._changed]
        try:
            await asyncio.gather(*tasks)
        finally:
            await end_tasks(tasks)

    async def _keep(self, url: str) -> None:
        changed = self._changed[url]

        def connected(is_up: bool) -> None:
            if is_up:
                changed.set()

        connection = Connection(url, name="claims", login=self._identity.system_login, on_state=connected)
        connection.start()
        try:
            while True:
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
        for token in self._identity.now.accounts.values():
            answer = await connection.client.request(SUBJECT, token.encode(), timeout=ANSWER_S)
            told = json.loads(answer.data)
            if "error" in told:
                reason = str(told["error"].get("description", told["error"]))[:200]
                raise BrokerUnavailable(f"account {subject_of(token)[:8]}: {reason}")
