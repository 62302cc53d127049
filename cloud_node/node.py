"""The life of a cloud node: start, serve, drain."""

import asyncio
import gc
import logging
import os
import time
from dataclasses import replace
from functools import partial
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cloud_node.admission import Admission
from cloud_node.batch_bound import BatchBound
from cloud_node.device import helpers_of
from cloud_node.device_process import ProcessDevice
from cloud_node.device_wire import EngineSpec
from cloud_node.devices import device_names
from cloud_node.http import HttpServer
from cloud_node.ingress import Ingress
from cloud_node.jobs import Job, ticket
from cloud_node.live import LivePage
from cloud_node.load import Load
from cloud_node.metrics import Activity, sources
from cloud_node.policy import Policy
from cloud_node.publisher import Publisher
from cloud_node.reloading import Reloader, read_policy, watched
from cloud_node.scheduler import Scheduler
from cloud_node.served_weights import ServedWeights
from cloud_node.service import add_ingress
from cloud_node.settings import CloudSettings
from cloud_node.shared_calls import SharedCalls
from cloud_node.streams import Streams
from cloud_node.supervisor import Supervisor
from cloud_node.trust import Trust
from cloud_node.worker import Worker
from common.broker import Broker
from common.channel import server_options
from common.errors import PortInUse, SettingsError
from common.frame import Outcome, Priority, Result
from common.frame_spans import sampled
from common.metrics import Meters, pushes
from common.nats_connection import server_list
from common.nats_server import EmbeddedServer
from common.telemetry import Timeline
from lamplight.v1 import enhancement_pb2 as pb

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "::1")
SERVICE = "lamplight.v1.Enhancement"
LIVENESS = "liveness"  # of the gRPC health service; all its other services tell readiness
# A CPU gains nothing from a batch, and alone no frame waits for another; a GPU takes four photographs at once.
BATCH_PIXELS = {"cpu": 1, "mps": 1616 * 1080, "cuda": 4 * 1616 * 1080}
CARE_S = 1.0
NATS_AGREES_S = 60.0  # for the servers of a cluster to elect who leads, at the start
CONSUMERS_HOLD_S = 2.0  # an edge that opens stream after stream costs NATS, and those behind it, no more than this
DROPPED_RETRY_MS = 1_000  # an edge whose result had no room may send the frame again after this


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
        devices, note = device_names(settings.gpus, settings.device)
        if settings.network.engines > 1:
            if devices[0] != "cpu":
                raise SettingsError(f"--engines {settings.network.engines}: a GPU has one engine; leave it out")
            devices *= settings.network.engines
        if note:
            log.warning(note)
        self._leave_cpus()
        self._warn_of_addresses()
        # From the main thread: the child server is tied to the life of the thread that made it.
        url = settings.nats or await self._embed()
        login, replicas = self._trust.login, settings.nats_replicas
        self._broker = await Broker.connect(url, name=self.name, login=login, replicas=replicas)
        await self._broker.ensure_streams(NATS_AGREES_S)
        self._consumers = SharedCalls(self._broker.ensure_consumers, CONSUMERS_HOLD_S)
        self._publisher = Publisher(
            self._broker,
            spool_bytes=settings.limits.spool_mib * 2**20,
            on_published=self._published,
            on_dropped=self._given_up,
        )
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
            address=self._results_address,
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
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
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
        supervisor, publisher = self._supervisor, self._publisher
        return {
            "node": self.name,
            "address": self.address,
            "ready": not self.unready(),
            "unready": self.unready(),
            "uptime_s": round(time.monotonic() - self._started_s, 1),
            "models": dict(supervisor.models),
            "devices": [
                {"device": worker.name, "healthy": worker.healthy, "faults": dict(worker.counts)}
                for worker in supervisor.workers
            ],
            "edges": len(self._streams.live),
            "queued": {
                "frames": len(self._scheduler),
                "bytes": self._admission.queued_bytes,
                "wait_ms": {item.name.lower(): round(self._admission.wait_ms(item), 1) for item in Priority},
            },
            "working": supervisor.pending,
            "sacrificed": self._admission.sacrificed,
            "results": {
                "published": publisher.published,
                "waiting": publisher.pending,
                "dropped": dict(publisher.dropped),
            },
            "nats": self._broker.connected,
        }

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
        """Everything between ingress and publisher."""
        settings, limits = self.settings, self.settings.limits
        self._scheduler: Scheduler[Job] = Scheduler(
            settings.batch.batch_pixels or BATCH_PIXELS.get(devices[0].partition(":")[0], 1),
            settings.batch.batch_frames,
            settings.batch.max_wait_ms * 1_000_000,
            int(settings.batch.window_ms * 1_000_000),
        )
        load, bound = Load(), BatchBound(self._scheduler)
        names = [
            device if device != "cpu" or len(devices) == 1 else f"cpu engine {number}"
            for number, device in enumerate(devices)
        ]
        workers = [
            Worker(
                partial(self._make_device, device, name),
                self._scheduler,
                self._settle,
                give_back=self._give_back,
                bound=bound,
                name=name,
                stuck_after_s=settings.network.stuck_after_s,
                on_batch=load.on_batch,
            )
            for device, name in zip(devices, names, strict=True)
        ]
        for worker in workers:
            worker.on_measured = partial(self._activity.on_batch, worker.name)
        self._supervisor = Supervisor(workers, self._scheduler, self._give_back)
        self._streams = Streams(settings.window, limits.max_edges)
        self._admission = Admission(
            settings,
            policy,
            self._scheduler,
            load,
            self._streams,
            ticket=ticket,
            devices=lambda: self._supervisor.devices,
            wake=self._supervisor.wake,
        )

    def _make_device(self, device: str, name: str) -> ProcessDevice:
        network = self.settings.network
        spec = EngineSpec(
            device,
            self._served.files,
            threads=network.threads,
            engines=network.engines,
            backend=network.backend,
            tile_pixels=network.tile_pixels,
            cpus=frozenset(network.device_cpus),
            helpers=helpers_of(network.device_cpus, device, len(self._supervisor.workers)),
            max_pixels=self.settings.limits.max_pixels,
            log_level=logging.getLogger().getEffectiveLevel(),
        )
        return ProcessDevice(spec, name)

    def _leave_cpus(self) -> None:
        """Keep off the processors that are for the network alone; all threads and children from now on do so."""
        wanted = set(self.settings.network.device_cpus)
        if not wanted or not hasattr(os, "sched_setaffinity"):
            return
        mine = os.sched_getaffinity(0)
        if not wanted <= mine:
            raise SettingsError(
                f"--device-cpus {','.join(map(str, sorted(wanted)))}: this process may use {sorted(mine)}"
            )
        if mine - wanted:
            os.sched_setaffinity(0, mine - wanted)

    def _warn_of_addresses(self) -> None:
        settings = self.settings
        if settings.host not in LOOPBACK and not settings.nats and not self._trust.identity:
            log.warning("results are published on this machine's loopback alone: edges elsewhere need --nats URL")
        if "@" in settings.nats and not settings.nats_advertise:
            log.warning("edges are told the login in --nats: give them one of their own with --nats-advertise")

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

    def _results_url(self) -> str:
        mine = self._embedded.edge_url() if self._embedded else self.settings.nats
        return self.settings.nats_advertise or mine

    async def _results_address(self, edge: str) -> pb.ResultsAddress:
        consumers = await self._consumers(edge)
        return pb.ResultsAddress(
            servers=server_list(self._results_url()),
            consumers=[
                pb.ResultsConsumer(priority=int(item.priority), stream=item.stream, consumer=item.name)
                for item in consumers
            ],
        )

    def _give_back(self, job: Job, reason: str) -> None:
        job.timeline.let_go()
        self._admission.give_back(job, reason)

    def _settle(self, job: Job, result: Result) -> None:
        self._activity.on_settled(result)
        error = "" if result.outcome is Outcome.ENHANCED else result.reason
        job.timeline.end(error, _about(result))
        if job.timeline.sampled:  # the edge learns that this side kept its spans
            result = replace(result, trace=job.timeline.trace)
        if job.reply is None:
            self._publisher.submit(result)
        elif not job.reply.done():
            job.reply.set_result(result)
            self._activity.on_delivered(result)

    def _published(self, result: Result, submitted_unix_ns: int, spent_ns: int) -> None:
        slow_ms = self.settings.telling.trace_slow_ms
        whole_ns = spent_ns + sum(ns for stage, ns in result.stages_ns.items() if "/" not in stage)
        slow = 0 < slow_ms <= whole_ns / 1e6  # as long as NATS is away, say
        timeline = Timeline(sampled(result.trace) if slow else result.trace)
        timeline.add("publisher", submitted_unix_ns, spent_ns, (), outcome=result.outcome.name.lower())
        timeline.end("", _about(result))
        self._activity.on_delivered(result, spent_ns)
        self._streams.settled(result.id.edge, result.id.session, result.id.sequence)

    def _given_up(self, result: Result, reason: str) -> None:
        """Most times the edge will send the frame again, and it must be worked on again."""
        if reason == "refused" and result.image is not None:  # NATS will never take it: say so instead
            why = "the result is too large for NATS: ask for it as JPEG or WebP, or send smaller frames"
            self._publisher.submit(replace(result, outcome=Outcome.FAILED, image=None, reason=why))
            return
        frame = result.id
        self._streams.give_back(
            frame.edge,
            frame.session,
            frame.sequence,
            result.attempt,
            pb.REJECT_REASON_OVERLOADED,
            f"its result was dropped: {reason}",
            DROPPED_RETRY_MS if result.image is not None else 0,  # what NATS never takes would come for ever
        )


def _about(result: Result) -> dict[str, str]:
    """What every span of a frame tells."""
    return {"lamplight.edge": result.id.edge, "lamplight.priority": result.priority.name.lower()}
