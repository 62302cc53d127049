"""The life of a cloud node: start, serve, drain."""

import asyncio
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc
import grpc.aio
import torch
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cloud_node.engine import Engine, choose_devices
from cloud_node.ingress import Ingress
from cloud_node.jobs import Job
from cloud_node.publisher import Publisher
from cloud_node.scheduler import Scheduler
from cloud_node.settings import CloudSettings
from cloud_node.streams import Streams
from cloud_node.worker import Worker, ticket
from common.broker import Broker
from common.channel import server_options
from common.errors import PortInUse
from common.frame import Outcome, Result
from common.nats_connection import server_list
from common.nats_server import EmbeddedServer
from common.telemetry import Timeline
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import enhancement_pb2_grpc

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "localhost", "::1")
SERVICE = "lamplight.v1.Enhancement"
# A CPU gains nothing from a batch, and alone no frame waits for another; a GPU takes four photographs at once.
BATCH_PIXELS = {"cpu": 1, "mps": 1616 * 1080, "cuda": 4 * 1616 * 1080}


class CloudNode:
    """Frames in over gRPC, results out over NATS.

    Use it as `await node.start()`, `await node.serve(stop)`, `await node.drain()`.
    """

    def __init__(self, settings: CloudSettings) -> None:
        self.settings = settings
        self.name = f"cloud-{os.urandom(4).hex()}"
        self.address = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._queued_bytes = 0
        self._embedded: EmbeddedServer | None = None

    async def start(self) -> None:
        """Take the port, the device and the broker; warm up; say ready.

        Raises:
            LamplightError: when one of them cannot be had, with what to do.
        """
        settings = self.settings
        self._server = grpc.aio.server(options=server_options())
        self.address = f"{settings.host}:{self._bind()}"
        devices, note = choose_devices(settings.gpus, settings.device)
        if note:
            log.warning(note)
        if devices[0].type == "cpu":
            torch.set_num_threads(settings.threads or os.cpu_count() or 1)
        self._warn_of_addresses()
        # From the main thread: the child server is tied to the life of the thread that made it.
        url = settings.nats or await self._embed()
        self._broker = await Broker.connect(url, name=self.name)
        await self._broker.ensure_streams()
        self._publisher = Publisher(self._broker, on_published=self._published, on_dropped=self._given_up)

        loop = asyncio.get_running_loop()
        engines = [Engine(device, settings.preset, settings.weights) for device in devices]
        for engine in engines:
            seconds = await loop.run_in_executor(None, engine.warm_up)
            log.info("%s on %s: warm after %.1f s", engine.model, engine.device, seconds)
        self._scheduler: Scheduler[Job] = Scheduler(
            settings.batch.batch_pixels or BATCH_PIXELS.get(devices[0].type, 1),
            settings.batch.batch_frames,
            settings.batch.max_wait_ms * 1_000_000,
        )
        pool = ThreadPoolExecutor(max(2, os.cpu_count() or 2), thread_name_prefix="encode")
        self._workers = [
            Worker(engine, self._scheduler, pool, self._settle, settings.limits.max_pixels) for engine in engines
        ]
        self._streams = Streams(settings.window, settings.limits.max_edges)
        self._ingress = Ingress(
            settings, self.name, engines[0].model, self._streams, self._submit, self._results_address
        )
        self._health = health.aio.HealthServicer()
        enhancement_pb2_grpc.add_EnhancementServicer_to_server(self._ingress, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        self._tasks = [asyncio.create_task(worker.run()) for worker in self._workers]
        self._tasks.append(asyncio.create_task(self._publisher.run()))
        await self._server.start()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        log.warning("ready on %s (%s on %s)", self.address, engines[0].model, ", ".join(map(str, devices)))

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
            await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
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
        await self._server.stop(0.5)
        if hasattr(self, "_workers"):
            for worker in self._workers:
                worker.close()
        if hasattr(self, "_broker"):
            await self._broker.close()
        if self._embedded is not None:
            await self._embedded.stop()

    # --- the parts ---

    def _warn_of_addresses(self) -> None:
        settings = self.settings
        if settings.host not in LOOPBACK and not settings.nats:
            log.warning("results are published on this machine's loopback alone: edges elsewhere need --nats URL")
        if "@" in settings.nats and not settings.nats_advertise:
            log.warning("edges are told the login in --nats: give them one of their own with --nats-advertise")

    def _unfinished(self) -> int:
        return len(self._scheduler) + sum(worker.pending for worker in self._workers)

    def _bind(self) -> int:
        settings = self.settings
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        try:
            port = int(self._server.add_insecure_port(f"{host}:{settings.port}"))
        except RuntimeError:
            port = 0
        if not port:
            raise PortInUse(
                f"cannot listen on {host}:{settings.port}: another program may have it; "
                "choose another --port, or --port 0 for a free one"
            )
        return port

    async def _embed(self) -> str:
        self._embedded = EmbeddedServer()
        await self._embedded.start()
        return self._embedded.url

    def _results_url(self) -> str:
        mine = self._embedded.edge_url() if self._embedded else self.settings.nats
        return self.settings.nats_advertise or mine

    async def _results_address(self, edge: str) -> pb.ResultsAddress:
        consumers = await self._broker.ensure_consumers(edge)
        return pb.ResultsAddress(
            servers=server_list(self._results_url()),
            consumers=[
                pb.ResultsConsumer(priority=int(item.priority), stream=item.stream, consumer=item.name)
                for item in consumers
            ],
        )

    def _submit(self, job: Job, width: int, height: int, deadline_ms: int) -> bool:
        limits, size = self.settings.limits, len(job.encoded.data if job.encoded else job.frame.image.payload)
        if len(self._scheduler) >= limits.max_queued or self._queued_bytes + size > limits.max_queued_mib * 2**20:
            return False
        self._queued_bytes += size
        release = job.release

        def taken() -> None:
            self._queued_bytes -= size
            release()

        job.release = taken
        expires_ns = job.arrived_ns + deadline_ms * 1_000_000 if deadline_ms else 0
        self._scheduler.submit(ticket(job, width, height, expires_ns))
        for worker in self._workers:
            worker.wake()
        return True

    def _settle(self, job: Job, result: Result) -> None:
        if job.reply is None:
            self._publisher.submit(result)
        elif not job.reply.done():
            job.reply.set_result(result)

    def _published(self, result: Result, submitted_unix_ns: int, spent_ns: int) -> None:
        outcome = result.outcome.name.lower()
        Timeline(result.trace).add("publisher", submitted_unix_ns, spent_ns, (), outcome=outcome)
        self._streams.settled(result.id.edge, result.id.session, result.id.sequence)

    def _given_up(self, result: Result, reason: str) -> None:
        """Most times the edge will send the frame again, and it must be worked on again."""
        if reason == "refused" and result.image is not None:  # NATS will never take it: say so instead
            why = "the result is too large for NATS: ask for it as JPEG or WebP, or send smaller frames"
            self._publisher.submit(replace(result, outcome=Outcome.FAILED, image=None, reason=why))
            return
        self._streams.settled(result.id.edge, result.id.session, result.id.sequence)

    async def _set_health(self, status: int) -> None:
        for service in ("", SERVICE):
            await self._health.set(service, status)
