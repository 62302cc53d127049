"""The same bytes with no work between: a bare gRPC stream up, a bare JetStream publish down.

Each frame is answered by a result of the size that it would have: the first frame, unpacked and encoded once.
"""

import asyncio
import sys
from pathlib import Path

import frames
import grpc
import nats
import options

from common import memory, packing, wire
from common.broker import Broker
from common.channel import server_options
from common.frame import FrameId, Outcome, Priority, Result
from common.nats_connection import SEND_BUFFER_BYTES
from common.subjects import PART_BYTES, split
from lamplight.v1 import enhancement_pb2 as pb
from lamplight.v1 import enhancement_pb2_grpc, frame_pb2

WINDOW = 16
MAX_PENDING = 256


class Bare(enhancement_pb2_grpc.EnhancementServicer):
    """Answers each frame with a credit, and its canned result over NATS."""

    def __init__(self, url: str, broker: Broker, client: nats.NATS, image: packing.EncodedImage) -> None:
        self._url, self._broker, self._client, self._image = url, broker, client, image
        self._js = client.jetstream(publish_async_max_pending=MAX_PENDING)

    async def Stream(self, requests, context):
        opening = (await anext(requests)).open
        consumers = [
            pb.ResultsConsumer(priority=int(item.priority), stream=item.stream, consumer=item.name)
            for item in await self._broker.ensure_consumers(opening.edge)
        ]
        address = pb.ResultsAddress(servers=[self._url], consumers=consumers)
        opened = pb.Opened(window_frames=WINDOW, window_bytes=1 << 30, results=address)
        opened.max_pixels, opened.max_frame_bytes = packing.MAX_PIXELS, 1 << 30
        yield pb.CloudMessage(opened=opened)
        parts: list[bytes] = []  # of one frame: all are of one priority, and go one after the other
        async for message in requests:
            kind = message.WhichOneof("message")
            if kind == "alive":
                yield pb.CloudMessage(credit=pb.Credit())
            if kind == "part":
                parts.append(message.part.data)
                if message.part.index + 1 < message.part.count:
                    continue
            elif kind != "frame":
                continue
            frame = message.frame if kind == "frame" else frame_pb2.Frame.FromString(b"".join(parts))
            parts.clear()
            yield pb.CloudMessage(accepted=pb.Accepted(sequence=frame.sequence, attempt=frame.attempt))
            result = Result(
                id=FrameId(opening.edge, opening.session, frame.sequence),
                attempt=frame.attempt,
                priority=Priority(frame.priority),
                captured_unix_ns=frame.captured_unix_ns,
                outcome=Outcome.ENHANCED,
                image=self._image,
            )
            for part in self._parts(result):
                await self._js.publish_async(part.subject, part.body, headers=dict(part.headers))
            yield pb.CloudMessage(credit=pb.Credit(frames=1, bytes=len(frame.image.payload)))

    def _parts(self, result: Result):
        body, name = wire.result_to_proto(result).SerializeToString(), f"{result.id}/{result.attempt}"
        largest = self._client.max_payload
        return split(result.id.edge, result.priority, body, name, {}, max_payload=largest, part_bytes=PART_BYTES)


async def main() -> None:
    given = options.parse(__doc__)
    memory.tune_malloc()
    first = frames.load(Path(given.extra[0]))[0]
    image = packing.encode(packing.decode(first), packing.ImageFormat.JPEG)
    broker = await Broker.connect(given.nats)
    await broker.ensure_streams()
    client = await nats.connect(given.nats, pending_size=SEND_BUFFER_BYTES)
    server = grpc.aio.server(options=server_options())
    enhancement_pb2_grpc.add_EnhancementServicer_to_server(Bare(given.nats, broker, client, image), server)
    port = server.add_insecure_port(f"127.0.0.1:{given.port}")
    await server.start()
    print(f"ready on 127.0.0.1:{port}", file=sys.stderr, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
