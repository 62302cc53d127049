"""Results to publish, and a NATS server to publish them to."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import psutil

from common.broker import Broker
from common.frame import FrameId, Outcome, Priority, Result
from common.nats_server import EmbeddedServer
from common.packing import EncodedImage, ImageFormat

EDGE, SESSION = "cam-1", "s1"


def make_result(
    sequence: int,
    size: int = 100,
    priority: Priority = Priority.STANDARD,
    *,
    edge: str = EDGE,
    session: str = SESSION,
    attempt: int = 0,
    trace: dict[str, str] | None = None,
) -> Result:
    """A result with `size` random bytes for an image."""
    image = EncodedImage(ImageFormat.JPEG, 600, 400, os.urandom(size))
    return Result(
        id=FrameId(edge, session, sequence),
        attempt=attempt,
        priority=priority,
        captured_unix_ns=time.time_ns(),
        outcome=Outcome.ENHANCED,
        image=image,
        trace=trace or {},
    )


async def stop_in_place(pid: int) -> None:
    """SIGSTOP, and wait until it stands: for a moment it may still answer."""
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    await asyncio.sleep(0.1)


@asynccontextmanager
async def running_server() -> AsyncIterator[EmbeddedServer]:
    server = EmbeddedServer()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def publish(
    broker: Broker, edge: str, priority: Priority, body: bytes, message_id: str, headers: Mapping[str, str]
) -> None:
    """Split a body and send its parts, one after another."""
    for message in broker.split(edge, priority, body, message_id, headers):
        await broker.send(message)


class Inbox:
    """Takes what a downlink hands over; `take` waits for the next, and no longer than a test that hangs."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[Result, int]] = asyncio.Queue()
        self.seen: list[int] = []

    async def put(self, result: Result, size: int) -> None:
        self.seen.append(result.id.sequence)
        self._queue.put_nowait((result, size))

    async def take(self) -> Result:
        async with asyncio.timeout(120.0):
            return (await self._queue.get())[0]


async def until(condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
    """Wait for a condition. Raises TimeoutError only to end a test that hangs."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)
