"""`python -m edge_node load`: load on a cloud node, and how it holds up."""

import asyncio
import importlib.util
import json
from collections.abc import Sequence

from rich.console import Console

from common import memory, process, settings
from common.errors import SourceError
from edge_node.load.plot import draw
from edge_node.load.progress import Display
from edge_node.load.report import LoadReport
from edge_node.load.run import run
from edge_node.load.settings import LoadSettings
from edge_node.load.show import console, tables

PROG = "python -m edge_node load"
CUT_OFF = 7  # exit code: the cloud node was away at the end

DESCRIPTION = """Put load on a cloud node, as many edges at once, and see how it holds up.

Frames come at their own times, whether or not the node keeps up, and a frame's latency
counts from the time it was meant to be sent until its result is there, waiting and all.
At the end: tables, DIR/load.json and DIR/load.png. Ctrl-C ends early and still reports."""

EPILOG = """examples:
  python -m edge_node load --edges 64 --fps 10 --priority-mix 10:60:30 --source photos/
  python -m edge_node load --edges 1000 --fps 0.1 --processes 2 --source street.jpg --size 640x360
  python -m edge_node load --source night.mp4 --arrivals poisson --deadline-ms 500 --cloud gpu-box --insecure

What the figures mean: docs/load.md."""


def load(argv: Sequence[str]) -> int:
    """The command; returns the exit code."""
    given = settings.load(LoadSettings, argv, prog=PROG, description=DESCRIPTION, epilog=EPILOG)
    process.configure_logging(given.verbose)
    memory.tune_malloc()
    try:
        given.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SourceError(f"cannot make the folder {given.output}: {error.strerror}") from None
    plots = importlib.util.find_spec("matplotlib") is not None
    news = console(stderr=True)
    if not plots:  # now, not after a long run
        news.print("there will be no load.png, for lack of matplotlib: pip install 'lamplight[load]'", markup=False)
    news.print(f"connecting {given.edges} edges to {given.cloud}", soft_wrap=True)
    report = asyncio.run(_run(given, news))
    console().print(tables(report))
    written = given.output / "load.json"
    try:
        written.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise SourceError(f"cannot write {written}: {error.strerror}") from None
    if plots:
        draw(report, given.output / "load.png")
    news.print(f"lamplight: written {written}{' and load.png beside it' if plots else ''}", soft_wrap=True)
    return CUT_OFF if report.connected_at_end < given.edges else 0


async def _run(given: LoadSettings, news: Console) -> LoadReport:
    stop = asyncio.Event()
    with process.stop_on_signals(stop), Display(given, news, stop) as display:
        return await run(given, stop=stop, on_progress=display)
