"""A device in a process of its own: what it does holds up no thread of the node, and what kills it leaves the node."""

import asyncio
import logging
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from cloud_node.batches import BatchResult, Done, Ran
from cloud_node.device import Flight
from cloud_node.device_flight import ProcessFlight, refused, specs_of, write_all
from cloud_node.device_images import Images
from cloud_node.device_memory import WHOLE, Claim, Hands, Slot, Stretch
from cloud_node.device_spawn import spawn
from cloud_node.device_wire import (
    SLOTS,
    Batch,
    EngineSpec,
    Fault,
    FrameSpec,
    Image,
    Inbox,
    Lit,
    Models,
    Reload,
    Reloaded,
    Revoked,
    Said,
    Tidy,
    content_of,
    framed,
)
from cloud_node.device_wire import Ran as WireRan
from cloud_node.jobs import Encoding, Job
from cloud_node.mover import Mover
from cloud_node.outputs import Away, Enhanced
from common import usage
from common.errors import DeviceLost, ImageError
from common.packing import EncodedImage, PackedImage

log = logging.getLogger(__name__)

TIDY_EVERY_S = 10.0  # memory that was not needed for as long goes
LAST_WORDS_S = 1.0  # for what a process that is killed had said
ENDING_S = 1.0  # for a process that closed its end of the connection
CHUNK = 1 << 20  # bytes read at once


class ProcessDevice(asyncio.Protocol):
    """Starts the process, and ends it.

    Frames go through shared memory, one stretch for the batch on the device and one for the next; large images come
    back through a third; all else goes over a socket. The process ends when that closes, and its end is seen as the
    socket's; what it said before counts, also where the node hears of the end as it writes.

    Args:
        spec: the engine that it builds.
        name: of the device, for logs.
    """

    child = "cloud_node.device_child"

    def __init__(self, spec: EngineSpec, name: str = "device") -> None:
        self.models: dict[str, str] = {}
        self.lost = ""
        self.on_lost: Callable[[], None] = lambda: None
        self._spec, self._name = spec, name
        self._slots, self._results = [Slot() for _ in range(SLOTS)], Stretch()
        self._hands_file = Stretch()
        self._hands = Hands(self._hands_file)
        self._held: Collection[Job] | None = None  # of what threads were at when it ended
        self._mover = Mover(name)
        self._images = Images(self._results, self._mover, self._write)
        self._numbers = 0
        self._flights: dict[int, ProcessFlight] = {}
        self._reloads: dict[int, asyncio.Future[str]] = {}
        self._inbox = Inbox()
        self._left, self._over = False, asyncio.Event()  # over: it says nothing more
        self._process: subprocess.Popen[bytes] | None = None
        self._cpu_s = 0.0
        self._transport: asyncio.Transport | None = None
        self._tidying: asyncio.TimerHandle | None = None
        self._aborting: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int:
        """Of its process; 0 before it was started."""
        return self._process.pid if self._process is not None else 0

    def cpu_s(self) -> float:
        process = self._process
        if process is not None and process.returncode is None and (told := usage.of_process(process.pid)) is not None:
            self._cpu_s = max(self._cpu_s, told[0])
        return self._cpu_s

    @property
    def memory(self) -> int:
        """Bytes that it shares with the node now."""
        return sum(file.size for file in (*(slot.stretch for slot in self._slots), self._results))

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = loop.create_future()
        ours, theirs = socket.socketpair()
        with theirs:
            rest = self._results.descriptor, self._hands_file.descriptor
            self._process = spawn(self.child, theirs, self._slots, rest)
        self._transport, _ = await loop.create_connection(lambda: self, sock=ours)
        self._transport.write(framed(self._spec))
        self._tidying = loop.call_later(TIDY_EVERY_S, self._tidy)
        await self._ready

    def send(self, jobs: list[Job], expires_ns: int) -> Flight:
        self._numbers += 1
        if self._transport is None or self.lost:
            flight = ProcessFlight(self._numbers, 0, jobs, self._slots[0].claim, self._drop)
            flight.revoked = True
            self._fail(flight)
            return flight
        for other in [other for other in self._flights.values() if other.revoked]:
            del self._flights[other.number]
        used = {flight.slot for flight in self._flights.values()}
        assert len(used) < SLOTS, f"{self._name} has {SLOTS} batches already"
        number = min(set(range(SLOTS)) - used)
        slot = self._slots[number]
        flight = ProcessFlight(self._numbers, number, jobs, slot.claim, self._drop)
        self._flights[flight.number] = flight
        contents = [content_of(job.encoded or job.frame.image) for job in jobs]
        size = sum(map(len, contents))
        slot.expect(size)
        slot.claim.offer(flight.number)
        self._mover.do(
            size,
            partial(write_all, slot.stretch, contents),
            partial(self._written, flight, slot.claim, specs_of(jobs, contents), expires_ns),
        )
        return flight

    def _written(
        self, flight: ProcessFlight, claim: Claim, frames: list[FrameSpec], expires_ns: int, error: Exception | None
    ) -> None:
        """Its frames are in memory; unless it was taken back meanwhile, the process may begin it."""
        if self.lost or flight.revoked:
            return
        if error is None:
            batch = Batch(flight.number, flight.slot, flight.jobs[0].preset, expires_ns, frames)
            self._write(batch)
            return
        log.error("%s cannot take a batch of %d", self._name, len(flight.jobs), exc_info=error)
        claim.take(flight.number)
        self._flights.pop(flight.number, None)  # at once: whoever awaits it may send in the same turn
        flight.answer.set_result(refused(flight.jobs, error))

    async def encode(self, output: Enhanced | Away, encoding: Encoding) -> PackedImage | EncodedImage:
        assert isinstance(output, Away)
        return await output.image

    async def reload(self, preset: str, weights: Path | None) -> str:
        if self._transport is None or self.lost:
            raise DeviceLost(self.lost or f"{self._name} was not started")
        self._numbers += 1
        answer = self._reloads[self._numbers] = asyncio.get_running_loop().create_future()
        self._write(Reload(self._numbers, preset, weights))
        version: str = await answer
        return version

    def held(self) -> Collection[Job]:
        if self._held is not None:
            return self._held
        held = set[Job]()
        for number, index in self._hands.held():
            if (flight := self._flights.get(number)) is not None:
                held.update(flight.jobs if index == WHOLE else flight.jobs[index : index + 1])
            elif (job := self._images.job(number, index)) is not None:
                held.add(job)
        return held

    def leave(self) -> None:
        if self._left:
            return
        self._left, self.lost = True, self.lost or f"{self._name} was left"
        if self._held is None:
            self._held = ()  # if it did not end by itself, nothing that it is at is why
        self.cpu_s()
        if self._process is not None:
            self._process.kill()
            # A driver that hangs keeps even a killed process; nobody waits for it.
            threading.Thread(target=self._process.wait, name=f"{self._name} ended", daemon=True).start()
        if self._transport is not None and not self._over.is_set():
            # What it had done is kept: it is read until the end.
            self._aborting = asyncio.get_running_loop().call_later(LAST_WORDS_S, self._transport.abort)
        else:
            self._close()

    async def ended(self, timeout_s: float) -> bool:
        process = self._process
        if process is None:
            return True
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.to_thread(process.wait, timeout_s)
                if self._transport is not None:
                    await self._over.wait()
        except (subprocess.TimeoutExpired, TimeoutError):
            return False
        return True

    # --- what the process says ---

    def data_received(self, data: bytes) -> None:
        for message in self._inbox.add(data):
            self._received(message)

    def connection_lost(self, error: Exception | None) -> None:
        try:
            for data in self._unread():
                self.data_received(data)
        except Exception:  # whatever it is, what follows is to be done
            log.exception("%s: its last words make no sense", self._name)
        self._held = self.held()
        self.cpu_s()
        for timer in (self._tidying, self._aborting):
            if timer is not None:
                timer.cancel()
        self._over.set()
        for flight in self._flights.values():
            flight.revoke()  # what did not begin is not to blame
        if self._left:
            self._all_lost()
            self._close()
            return
        self.lost = f"the process of {self._name} says nothing more"
        self._ending = asyncio.create_task(self._how_it_ended())

    def _unread(self) -> Iterator[bytes]:
        """A write that fails ends the connection, whatever is still to be read."""
        if self._transport is None:
            return
        ours = self._transport.get_extra_info("socket").fileno()  # it is closed after `connection_lost`
        with suppress(OSError):  # there is no more
            while data := os.read(ours, CHUNK):
                yield data

    async def _how_it_ended(self) -> None:
        assert self._process is not None
        if await self.ended(ENDING_S):  # it closed its end: it is ending
            code = self._process.returncode
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            self.lost = f"the process of {self._name} ended {how}"
        self._all_lost()

    def _all_lost(self) -> None:
        lost = DeviceLost(self.lost)
        waiting: list[asyncio.Future[Any]] = [self._ready, *self._reloads.values()]
        for answer in waiting:
            if not answer.done():
                answer.set_exception(lost)
                answer.exception()  # nobody has to ask
        for flight in list(self._flights.values()):
            self._fail(flight)
        self._images.lose(lost)
        self._reloads.clear()
        self.on_lost()

    def _received(self, message: object) -> None:
        match message:
            case WireRan():
                self._ran(message)
            case Image():
                self._images.arrived(message.number, message.index, message.image)
            case Said():
                logging.getLogger(message.logger).log(message.level, "%s", message.text)
            case Models():
                self.models = message.models
                if not self._ready.done():
                    self._ready.set_result(None)
            case Fault():
                if not self._ready.done():
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
        if result.image is not None:
            image = self._images.at_hand(result.image)
        elif result.finite:
            image = self._images.expect(number, index, job)
        else:
            image = asyncio.get_running_loop().create_future()  # never shown
        return Away(image, result.sharpness_before, result.sharpness_after, result.finite, result.model, result.pixels)

    # --- the parts ---

    def _write(self, message: object) -> None:
        # Who writes to a process that is gone does not hear its last words.
        if self._transport is not None and not self._left and not self._transport.is_closing():
            self._transport.write(framed(message))

    def _drop(self, number: int) -> None:
        self._write(Revoked(number))

    def _tidy(self) -> None:
        used = {flight.slot for flight in self._flights.values()}
        for number, slot in enumerate(self._slots):
            slot.tidy(number in used)
        self._write(Tidy())
        self._tidying = asyncio.get_running_loop().call_later(TIDY_EVERY_S, self._tidy)

    def _close(self) -> None:
        def close() -> None:
            for slot in self._slots:
                slot.close()
            self._results.close()
            self._hands_file.close()

        self._mover.end(close)

    def _fail(self, flight: ProcessFlight) -> None:
        if not flight.answer.done():
            flight.answer.set_exception(DeviceLost(self.lost))
            flight.answer.exception()  # nobody has to ask
