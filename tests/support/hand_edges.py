"""An edge's side of a stream by hand, and a cloud node's front without a network behind it."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache

import grpc
import grpc.aio
import numpy as np

from cloud_node.admission import Admission
from cloud_node.identity.guard import Guard
from cloud_node.ingress import Ingress
from cloud_node.jobs import Job
from cloud_node.load import Load
from cloud_node.policy import EdgePolicy, Policy
from cloud_node.scheduler import Scheduler, Ticket
from cloud_node.service import add_ingress
from cloud_node.settings import CloudSettings
from cloud_node.streams import Streams
from common import packing, wire
from common.channel import connect, server_options
from common.frame import Outcome, Result
from common.identity import Identity
from common.pixels import RawImage
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import enhancement_pb2_grpc, frame_pb2, image_pb2

HANG_S = 120


class HandEdge:
    """One stream."""

    def __init__(self, call: grpc.aio.StreamStreamCall) -> None:
        self.call = call

    async def open(self, edge: str, session: str, **more: object) -> pb.Opened:
        await self.call.write(pb.EdgeMessage(open=pb.Open(edge=edge, session=session, **more)))
        return (await self.expect("opened")).opened

    async def frame(self, frame: frame_pb2.Frame) -> None:
        await self.call.write(pb.EdgeMessage(frame=frame))

    async def part(self, **fields: object) -> None:
        await self.call.write(pb.EdgeMessage(part=frame_pb2.FramePart(**fields)))

    async def expect(self, *kinds: str) -> pb.CloudMessage:
        """The next message of one of these kinds; others in between are passed over."""
        async with asyncio.timeout(HANG_S):
            while True:
                message = await self.call.read()
                assert message is not grpc.aio.EOF, f"{await self.call.code()}: {await self.call.details()}"
                if message.WhichOneof("message") in kinds:
                    return message

    async def verdict(self) -> pb.Accepted | pb.Rejected:
        """The next of these two."""
        message = await self.expect("accepted", "rejected")
        return message.accepted if message.HasField("accepted") else message.rejected

    async def credits(self, frames: int) -> int:
        """Wait for the credit of so many frames; returns the bytes that came with it."""
        size = 0
        while frames > 0:
            credit = (await self.expect("credit")).credit
            frames, size = frames - credit.frames, size + credit.bytes
        assert frames == 0, "more credit than frames"
        return size

    async def end(self) -> tuple[grpc.StatusCode, str]:
        """How the node ends the stream."""
        async with asyncio.timeout(HANG_S):
            with contextlib.suppress(grpc.aio.AioRpcError):
                while await self.call.read() is not grpc.aio.EOF:
                    pass
            return await self.call.code(), await self.call.details()


@asynccontextmanager
async def hand_edges(
    address: str, identity: Identity | None = None, credentials: grpc.ChannelCredentials | None = None
) -> AsyncIterator[Callable[[], HandEdge]]:
    """Makes streams over one connection, with these credentials or the identity's; they are cut off at the end."""
    made = grpc.aio.secure_channel(address, credentials) if credentials else connect(address, identity)
    async with made as channel:
        stub = enhancement_pb2_grpc.EnhancementStub(channel)
        calls = []

        def make() -> HandEdge:
            calls.append(stub.Stream())
            return HandEdge(calls[-1])

        yield make
        for call in calls:
            call.cancel()


def name() -> str:
    return f"edge-{uuid.uuid4().hex[:8]}"


def good(sequence: int = 0, width: int = 64, height: int = 48, **more: object) -> frame_pb2.Frame:
    """A frame that nothing is wrong with."""
    return frame_pb2.Frame(**{"sequence": sequence, "image": _packed(width, height), "captured_unix_ns": 1, **more})


@cache
def _packed(width: int, height: int) -> image_pb2.PackedImage:
    rgb = np.random.default_rng(0).integers(0, 30, (height, width, 3), dtype=np.uint8)
    return wire.packed_to_proto(packing.pack(RawImage.from_rgb(rgb)))


def bad(**changes: object) -> frame_pb2.Frame:
    """Frame 1 with another image."""
    frame = good(1)
    for field, value in changes.items():
        setattr(frame.image, field, value)
    return frame


def rules(**edges: dict[str, object]) -> Policy:
    """A policy edge by edge: rules(cam={"share": 2.0})."""
    return Policy(edges={edge: EdgePolicy(**fields) for edge, fields in edges.items()})


def ticket(job: Job, width: int, height: int, expires_ns: int) -> Ticket[Job]:
    """As the worker makes them."""
    return Ticket(
        edge=job.frame.id.edge,
        priority=job.frame.priority,
        bucket=(width, height),
        pixels=width * height,
        bytes=job.packed_bytes,
        arrived_ns=job.arrived_ns,
        job=job,
        expires_ns=expires_ns,
        share=job.share,
    )


class Front:
    """Everything before the device. What is admitted waits until `work` takes it, one frame at a time."""

    def __init__(self, settings: CloudSettings, policy: Policy, guard: Guard | None = None) -> None:
        self.results: list[Result] = []
        self.working = True  # whether `work` is called for every frame that comes
        self.devices = 1
        self.models = {"fast": "fast-7", "edge": "edge-2"}
        self.scheduler: Scheduler[Job] = Scheduler(1, 32, 10**12)
        self.load = Load()
        self.streams = Streams(settings.window, settings.limits.max_edges)
        self.admission = Admission(
            settings,
            policy,
            self.scheduler,
            self.load,
            self.streams,
            ticket=ticket,
            devices=lambda: self.devices,
            wake=self._wake,
        )
        self.ingress = Ingress(
            settings,
            node="node",
            models=lambda: self.models,
            streams=self.streams,
            admission=self.admission,
            address=self._address,
            guard=guard,
        )

    async def _address(self, edge: str) -> pb.ResultsAddress:
        return pb.ResultsAddress(servers=["nats://nowhere"])

    def _wake(self) -> None:
        if self.working:
            asyncio.get_running_loop().call_soon(self.work)

    def work(self) -> None:
        """Do all that waits."""
        while tickets := self.scheduler.select(time.monotonic_ns()).batch:
            for item in tickets:
                job = item.job
                job.release()
                result = job.result(Outcome.ENHANCED, model=self.models[job.preset])
                if job.reply is not None:
                    if not job.reply.done():
                        job.reply.set_result(result)
                else:
                    self.results.append(result)
                    self.streams.settled(result.id.edge, result.id.session, result.id.sequence)

    def sequences(self, edge: str) -> list[int]:
        """Frames of an edge that have a result."""
        return sorted(result.id.sequence for result in self.results if result.id.edge == edge)


@asynccontextmanager
async def serving(
    settings: CloudSettings | None = None, policy: Policy | None = None
) -> AsyncIterator[tuple[Front, str]]:
    """A front behind a real gRPC server on loopback, and its address."""
    front = Front(settings or CloudSettings(), policy or Policy())
    server = grpc.aio.server(options=server_options())
    add_ingress(front.ingress, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield front, f"127.0.0.1:{port}"
    finally:
        await server.stop(0)
