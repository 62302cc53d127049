"""A device in a process of its own: what it does holds up no thread of the node, and what kills it leaves the node."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

from cloud_node.batches import BatchResult, Done, Ran
from cloud_node.device import Flight
from cloud_node.device_wire import (
    SLOTS,
    Batch,
    Claim,
    EngineSpec,
    Fault,
    FrameSpec,
    Image,
    Inbox,
    Lit,
    Memory,
    Models,
    Reload,
    Reloaded,
    Revoked,
    Said,
    framed,
)
from cloud_node.device_wire import Ran as WireRan
from cloud_node.jobs import Encoding, Job
from cloud_node.outputs import Away, Enhanced
from common.errors import DeviceError, DeviceLost, ImageError
from common.packing import EncodedImage, PackedImage

log = logging.getLogger(__name__)


class _Flight:
    """A batch that the process has."""

    def __init__(
        self, number: int, slot: int, jobs: list[Job], claim: Claim, on_revoked: Callable[[int], None]
    ) -> None:
        self.number, self.slot, self.jobs, self._claim, self._on_revoked = number, slot, jobs, claim, on_revoked
        self.answer: asyncio.Future[Done | None] = asyncio.get_running_loop().create_future()
        self.revoked = False

    def __await__(self) -> Generator[Any, None, Done | None]:
        return self.answer.__await__()

    def revoke(self) -> bool:
        if not self.revoked and not self.answer.done() and self._claim.take(self.number):
            self.revoked = True
            self._on_revoked(self.number)
        return self.revoked


class ProcessDevice(asyncio.Protocol):
    """Starts the process, and ends it.

    Frames go through shared memory, one stretch for the batch on the device and one for the next; all else, results
    too, over a socket. The process ends when that closes, and its end is seen as the socket's.

    Args:
        spec: the engine that it builds.
        name: of the device, for logs.
    """

    def __init__(self, spec: EngineSpec, name: str = "device") -> None:
        self.models: dict[str, str] = {}
        self.lost = ""
        self.on_lost: Callable[[], None] = lambda: None
        self._spec, self._name = spec, name
        self._memories, self._claims = [Memory() for _ in range(SLOTS)], [Claim() for _ in range(SLOTS)]
        self._numbers = 0
        self._flights: dict[int, _Flight] = {}
        self._images: dict[tuple[int, int], asyncio.Future[PackedImage | EncodedImage]] = {}
        self._reloads: dict[int, asyncio.Future[str]] = {}
        self._inbox = Inbox()
        self._left = False
        self._process: subprocess.Popen[bytes] | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def pid(self) -> int:
        """Of its process; 0 before it was started."""
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = loop.create_future()
        ours, theirs = socket.socketpair()
        with theirs:
            shared = [memory.descriptor for memory in self._memories], [claim.descriptor for claim in self._claims]
            command = [sys.executable, "-P", "-m", "cloud_node.device_child", str(theirs.fileno()), str(os.getpid())]
            # By this thread, the main one: the kernel ties the child to the life of the thread that made it.
            self._process = subprocess.Popen(  # noqa: ASYNC220  # takes a millisecond
                [*command, *(",".join(map(str, part)) for part in shared)],
                pass_fds=[theirs.fileno(), *shared[0], *shared[1]],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a terminal's Ctrl-C is for the node, from the first moment on
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self._transport, _ = await loop.create_connection(lambda: self, sock=ours)
        self._transport.write(framed(self._spec))
        await self._ready

    def send(self, jobs: list[Job], expires_ns: int) -> Flight:
        self._numbers += 1
        if self._transport is None or self.lost:
            flight = _Flight(self._numbers, 0, jobs, self._claims[0], self._drop)
            flight.revoked = True
            self._fail(flight)
            return flight
        for other in [other for other in self._flights.values() if other.revoked]:
            del self._flights[other.number]
        used = {flight.slot for flight in self._flights.values()}
        slot = next(slot for slot in range(SLOTS) if slot not in used)
        flight = _Flight(self._numbers, slot, jobs, self._claims[slot], self._drop)
        self._flights[flight.number] = flight
        flight.answer.add_done_callback(lambda _: self._flights.pop(flight.number, None))
        try:
            frames, memory = self._stored(jobs, slot)
            message = framed(Batch(flight.number, slot, memory.size, jobs[0].preset, expires_ns, frames))
        except Exception as error:
            log.exception("%s cannot take a batch of %d", self._name, len(jobs))
            del self._flights[
                flight.number
            ]  # at once: whoever awaits an answer that is there may send in the same turn
            flight.answer.set_result(_refused(jobs, error))
            return flight
        self._claims[slot].offer(flight.number)
        self._transport.write(message)
        return flight

    async def encode(self, output: Enhanced | Away, encoding: Encoding) -> PackedImage | EncodedImage:
        assert isinstance(output, Away)
        return await output.image

    async def reload(self, preset: str, weights: Path | None) -> str:
        if self._transport is None or self.lost:
            raise DeviceLost(self.lost or f"{self._name} was not started")
        self._numbers += 1
        answer = self._reloads[self._numbers] = asyncio.get_running_loop().create_future()
        self._transport.write(framed(Reload(self._numbers, preset, weights)))
        version: str = await answer
        return version

    def leave(self) -> None:
        if self._left:
            return
        self._left, self.lost = True, self.lost or f"{self._name} was left"
        if self._transport is not None:
            self._transport.abort()
        if self._process is not None:
            self._process.kill()
            # A driver that hangs keeps even a killed process; nobody waits for it.
            threading.Thread(target=self._process.wait, name=f"{self._name} ended", daemon=True).start()
        for memory in self._memories:
            memory.close()
        for claim in self._claims:
            claim.close()

    async def ended(self, timeout_s: float) -> bool:
        process = self._process
        if process is None:
            return True
        try:
            await asyncio.to_thread(process.wait, timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    # --- what the process says ---

    def data_received(self, data: bytes) -> None:
        for message in self._inbox.add(data):
            self._received(message)

    def connection_lost(self, error: Exception | None) -> None:
        for flight in self._flights.values():
            flight.revoke()  # what did not begin is not to blame
        if self._left:
            self._all_lost()
            return
        self.lost = f"the process of {self._name} says nothing more"
        self._ending = asyncio.create_task(self._how_it_ended())

    async def _how_it_ended(self) -> None:
        assert self._process is not None
        if await self.ended(1.0):  # it closed its end: it is ending
            code = self._process.returncode
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            self.lost = f"the process of {self._name} ended {how}"
        self._all_lost()

    def _all_lost(self) -> None:
        lost = DeviceLost(self.lost)
        waiting: list[asyncio.Future[Any]] = [self._ready, *self._images.values(), *self._reloads.values()]
        for answer in waiting:
            if not answer.done():
                answer.set_exception(lost)
                answer.exception()  # nobody has to ask
        for flight in list(self._flights.values()):
            self._fail(flight)
        self._images.clear()
        self._reloads.clear()
        self.on_lost()

    def _received(self, message: object) -> None:
        match message:
            case WireRan():
                self._ran(message)
            case Image():
                self._image(message)
            case Said():
                logging.getLogger(message.logger).log(message.level, "%s", message.text)
            case Models():
                self.models = message.models
                self._ready.set_result(None)
            case Fault():
                self._ready.set_exception(message.error)
            case Reloaded():
                self.models = message.models
                answer = self._reloads.pop(message.number)
                if answer.done():
                    return
                if isinstance(message.version, Fault):
                    answer.set_exception(message.version.error)
                else:
                    answer.set_result(message.version)

    def _ran(self, ran: WireRan) -> None:
        flight = self._flights.pop(ran.number, None)
        if flight is None or flight.answer.done():
            return
        if ran.results is None:
            flight.answer.set_result(None)
            return
        results: list[Enhanced | Away | Exception | None] = [
            self._output(ran.number, index, job, result)
            for index, (job, result) in enumerate(zip(flight.jobs, ran.results, strict=True))
        ]
        outcome = BatchResult(results, ran.lost, ran.fits_pixels)
        flight.answer.set_result(Done(flight.jobs, Ran(outcome, *ran.times)))

    def _output(self, number: int, index: int, job: Job, result: Lit | Fault | None) -> Away | Exception | None:
        if isinstance(result, Fault):
            error = result.error
            job.image_broken = isinstance(error, ImageError)
            return error
        if result is None:
            return None
        image = asyncio.get_running_loop().create_future()
        if result.image is not None:
            image.set_result(result.image)
        elif result.finite:
            self._images[number, index] = image
        return Away(image, result.sharpness_before, result.sharpness_after, result.finite, result.model, result.pixels)

    def _image(self, message: Image) -> None:
        image = self._images.pop((message.number, message.index), None)
        if image is None or image.done():
            return
        if isinstance(message.image, Fault):
            image.set_exception(message.image.error)
        else:
            image.set_result(message.image)

    # --- the parts ---

    def _stored(self, jobs: list[Job], slot: int) -> tuple[list[FrameSpec], Memory]:
        memory, start = self._memories[slot], 0
        contents = [job.encoded.data if job.encoded is not None else job.frame.image.payload for job in jobs]
        memory.grow(sum(map(len, contents)))
        frames = []
        for job, content in zip(jobs, contents, strict=True):
            memory.write(start, content)
            bare = replace(job.encoded, data=b"") if job.encoded else replace(job.frame.image, payload=b"")
            frames.append(FrameSpec(bare, start, len(content), job.encoding))
            start += len(content)
        return frames, memory

    def _drop(self, number: int) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(framed(Revoked(number)))

    def _fail(self, flight: _Flight) -> None:
        if not flight.answer.done():
            flight.answer.set_exception(DeviceLost(self.lost))
            flight.answer.exception()  # nobody has to ask


def _refused(jobs: list[Job], error: Exception) -> Done:
    """None of them came to the device."""
    fault = DeviceError(f"the frame cannot be handed to the device: {error or repr(error)}")
    now = time.monotonic_ns(), time.time_ns(), time.perf_counter_ns(), time.time_ns(), 0, 0
    return Done(jobs, Ran(BatchResult([fault] * len(jobs)), *now))
