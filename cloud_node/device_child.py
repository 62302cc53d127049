"""The process of one device: unpacks, enhances and encodes what its node sends (docs/engine.md).

    python -m cloud_node.device_child SOCKET PARENT FRAMES,FRAMES CLAIM,CLAIM RESULTS HANDS

The node starts it; the numbers are open files that it hands down. It ends when the node does, however that happens:
the socket closes.
"""

import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue

from cloud_node import batches
from cloud_node.batches import Pixels
from cloud_node.device_memory import Arena, Burst, Claim, Hands, Stretch
from cloud_node.device_wire import (
    INLINE,
    Batch,
    EngineSpec,
    Fault,
    Fetched,
    FrameSpec,
    Image,
    Line,
    Lit,
    Models,
    Ran,
    Reload,
    Reloaded,
    Revoked,
    Said,
    Stored,
    Tidy,
    content_of,
    with_content,
)
from cloud_node.engine import Engine, engine_of
from cloud_node.outputs import Enhanced
from common import memory, packing
from common.child import PR_SET_PDEATHSIG
from common.packing import EncodedImage, PackedImage
from common.pixels import RawImage

log = logging.getLogger(__name__)

FORMAT = logging.Formatter("%(message)s")  # with the traceback


class Child:
    """Serves one node until its end of the socket closes."""

    def __init__(self, line: Line, frames: list[Stretch], claims: list[Claim], results: Arena, hands: Hands) -> None:
        self._line, self._frames, self._claims = line, frames, claims
        self._results, self._hands, self._burst = results, hands, Burst()
        self._queue: SimpleQueue[tuple[Batch, Callable[[], list[Pixels]]]] = SimpleQueue()
        self._unpackers: ThreadPoolExecutor | None = None
        self._encoders: ThreadPoolExecutor | None = None  # apart: a batch's results hold up no frame of the next
        self._begun: dict[int, list[Future[Pixels]]] = {}  # being unpacked, by batch
        self._engine: Engine | None = None
        self._max_pixels = packing.MAX_PIXELS

    def run(self) -> None:
        """On the main thread, which only listens."""
        for message in self._line.messages():
            match message:
                case EngineSpec():
                    self._begin(message)
                case Batch():
                    self._burst.note(sum(frame.image.width * frame.image.height for frame in message.frames))
                    self._queue.put((message, self._unpacking(message)))
                case Revoked():
                    drop(self._begun.pop(message.number, []))
                case Fetched():
                    self._results.free(message.start)
                case Tidy():
                    self._results.tidy()
                    if self._burst.over():
                        memory.give_back()
                case Reload():
                    threading.Thread(target=self._reload, args=(message,), daemon=True).start()

    def _begin(self, spec: EngineSpec) -> None:
        logging.basicConfig(level=spec.log_level, handlers=[_ToNode(self._line)])
        self._max_pixels = spec.max_pixels or self._max_pixels
        if spec.helpers:
            self._unpackers = ThreadPoolExecutor(spec.helpers, thread_name_prefix="unpacker")
            self._encoders = ThreadPoolExecutor(spec.helpers, thread_name_prefix="encoder")
        threading.Thread(target=self._work, args=(spec,), name=spec.device, daemon=True).start()

    # --- the device's thread ---

    def _work(self, spec: EngineSpec) -> None:
        try:
            if spec.cpus:
                pin(spec.device, spec.cpus)
            engine = engine_of(spec)
            engine.warm_up()
        except Exception as error:
            self._line.send(Fault.of(error))
            return
        gc.collect()
        gc.freeze()
        self._engine = engine
        self._line.send(Models(dict(engine.models)))
        try:
            self._serve(engine)
        except Exception:
            log.exception("%s ends", spec.device)
            os._exit(1)  # the node makes another

    def _serve(self, engine: Engine) -> None:
        while True:
            batch, unpack = self._queue.get()
            if not self._claims[batch.slot].take(batch.number):
                continue
            unpacking = self._begun.pop(batch.number, [])
            if batch.expires_ns and time.monotonic_ns() >= batch.expires_ns:
                drop(unpacking)
                self._line.send(Ran(batch.number, None))
                continue
            self._hands.take(batch.number)
            ran = batches.run(engine, batch.preset, unpack)
            self._answer(batch, ran)
            self._hands.empty()
            if ran.result.lost:  # what is in line is for the node to take back
                return
            del batch, unpack, unpacking, ran

    def _answer(self, batch: Batch, ran: batches.Ran) -> None:
        results: list[Lit | Fault | None] = []
        later: list[tuple[int, Enhanced]] = []
        encode_start_ns = time.perf_counter_ns()
        for index, (frame, output) in enumerate(zip(batch.frames, ran.result.results, strict=True)):
            if not isinstance(output, Enhanced):
                results.append(Fault.of(output) if isinstance(output, Exception) else None)
                continue
            image = None
            if output.finite and self._encoders is not None:
                later.append((index, output))
            elif output.finite:
                self._hands.take(batch.number, index)
                encoded = self._encode(frame, output)
                if isinstance(encoded, Fault):
                    results.append(encoded)
                    continue
                image = encoded
            sharpness = output.sharpness_before, output.sharpness_after
            results.append(Lit(image, *sharpness, output.finite, output.model, output.pixels))
        *times, device_ns = ran.times
        device_ns += time.perf_counter_ns() - encode_start_ns
        self._line.send(Ran(batch.number, results, ran.result.lost, ran.result.fits_pixels, (*times, device_ns)))
        for index, output in later:
            assert self._encoders is not None
            self._encoders.submit(self._encode_later, batch, index, output)

    # --- beside it ---

    def _unpacking(self, batch: Batch) -> Callable[[], list[Pixels]]:
        """Begin to unpack where there are helpers; what this returns gives the pixels, on the device's thread."""
        area, most = self._frames[batch.slot], self._max_pixels
        if self._unpackers is None:
            return lambda: [_unpack(frame, area, most) for frame in batch.frames]
        futures = [
            self._unpackers.submit(self._unpack_early, batch.number, index, area, most, frame)
            for index, frame in enumerate(batch.frames)
        ]
        self._begun[batch.number] = futures

        def pixels() -> list[Pixels]:
            found = [
                _unpack(frame, area, most) if future.cancel() else future.result()  # rather than wait for a helper
                for frame, future in zip(batch.frames, futures, strict=True)
            ]
            futures.clear()
            return found

        return pixels

    def _unpack_early(self, number: int, index: int, area: Stretch, max_pixels: int, frame: FrameSpec) -> Pixels:
        self._hands.take(number, index)
        pixels = _unpack(frame, area, max_pixels)
        self._hands.empty()
        return pixels

    def _encode_later(self, batch: Batch, index: int, output: Enhanced) -> None:
        try:
            self._hands.take(batch.number, index)
            image = self._encode(batch.frames[index], output)
            try:
                self._line.send(Image(batch.number, index, image))
            except MemoryError as error:  # before a byte of it went
                self._line.send(Image(batch.number, index, Fault.of(error)))
            self._hands.empty()
        except Exception:
            with suppress(Exception):
                log.exception("a frame cannot be sent")
            os._exit(1)  # nobody else would hear of it, and the frame be held for ever

    def _encode(self, frame: FrameSpec, output: Enhanced) -> PackedImage | EncodedImage | Stored | Fault:
        try:
            image = packing.encode(output.rgb, frame.encoding.image_format, frame.encoding.quality)
            content = content_of(image)
            if len(content) <= INLINE:
                return image
            return Stored(with_content(image, b""), self._results.put(content), len(content))
        except Exception as error:
            return Fault.of(error)

    def _reload(self, asked: Reload) -> None:
        engine = self._engine
        assert engine is not None
        version: str | Fault
        try:
            version = engine.reload(asked.preset, asked.weights)
            gc.unfreeze()  # what was kept for good at the start may be the model that was replaced
        except Exception as error:
            version = Fault.of(error)
        self._line.send(Reloaded(asked.number, version, dict(engine.models)))


def drop(unpacking: list[Future[Pixels]]) -> None:
    """Nobody asks for these any more; what is there of them is let go."""
    for future in unpacking:
        future.cancel()
    unpacking.clear()


def _unpack(frame: FrameSpec, area: Stretch, max_pixels: int) -> Pixels:
    try:
        data = area.read(frame.start, frame.size)
        image = with_content(frame.image, data)
        if isinstance(image, EncodedImage):
            return RawImage.from_rgb(packing.decode(image, max_pixels=max_pixels))
        return packing.unpack(image, max_pixels=max_pixels)
    except Exception as error:
        return error


def pin(name: str, cpus: frozenset[int]) -> None:
    """Keep the calling thread, and what it starts, to these processors; only said in the log where that cannot be."""
    try:
        os.sched_setaffinity(0, cpus)  # 0 is this thread
    except (AttributeError, OSError) as error:  # not on this platform, or no such processor
        log.warning("%s is not kept to processors %s: %s", name, ",".join(map(str, sorted(cpus))), error)


class _ToNode(logging.Handler):
    """Lines go to the node's log."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line
        self.setFormatter(FORMAT)

    def emit(self, record: logging.LogRecord) -> None:
        self._line.send(Said(record.name, record.levelno, self.format(record)))


def _tied_to(parent: int) -> None:
    """Signals of a terminal or a service manager are for the node; the kernel ends this process with it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def main(arguments: list[str]) -> None:
    connection, parent, frames, claims, results, hands = arguments
    _tied_to(int(parent))
    os.environ.pop("PYTHONPATH", None)  # the node's search path, for this process alone
    memory.tune_malloc()
    line = Line(socket.socket(fileno=int(connection)))
    child = Child(
        line,
        [Stretch(int(number)) for number in frames.split(",")],
        [Claim(int(number)) for number in claims.split(",")],
        Arena(Stretch(int(results))),
        Hands(Stretch(int(hands))),
    )
    code = 1
    try:
        child.run()
        code = 0
    except ConnectionError:  # the node ended before it read all
        code = 0
    except BaseException:
        with suppress(Exception):
            log.exception("it cannot go on")
    finally:
        os._exit(code)  # whatever the device still does


if __name__ == "__main__":
    main(sys.argv[1:])
