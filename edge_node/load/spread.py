"""Edges over several processes, since one Python process saturates one core."""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from operator import add
from typing import Any

from common import memory, process
from common.errors import LamplightError, SettingsError, TransportError
from common.packing import PackedImage
from edge_node.load.fleet import Fleet, quiet, unless_stopped
from edge_node.load.records import Measured, Progress
from edge_node.load.settings import LoadSettings

HEAD_START_S = 0.3  # from the word to the schedule's zero
PROGRESS_S = 0.5
END_S = 10.0  # for a process that is told to end

OnProgress = Callable[[Progress], None]


async def spread(
    settings: LoadSettings,
    images: Sequence[PackedImage],
    stop: asyncio.Event,
    on_progress: OnProgress,
) -> Measured:
    """Play the load from `settings.processes` processes; all start at once, and their measurements are put together.

    Raises:
        LamplightError: as a fleet does, or a process died.
    """
    context = multiprocessing.get_context("spawn")
    shares = [range(number, settings.edges, settings.processes) for number in range(settings.processes)]
    parts = [_Part(context, settings, images, share) for share in shares]
    waiting = asyncio.create_task(_tell_to_stop(parts, stop))
    try:
        await unless_stopped(asyncio.gather(*(part.expect("ready") for part in parts)), stop)
        start_s = time.monotonic() + HEAD_START_S
        for part in parts:
            part.tell("go", start_s)
        showing = asyncio.create_task(_show(parts, on_progress))
        try:
            found = await asyncio.gather(*(part.expect("measured") for part in parts))
        finally:
            showing.cancel()
        measured: Measured = reduce(add, found)
        return measured
    finally:
        waiting.cancel()
        await asyncio.gather(*(part.end() for part in parts))


async def _tell_to_stop(parts: Sequence["_Part"], stop: asyncio.Event) -> None:
    await stop.wait()
    for part in parts:
        part.tell("stop")


async def _show(parts: Sequence["_Part"], on_progress: OnProgress) -> None:
    while True:
        await asyncio.sleep(PROGRESS_S)
        on_progress(reduce(add, (part.progress for part in parts)))


class _Part:
    """One of the processes, as the first one sees it."""

    def __init__(
        self,
        context: SpawnContext,
        settings: LoadSettings,
        images: Sequence[PackedImage],
        indices: Sequence[int],
    ) -> None:
        self.progress = Progress(edges=len(indices), connected=len(indices))
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(theirs, settings, images, indices), daemon=True)
        self._process.start()
        theirs.close()
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._measured = False

    async def expect(self, kind: str) -> Any:
        """Take messages until one of this kind; returns what it carries. Raises what the process could not do."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(EOFError, OSError):
            while True:
                found, content = await loop.run_in_executor(self._reading, self._pipe.recv)
                self._measured = found == "measured"
                match found:
                    case "progress":
                        self.progress = content
                    case "failed":
                        raise content
                    case _ if found == kind:
                        return content
        await asyncio.to_thread(self._process.join, END_S)
        raise LamplightError(f"a process of the load generator ended by itself, exit code {self._process.exitcode}")

    def tell(self, kind: str, content: Any = None) -> None:
        with contextlib.suppress(OSError):
            self._pipe.send((kind, content))

    async def end(self) -> None:
        """No process is left behind: one that has measured ends by itself."""
        await asyncio.to_thread(self._process.join, END_S if self._measured else 0)
        if self._process.exitcode is None:
            self._process.kill()
            await asyncio.to_thread(self._process.join)
        self._reading.shutdown()
        self._pipe.close()


# --- in the other process ---


def _main(pipe: Connection, settings: LoadSettings, images: Sequence[PackedImage], indices: Sequence[int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of us: the first process tells
    process.configure_logging(settings.verbose)
    memory.tune_malloc()
    with quiet(settings.verbose):
        asyncio.run(_play(pipe, settings, images, indices))


async def _play(
    pipe: Connection, settings: LoadSettings, images: Sequence[PackedImage], indices: Sequence[int]
) -> None:
    loop = asyncio.get_running_loop()
    go: asyncio.Future[float] = loop.create_future()
    stop = asyncio.Event()

    def listen() -> None:
        while True:
            try:
                kind, content = pipe.recv()
            except (EOFError, OSError):
                os._exit(1)  # the first process is gone
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(*((go.set_result, content) if kind == "go" else (stop.set,)))

    threading.Thread(target=listen, name="listen", daemon=True).start()
    fleet = Fleet(settings, indices, images)
    try:
        await fleet.connect()
        pipe.send(("ready", None))
        showing = asyncio.create_task(_report(pipe, fleet))
        measured = await fleet.play(await go, stop)
        showing.cancel()
        await asyncio.to_thread(pipe.send, ("measured", measured))
    except (TransportError, SettingsError) as error:
        pipe.send(("failed", error))
    finally:
        await fleet.close()


async def _report(pipe: Connection, fleet: Fleet) -> None:
    while True:
        await asyncio.sleep(PROGRESS_S)
        pipe.send(("progress", fleet.progress()))
