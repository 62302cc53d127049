"""Does NATS answer at the address that the cloud node names, and are this edge's results to be had there?"""

import time
from functools import partial
from urllib.parse import urlsplit

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from common.errors import BrokerUnavailable
from common.identity import EDGE_API, Identity, identity_of
from common.loopback import is_loopback
from common.nats_connection import Connection
from edge_node.check.clock import check_offset
from edge_node.check.finding import Group, Mark
from edge_node.pull import JS_API
from edge_node.settings import EdgeSettings
from lamplight.v1 import enhancement_pb2 as pb

LOGIN_S, ASK_S = 6.0, 5.0


async def check_broker(given: EdgeSettings, found: Group, clock: Group, opened: pb.Opened | None) -> None:
    """Logs in, asks for the streams and consumers; the clock is compared on the way."""
    servers = [given.nats] if given.nats else list(opened.results.servers) if opened else []
    if not servers:
        found.skip("login", "no address: the cloud node names it when it opens a stream, or --nats does")
        return clock.skip("offset", "no NATS server to compare with")
    identity = identity_of(given.identity)
    login = None if identity is None else partial(identity.login, given.name)
    try:
        connection = Connection(servers, name=f"edge {given.name} check", login=login)
    except BrokerUnavailable as error:
        found.fail("login", str(error))
        return clock.skip("offset", "no NATS server to compare with")
    began = time.perf_counter()
    try:
        await found.within(LOGIN_S + 1, "login", connection.open(LOGIN_S), _advice(given, servers))
        if not connection.connected:
            _explain(given, found, servers)
            return clock.skip("offset", "no NATS server to compare with")
        login_ms = (time.perf_counter() - began) * 1e3
        client = connection.client
        version = client.connected_server_version
        found.ok(
            "login",
            f"{connection.address}, version {version.major}.{version.minor}.{version.patch}, {login_ms:.0f} ms",
            ms=round(login_ms, 1),
        )
        await found.within(ASK_S, "round trip", _round_trip(found, client))
        if opened is not None:
            results = _results(found, client, opened, identity)
            await found.within(ASK_S, "results", results, "does it run with JetStream (-js)?")
            if identity is not None:
                clock.skip("offset", "an enrolled edge may not ask NATS for the time")
            else:
                offset = check_offset(clock, client, given.name, opened)
                await clock.within(ASK_S, "offset", offset, "may this login read JetStream?", Mark.WARN)
        else:
            found.skip("results", "no cloud node says where they lie")
            clock.skip("offset", "no cloud node says which streams to ask")
    finally:
        await connection.close()


def _advice(given: EdgeSettings, servers: list[str]) -> str:
    """Most common of all: a cloud node whose NATS is for its own machine alone."""
    if given.identity is not None:
        return "has the bundle expired, was it revoked, or is this server of another authority? enroll this edge again"
    hosts = {urlsplit(url.strip()).hostname or "" for item in servers for url in item.split(",")}
    cloud = given.cloud.rpartition(":")[0]
    if not given.nats and all(map(is_loopback, hosts)) and not is_loopback(cloud):
        return "the cloud node names its own loopback: start it with --nats URL that this machine reaches"
    return ""


def _explain(given: EdgeSettings, found: Group, servers: list[str]) -> None:
    if advice := _advice(given, servers):
        found.fail("address", "it is this machine's own loopback, and the cloud node is elsewhere", advice)


async def _round_trip(found: Group, client: Client) -> None:
    seconds = min([await client.rtt() for _ in range(3)])
    found.ok("round trip", f"{seconds * 1e3:.1f} ms", ms=round(seconds * 1e3, 2))


async def _results(found: Group, client: Client, opened: pb.Opened, identity: Identity | None) -> None:
    api = JS_API if identity is None else EDGE_API
    jetstream, waiting, missing = client.jsm(timeout=2.0, prefix=api), 0, []
    consumers = list(opened.results.consumers)
    for item in consumers:
        try:
            info = await jetstream.consumer_info(item.stream, item.consumer)
            waiting += int(info.num_pending or 0)
        except (nats.js.errors.NotFoundError, nats.errors.NoRespondersError, nats.errors.TimeoutError):
            missing.append(f"{item.stream}/{item.consumer}")
    if missing or not consumers:
        what = f"not there: {', '.join(missing)}" if missing else "the cloud node names no consumer"
        advice = "is this the NATS server that the cloud node publishes to? may this login read JetStream?"
        return found.fail("results", what, advice)
    streams = sorted({item.stream for item in consumers})
    text = f"{len(consumers)} consumers on {' and '.join(streams)}, {waiting} messages wait"
    found.ok("results", text, consumers=len(consumers), waiting=waiting)
