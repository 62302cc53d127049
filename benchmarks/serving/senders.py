"""How a frame is sent to each system: the one thing in which the simulated edges differ.

`send` returns when the next frame may go: at once while our window (or the limit's) has room, and with a peer's answer.
`lanes` is how many frames an edge may have waiting for that.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import numpy as np
from bodies import body_of

from common.frame import Frame
from edge_node.uplink import Uplink
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import image_pb2

CONNECT_TIMEOUT_S = 30.0
PEER_LANES = 16
WHOLE = 1 << 30  # bytes of a part: frames are sent whole


class Sender(Protocol):
    lanes: int

    async def start(self) -> None: ...
    async def send(self, frame: Frame) -> None: ...
    async def close(self) -> None: ...


class StreamSender:
    """Our edge's own gRPC stream, with its window; `rejected` gets the sequence of a frame that was turned away."""

    lanes = 1

    def __init__(self, address: str, edge: str, session: str, rejected: Callable[[int], None]) -> None:
        encoding = image_pb2.ResultEncoding(format=image_pb2.IMAGE_FORMAT_JPEG)
        self._open = asyncio.Event()
        self._uplink = Uplink(
            address,
            opening=lambda: pb.Open(edge=edge, session=session, encoding=encoding),
            on_opened=lambda _: self._open.set(),
            on_rejected=lambda message: rejected(message.sequence),
            part_bytes=WHOLE,
            connect_timeout_s=CONNECT_TIMEOUT_S,
        )

    async def start(self) -> None:
        self._life = asyncio.create_task(self._uplink.run())
        opened = asyncio.create_task(self._open.wait())
        await asyncio.wait([self._life, opened], return_when=asyncio.FIRST_COMPLETED)
        if self._life.done():
            opened.cancel()
            self._life.result()

    async def send(self, frame: Frame) -> None:
        await self._uplink.reserve(frame)
        await self._uplink.send(frame)

    async def close(self) -> None:
        self._life.cancel()
        await asyncio.gather(self._life, return_exceptions=True)


class HttpSender:
    """A POST a frame over an edge's own connections that are kept."""

    lanes = PEER_LANES

    def __init__(self, address: str, path: str) -> None:
        self._url = f"http://{address}{path}"

    async def start(self) -> None:
        import aiohttp

        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.lanes), timeout=aiohttp.ClientTimeout(total=None)
        )

    async def send(self, frame: Frame) -> None:
        headers = {"Content-Type": "application/octet-stream"}
        async with self._client.post(self._url, data=body_of(frame), headers=headers) as answer:
            await answer.read()
            answer.raise_for_status()

    async def close(self) -> None:
        await self._client.close()


class TritonSender:
    """Triton's own asyncio client over gRPC, a connection an edge."""

    lanes = PEER_LANES

    def __init__(self, address: str) -> None:
        self._address = address

    async def start(self) -> None:
        import tritonclient.grpc.aio as triton

        own = [("grpc.use_local_subchannel_pool", 1)]
        self._triton, self._client = triton, triton.InferenceServerClient(self._address, channel_args=own)

    async def send(self, frame: Frame) -> None:
        tensor = self._triton.InferInput("frame", [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[body_of(frame)]], dtype=object))
        await self._client.infer("enhancer", [tensor], priority=int(frame.priority))

    async def close(self) -> None:
        await self._client.close()


def create(system: str, address: str, edge: str, session: str, rejected: Callable[[int], None]) -> Sender:
    """The sender of one edge to a system at HOST:PORT."""
    match system:
        case "ours" | "limit":
            return StreamSender(address, edge, session, rejected)
        case "litserve":
            return HttpSender(address, "/predict")
        case "ray":
            return HttpSender(address, "/")
        case "triton":
            return TritonSender(address)
    raise ValueError(f"no system {system!r}")
