"""A cloud node that says what the test wants: a real gRPC server with a script."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc

from common.channel import server_options
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import enhancement_pb2_grpc, frame_pb2

Answer = Callable[[frame_pb2.Frame], Awaitable[list[pb.CloudMessage]]]


class Parts:
    """Frames out of their parts: on a busy machine an edge takes its link for a slow one, and cuts small frames too."""

    def __init__(self) -> None:
        self._data: dict[tuple[int, int], bytes] = {}

    def whole(self, message: pb.EdgeMessage) -> frame_pb2.Frame | None:
        """The frame that a message is, or is the last part of."""
        if message.WhichOneof("message") == "frame":
            return message.frame
        part = message.part
        key = part.sequence, part.attempt
        self._data[key] = self._data.get(key, b"") + part.data
        return frame_pb2.Frame.FromString(self._data.pop(key)) if part.index == part.count - 1 else None


class Script(enhancement_pb2_grpc.EnhancementServicer):
    """Opens every stream and answers each frame as the test says."""

    def __init__(self, answer: Answer, **opened: object) -> None:
        self.answer, self.opened = answer, {"window_frames": 2, "window_bytes": 10**8, "max_pixels": 10**8} | opened
        self.opened.setdefault("max_frame_bytes", 10**8)
        nobody = pb.ResultsAddress(servers=["nats://127.0.0.1:1"])
        self.opened.setdefault("results", nobody)
        self.frames: list[frame_pb2.Frame] = []
        self.openings: list[pb.Open] = []

    async def Stream(self, requests, context) -> AsyncIterator[pb.CloudMessage]:
        parts = Parts()
        async for message in requests:
            match message.WhichOneof("message"):
                case "open":
                    self.openings.append(message.open)
                    yield pb.CloudMessage(opened=pb.Opened(model="script-1", **self.opened))
                case "frame" | "part":
                    if (frame := parts.whole(message)) is None:
                        continue
                    self.frames.append(frame)
                    for answer in await self.answer(frame):
                        yield answer
                case "close":
                    return


def rejected(frame: frame_pb2.Frame, reason: int, retry_after_ms: int = 0) -> list[pb.CloudMessage]:
    verdict = pb.Rejected(
        sequence=frame.sequence, attempt=frame.attempt, reason=reason, detail="not now", retry_after_ms=retry_after_ms
    )
    credit = pb.Credit(frames=1, bytes=len(frame.image.payload))
    return [pb.CloudMessage(rejected=verdict), pb.CloudMessage(credit=credit)]


@asynccontextmanager
async def serving(script: Script, port: int = 0) -> AsyncIterator[str]:
    """Its address."""
    server = grpc.aio.server(options=server_options())
    enhancement_pb2_grpc.add_EnhancementServicer_to_server(script, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)
