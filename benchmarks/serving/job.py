"""The work that each peer does for a frame, the same as a cloud node's: unpack, enhance, encode, publish to NATS."""

import asyncio
import threading
import time
from collections.abc import Sequence

import torch
from bodies import frame_of

from cloud_node.engine import Engine
from common import memory, packing, wire
from common.broker import Broker
from common.frame import Outcome, Result
from common.packing import ImageFormat
from common.subjects import HEADER_FRAME

IN_FLIGHT = 64  # results that wait for JetStream's acknowledgement


class Job:
    """One worker of a peer: an engine on one thread, and a connection to NATS on another."""

    def __init__(self, preset: str, nats: str) -> None:
        memory.tune_malloc()
        self.engine = Engine(torch.device("cpu"), preset, threads=1)
        self.engine.warm_up()
        self._publisher = _Publisher(nats)

    def work(self, bodies: Sequence[bytes]) -> None:
        """Enhance frames of one size together and hand their results to the publisher."""
        start_ns = time.perf_counter_ns()
        frames = [frame_of(body) for body in bodies]
        images = [packing.unpack(frame.image) for frame in frames]
        network_ns = time.perf_counter_ns()
        enhanced = self.engine.enhance(images)
        network_ns = time.perf_counter_ns() - network_ns
        for frame, output in zip(frames, enhanced, strict=True):
            image = packing.encode(output.rgb, ImageFormat.JPEG)
            stages_ns = {"engine": time.perf_counter_ns() - start_ns, "engine/enhance": network_ns}
            self._publisher.put(
                Result(
                    id=frame.id,
                    attempt=frame.attempt,
                    priority=frame.priority,
                    captured_unix_ns=frame.captured_unix_ns,
                    outcome=Outcome.ENHANCED,
                    image=image,
                    model=self.engine.model,
                    sharpness_before=output.sharpness_before,
                    sharpness_after=output.sharpness_after,
                    stages_ns=stages_ns,
                    batch_size=len(frames),
                )
            )


class _Publisher:
    """An event loop of its own, so that publishing goes on while the worker computes."""

    def __init__(self, nats: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._room = threading.Semaphore(IN_FLIGHT)
        threading.Thread(target=self._loop.run_forever, name="publisher", daemon=True).start()
        self._broker = asyncio.run_coroutine_threadsafe(Broker.connect(nats), self._loop).result()

    def put(self, result: Result) -> None:
        """Returns at once, or when there is room."""
        self._room.acquire()
        asyncio.run_coroutine_threadsafe(self._publish(result), self._loop)

    async def _publish(self, result: Result) -> None:
        try:
            body = wire.result_to_proto(result).SerializeToString()
            headers = {HEADER_FRAME: str(result.id)}
            parts = self._broker.split(result.id.edge, result.priority, body, f"{result.id}/{result.attempt}", headers)
            for part in parts:
                await self._broker.send(part)
        finally:
            self._room.release()
