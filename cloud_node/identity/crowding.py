"""Bounds the connections that one edge's login has at NATS, which counts those of all edges together alone.

NATS tells who comes and goes through its system account. For one connection too many the oldest of that login is
closed: a login that was stolen, or an edge gone bad, then cannot fill up what the server keeps for all edges, and one
that comes again and again over a bad link finds room. nats-server closes single connections since 2.10.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections import OrderedDict, deque
from datetime import datetime
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from cloud_node.identity.claims import EDGES, name_of
from cloud_node.identity.node import NodeIdentity
from common.errors import BrokerUnavailable
from common.nats_connection import Connection, server_list
from common.printable import printable
from common.tasks import run_all

log = logging.getLogger(__name__)

MOST = 32  # connections of one login; an edge keeps three for each of its names
ANSWER_S = 2.0
NOTICE_S = 1.0  # until a lost connection is seen
LOOK_EVERY_S = 60.0  # at all that are there, whatever was missed
SAY_EVERY_S = 60.0  # of one login
PAGE = 128  # connections that a server tells of in one answer, with 2 kB each: to be read between two frames
COMING, ALL, KICK = "$SYS.ACCOUNT.{}.*", "$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.{}.KICK"

Place = tuple[str, int]  # a server's id, a connection's number there


class Crowding:
    """Of each of the servers named; those of a cluster tell of each other's connections."""

    def __init__(
        self, servers: str, identity: NodeIdentity, most: int = MOST, look_every_s: float = LOOK_EVERY_S
    ) -> None:
        self._servers, self._identity = server_list(servers), identity
        self.most, self._look_every_s = most, look_every_s

    async def run(self) -> None:
        """Watch until cancelled."""
        await run_all(map(self._watch, self._servers), "crowding")

    async def _watch(self, url: str) -> None:
        connection = Connection(url, name="crowding", login=self._identity.system_login)
        connection.start()
        try:
            while True:
                client = await connection.wait()
                try:
                    await _Watch(client, _account_of_edges(self._identity), self.most).run(self._look_every_s)
                except (BrokerUnavailable, nats.errors.Error, OSError, TimeoutError) as error:
                    log.debug("connections at NATS are looked at again: %s", error)
                except Exception:  # whatever a server answers, frames go on
                    log.exception("connections at NATS could not be looked at; again in a second")
                await asyncio.sleep(1.0)
        finally:
            await connection.close()


def _account_of_edges(identity: NodeIdentity) -> str:
    return next(public for public, token in identity.now.accounts.items() if name_of(token) == EDGES)


class _Watch:
    """Over one connection to NATS, as long as that is up."""

    def __init__(self, client: Client, account: str, most: int) -> None:
        self._client, self._account, self._most = client, account, most
        self._there: dict[str, OrderedDict[Place, None]] = {}  # login -> its connections, the oldest first
        self._came: deque[tuple[str, Place]] = deque(maxlen=1_000)  # while all are looked at
        self._went: set[Place] = set()  # meanwhile
        self._said_s: dict[str, float] = {}

    async def run(self, look_every_s: float) -> None:
        coming = await self._client.subscribe(COMING.format(self._account), cb=self._heard)
        try:
            while self._client.is_connected:
                await self._look()
                end_s = time.monotonic() + look_every_s  # what comes meanwhile is heard of
                while self._client.is_connected and (left_s := end_s - time.monotonic()) > 0:
                    await asyncio.sleep(min(left_s, NOTICE_S))
        finally:
            with contextlib.suppress(nats.errors.Error, OSError):  # it went with the connection
                await coming.unsubscribe()

    async def _heard(self, message: Msg) -> None:
        with contextlib.suppress(ValueError, LookupError, TypeError):
            told = json.loads(message.data)
            place, client = (str(told["server"]["id"]), int(told["client"]["id"])), told["client"]
            if message.subject.endswith(".CONNECT"):
                self._came.append((str(client["user"]), place))
                self._there.setdefault(str(client["user"]), OrderedDict())[place] = None
                await self._thin(str(client["user"]), client)
            elif message.subject.endswith(".DISCONNECT"):
                self._went.add(place)
                self._gone(str(client["user"]), place)

    async def _look(self) -> None:
        """At all connections of edges, at all servers."""
        found: list[tuple[datetime, Place, dict[str, Any]]] = []
        self._came.clear()
        self._went.clear()
        asked, offset = {"acc": self._account, "auth": True, "limit": PAGE}, 0
        while True:
            answers = await self._ask({**asked, "offset": offset})
            for answer in answers:
                for item in answer["data"]["connections"]:
                    place = str(answer["server"]["id"]), int(item["cid"])
                    found.append((datetime.fromisoformat(item["start"]), place, item))
            offset += PAGE
            if not any(answer["data"]["total"] > offset for answer in answers):
                break
        self._there.clear()
        last: dict[str, dict[str, Any]] = {}
        for _, place, item in sorted(found, key=lambda one: one[:2]):
            if place in self._went:
                continue
            user = str(item["authorized_user"])
            self._there.setdefault(user, OrderedDict())[place] = None
            last[user] = item
        for user, place in self._came:
            if place not in self._went:
                self._there.setdefault(user, OrderedDict())[place] = None
        self._went.clear()
        for user, item in last.items():
            await self._thin(user, item)

    async def _ask(self, what: dict[str, Any]) -> list[dict[str, Any]]:
        """Each server's answer."""
        inbox = self._client.new_inbox()
        heard = await self._client.subscribe(inbox)
        await self._client.publish(ALL, json.dumps(what).encode(), reply=inbox)
        answers, wait_s = list[dict[str, Any]](), ANSWER_S
        try:
            while True:
                answers.append(json.loads((await heard.next_msg(timeout=wait_s)).data))
                wait_s = ANSWER_S / 4
        except nats.errors.TimeoutError:
            return [answer for answer in answers if "data" in answer and answer["data"].get("connections") is not None]
        finally:
            await heard.unsubscribe()

    async def _thin(self, user: str, about: dict[str, Any]) -> None:
        """Close the oldest connections of a login, down to as many as it may have."""
        there = self._there.get(user)  # all may have gone meanwhile
        while there and len(there) > self._most:
            (server, number), _ = there.popitem(last=False)
            inbox = self._client.new_inbox()
            await self._client.publish(KICK.format(server), json.dumps({"cid": number}).encode(), reply=inbox)
            self._say(user, about)

    def _say(self, user: str, about: dict[str, Any]) -> None:
        if time.monotonic() - self._said_s.get(user, -SAY_EVERY_S) < SAY_EVERY_S:
            return
        self._said_s[user] = time.monotonic()
        while len(self._said_s) > 1_000:
            del self._said_s[next(iter(self._said_s))]
        host, edge = str(about.get("ip") or about.get("host")), name_of(str(about.get("jwt"))) or user
        log.error(
            "edge %s has more than %d connections at NATS, the newest from %s: its oldest are closed, if NATS is 2.10 "
            "or newer. When its bundle may be stolen: `python -m cloud_node enroll --revoke %s`",
            printable(edge[:80]),
            self._most,
            printable(host[:80]),
            printable(edge[:80]),
        )

    def _gone(self, user: str, place: Place) -> None:
        there = self._there.get(user, OrderedDict[Place, None]())
        there.pop(place, None)
        if not there:
            self._there.pop(user, None)
