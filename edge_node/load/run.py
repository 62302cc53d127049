"""The load generator as a library: `await run(LoadSettings(source="photos/"))` gives a LoadReport."""

import asyncio
import time
from dataclasses import replace

from common.channel import with_port
from edge_node.exposure import check_cloud
from edge_node.load.fleet import Fleet, quiet, unless_stopped
from edge_node.load.images import load_images
from edge_node.load.records import Measured
from edge_node.load.report import LoadReport
from edge_node.load.settings import LoadSettings
from edge_node.load.spread import HEAD_START_S, PROGRESS_S, OnProgress, spread


async def run(
    settings: LoadSettings,
    *,
    stop: asyncio.Event | None = None,
    on_progress: OnProgress = lambda progress: None,
) -> LoadReport:
    """Connect the edges, send for `warm_up_s + duration_s`, wait for the answers, and say what was measured.

    It writes no files. Two loads may run at once under different `name`s. With `processes` above 1 the calling
    script needs its `if __name__ == "__main__"`.

    Args:
        stop: ends it early; what was measured until then is reported.
        on_progress: called about twice a second from the event loop.

    Raises:
        SourceError: the source cannot be read.
        TransportError: the cloud node or NATS cannot be reached at the start, or refused. Later they are waited for.
        SettingsError: there may not be so many connections; or frames would leave this machine in the clear.
        LamplightError: one of the processes died, or `stop` came before every edge was connected.
    """
    stop = stop or asyncio.Event()
    settings = replace(settings, cloud=with_port(settings.cloud))
    check_cloud(settings.cloud, settings.identity, settings.insecure)
    images = await asyncio.to_thread(load_images, settings.source, settings.frames.frames, settings.frame_size)
    started_unix_s = time.time()
    with quiet(settings.verbose):
        if settings.processes > 1:
            measured = await spread(settings, images, stop, on_progress)
        else:
            fleet = Fleet(settings, range(settings.edges), images)
            try:
                measured = await _play(fleet, stop, on_progress)
            finally:
                await fleet.close()
    return LoadReport.of(settings, measured, started_unix_s)


async def _play(fleet: Fleet, stop: asyncio.Event, on_progress: OnProgress) -> Measured:
    await unless_stopped(fleet.connect(), stop)
    playing = asyncio.create_task(fleet.play(time.monotonic() + HEAD_START_S, stop))
    try:
        while not (await asyncio.wait({playing}, timeout=PROGRESS_S))[0]:
            on_progress(fleet.progress())
        return playing.result()
    finally:
        playing.cancel()
