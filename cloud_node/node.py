"""The life of a cloud node: start, serve, drain."""

import asyncio
import gc
import logging
import os
import time
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cloud_node.assembly import assemble
from cloud_node.devices import devices_of, leave_cpus
from cloud_node.fates import Fates
from cloud_node.http import HttpServer
from cloud_node.ingress import Ingress
from cloud_node.live import LivePage
from cloud_node.metrics import Activity, sources
from cloud_node.policy import Policy
from cloud_node.publisher import Publisher
from cloud_node.reloading import Reloader, read_policy, watched
from cloud_node.results_address import ResultsAddresses, warn_of_addresses
from cloud_node.served_weights import ServedWeights
from cloud_node.service import add_ingress
from cloud_node.settings import CloudSettings
from cloud_node.status import status_of
from cloud_node.streams import Streams
from cloud_node.trust import Trust
from common.broker import Broker
from common.channel import server_options
from common.errors import PortInUse
from common.metrics import Meters, pushes
from common.nats_server import EmbeddedServer
from common.tasks import end_tasks
from lamplight.v1 import enhancement_pb2 as pb

log = logging.getLogger(__name__)

SERVICE = "lamplight.v1.Enhancement"
LIVENESS = "liveness"  # of the gRPC health service; all its other services tell readiness
CARE_S = 1.0
NATS_AGREES_S = 60.0  # for the servers of a cluster to elect who leads, at the start


class CloudNode:
    """Frames in over gRPC, results out over NATS.

    Use it as `await node.start()`, `await node.serve(stop)`, `await node.drain()`.
    """

    def __init__(self, settings: CloudSettings) -> None:
        self.settings = settings
        self._served = ServedWeights(settings.presets)
        self.name = f"cloud-{os.urandom(4).hex()}"
        self.address = ""
        self._started_s = time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []
        self._embedded: EmbeddedServer | None = None
        self._http: HttpServer | None = None
        self._activity = Activity()
        self._meters: Meters | None = None
        self._page: LivePage | None = None
        self._serving: int | None = None  # what the gRPC health service says

    async def start(self) -> None:
        """Take the port, the device and the broker; warm up; say ready.

        Raises:
            LamplightError: when one of them cannot be had, with what to do.
        """
        settings = self.settings
        watch, policy = watched(settings), read_policy(settings)
        self._trust = Trust(settings)
        self._server = grpc.aio.server(options=server_options(), interceptors=[self._trust.guard])
        self.address = f"{settings.host}:{self._bind()}"
        devices = devices_of(settings)
        leave_cpus(settings.network.device_cpus)
        warn_of_addresses(settings, self._trust.identity is not None)
        # From the main thread: the child server is tied to the life of the thread that made it.
        url = settings.nats or await self._embed()
        login, replicas = self._trust.login, settings.nats_replicas
        self._broker = await Broker.connect(url, name=self.name, login=login, replicas=replicas)
        await self._broker.ensure_streams(NATS_AGREES_S)
        self._build(devices, policy)
        await self._supervisor.start()
        await self._served.keep()
        self._reloader = Reloader(settings, watch, self._served, self._supervisor, self._admission)
        self._health = health.aio.HealthServicer()
        ingress = Ingress(
            settings,
            node=self.name,
            models=lambda: self._supervisor.models,
            streams=self._streams,
            admission=self._admission,
            address=ResultsAddresses(settings, self._broker, self._embedded).of,
            guard=self._trust.guard,
        )
        self._ingress = ingress
        add_ingress(ingress, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        runs = [self._supervisor.run(), self._publisher.run(), self._reloader.run(), self._care()]
        runs += self._trust.runs(url)
        self._tasks = [asyncio.create_task(run) for run in runs]
        await self._server.start()
        gc.collect()
        gc.freeze()  # what stays for good is not looked through again and again
        await self._tell_health()
        self._measure()
        if settings.http_address is not None:
            routes = self._page.routes(self._meters.scrape) if self._page and self._meters else ()
            self._http = self._trust.http(*settings.http_address, self.unready, self.status, routes)
            self._http.start()
            log.warning("health and status on %s", self._http.url)
        served = ", ".join(self._supervisor.models.values())
        log.warning("ready on %s (%s on %s)", self.address, served, ", ".join(devices))

    async def serve(self, stop: asyncio.Event) -> None:
        """Until `stop`, or until a part of the node dies, which is raised."""
        stopped = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([stopped, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        for task in done - {stopped}:
            task.result()

    async def drain(self) -> None:
        """Stop accepting, tell the edges, finish what was accepted within the grace, publish, close."""
        grace_s = self.settings.grace_s
        deadline = time.monotonic() + grace_s
        if self._tasks:
            self._ingress.draining = "this node is stopping: send to another"
            await self._tell_health()
            for stream in list(self._streams.live.values()):
                stream.send(go_away=pb.GoAway(reason="stopping", grace_ms=int(grace_s * 1000)))
            log.warning("stopping: %d frames to finish", self._unfinished())
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + grace_s):
                    while self._unfinished():
                        await asyncio.sleep(0.01)
            except TimeoutError:
                left = self._unfinished()
                log.warning("%d frames were not finished within %.0f s: their edges send them again", left, grace_s)
            await self._publisher.drain(max(1.0, deadline - time.monotonic()))
            if self._embedded is not None:  # its store goes with it
                left = await self._broker.wait_fetched(max(1.0, deadline - time.monotonic()))
                if left:
                    log.warning("%d results were not fetched in time and are gone with this node's NATS server", left)
            for stream in list(self._streams.live.values()):
                stream.end("this node stopped")
        await self._close()

    async def _close(self) -> None:
        await end_tasks(self._tasks)
        if self._page is not None:
            await self._page.stop()
        if self._http is not None:
            await self._http.stop()
        if self._meters is not None:
            await asyncio.to_thread(self._meters.stop)
        if hasattr(self, "_server"):
            await self._server.stop(0.5)
        if hasattr(self, "_supervisor"):
            await self._supervisor.close()
        self._served.close()
        if hasattr(self, "_broker"):
            await self._broker.close()
        if self._embedded is not None:
            await self._embedded.stop()

    # --- what others ask of it ---

    def unready(self) -> str:
        """Why frames should go to another node; "" when it is ready."""
        if not self._tasks:
            return "it is starting"
        if self._ingress.draining:
            return self._ingress.draining
        if not self._supervisor.healthy:
            return "no device works"
        return "" if self._broker.connected else "NATS is away"

    def status(self) -> dict[str, Any]:
        """What `/status` shows: plain numbers and words."""
        about = {
            "node": self.name,
            "address": self.address,
            "ready": not self.unready(),
            "unready": self.unready(),
            "uptime_s": round(time.monotonic() - self._started_s, 1),
            "nats": self._broker.connected,
        }
        return status_of(self._parts, self._streams, self._publisher, about)

    async def reload(self) -> None:
        """Read the policy and the named weights again; what does not fit is said in the log, and the old stays."""
        if self._tasks:
            await self._reloader.reload()

    async def _care(self) -> None:
        while True:
            await asyncio.sleep(CARE_S)
            self._trust.guard.cut()
            await self._tell_health()

    async def _tell_health(self) -> None:
        states = health_pb2.HealthCheckResponse
        serving = states.NOT_SERVING if self.unready() else states.SERVING
        if serving != self._serving:
            self._serving = serving
            await self._health.set(LIVENESS, states.SERVING)
            for service in ("", SERVICE):
                await self._health.set(service, serving)

    def _measure(self) -> None:
        """Begin to tell what happens, to whoever was named or may ask."""
        asked = self.settings.http_address is not None
        if not asked and not pushes():
            return
        parts = (self._scheduler, self._supervisor, self._admission, self._streams, self._publisher)
        read = sources(
            self._activity, *parts, ready=lambda: not self.unready(), connected=lambda: self._broker.connected
        )
        self._meters = Meters("cloud", read, service="lamplight-cloud", instance=self.name, prometheus=asked)
        self._activity.observe = self._meters.observe
        if asked:
            self._page = LivePage(self._activity, *parts, status=self.status)
            self._page.start()

    # --- the parts ---

    def _build(self, devices: list[str], policy: Policy) -> None:
        """Everything between ingress and NATS."""
        settings = self.settings
        self._streams = Streams(settings.window, settings.limits.max_edges)
        fates = Fates(settings, self._activity, self._streams)
        self._publisher = fates.publisher = Publisher(
            self._broker,
            spool_bytes=settings.limits.spool_mib * 2**20,
            on_published=fates.published,
            on_dropped=fates.given_up,
        )
        self._parts = assemble(
            settings,
            policy,
            devices,
            served=self._served,
            activity=self._activity,
            streams=self._streams,
            fates=fates,
        )
        fates.admission = self._admission = self._parts.admission
        self._supervisor, self._scheduler = self._parts.supervisor, self._parts.scheduler

    def _unfinished(self) -> int:
        return len(self._scheduler) + self._supervisor.pending

    def _bind(self) -> int:
        settings = self.settings
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        try:
            port = self._trust.listen(self._server, f"{host}:{settings.port}")
        except RuntimeError:
            port = 0
        if not port:
            raise PortInUse(
                f"cannot listen on {host}:{settings.port}: another program may have it; "
                "choose another --port, or --port 0 for a free one"
            )
        return port

    async def _embed(self) -> str:
        self._embedded = self._trust.embedded()
        await self._embedded.start()
        return self._embedded.url
