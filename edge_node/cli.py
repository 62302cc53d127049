"""The commands of an edge node."""

import argparse
import asyncio
import functools
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from common import memory, process, telemetry
from common.channel import with_ports
from common.errors import RESTART_EXIT, SettingsError
from common.frame import Outcome, Route
from edge_node import cameras
from edge_node.exposure import check_exposure
from edge_node.settings import EdgeSettings

if TYPE_CHECKING:
    from edge_node.live.page import LivePage
    from edge_node.node import EdgeNode

DESCRIPTION = """Read text in the dark.

Takes frames from a camera, stream, file or folder, has a cloud node light them up,
finds the text in what comes back, and writes it down in DIR/readings.jsonl.

other commands, each with a --help of its own:
  check               what would work and what would not, and what to do: takes the flags below
  search, export      what was read
  spool               frames that are kept and not yet read
  trace               where a frame's time went
  listen              what edges publish on NATS
  enhance             one picture
  load                load on a cloud node, and how it holds up"""

EPILOG = """examples:
  python -m edge_node --camera 0
  python -m edge_node --camera 0 --camera 1 --source rtsp://10.0.0.7/stream --edge gate
  python -m edge_node --list-cameras
  python -m edge_node --source rtsp://user:password@10.0.0.7/stream --identity edge-17.bundle
  python -m edge_node --source night.mp4 --annotate --output out/
  python -m edge_node --source uploads/ --watch
  python -m edge_node --source photos/ --priority essential --result-format lossless
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 python -m edge_node --camera 0

Every flag can also be an environment variable (LAMPLIGHT_CLOUD=...) or a line of the
TOML file given with --config (cloud = ...; groups are tables: [sending]; each of
several cameras is a table [[camera]] with the same keys)."""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `python -m edge_node`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    process.run(lambda: _command(arguments))


def _command(arguments: Sequence[str]) -> int:
    match arguments:
        case ["enhance", *rest]:
            return enhance(rest)
        case ["load", *rest]:
            from edge_node.load.cli import load

            return load(rest)
        case ["check", *rest]:
            from edge_node.check.cli import command

            return command(rest)
        case ["spool", *rest]:
            from edge_node.spool.status import show

            return show(rest)
        case ["trace", *rest]:
            from edge_node.waterfall import trace

            return trace(rest)
        case ["search", *rest]:
            from edge_node.readings.command import search

            return search(rest)
        case ["export", *rest]:
            from edge_node.readings.export import export

            return export(rest)
        case ["listen", *rest]:
            from edge_node.listen import listen

            return listen(rest)
        case [word, *_] if not word.startswith("-"):
            raise SettingsError(f"there is no command '{word}' (--help names them); to read a file: --source {word}")
    return _watch(arguments)


def _watch(arguments: Sequence[str]) -> int:
    each = cameras.load(EdgeSettings, arguments, prog="python -m edge_node", description=DESCRIPTION, epilog=EPILOG)
    process.configure_logging(each[0].verbose, "lamplight-edge" if each[0].telling.log_json else "")
    if each[0].list_cameras:
        return list_cameras()
    for given in each:
        check_exposure(given)
    memory.tune_malloc(arenas=1, lean=True)  # few threads, few frames a second
    return asyncio.run(_run_each([replace(given, cloud=with_ports(given.cloud)) for given in each]))


async def _run_each(each: Sequence[EdgeSettings]) -> int:
    """A node for each camera; they share the detector, the terminal, the care for the machine and the signals."""
    from edge_node.care import Slowdown, cared_for
    from edge_node.detector_size import common_size, rate
    from edge_node.making import Shared, make_node
    from edge_node.metrics import measured
    from edge_node.reader import create_reader
    from edge_node.sinks import SharedSink, TerminalLine
    from edge_node.takeover import load_enhancer

    telling, slowdown, page = each[0].telling, Slowdown(), _page(each)
    line = TerminalLine(quiet=telling.log_json)
    last = line if len(each) == 1 else SharedSink(line)
    size = common_size(given.camera_size if given.camera is not None else None for given in each)
    shared = Shared(
        create_reader(each[0].reading, rate(given.fps for given in each), size),
        last,
        functools.cache(load_enhancer),
        slowdown,
        page,
    )
    nodes, failures = cameras.assembled(each, lambda given: make_node(given, shared))
    sampling = telemetry.Sampling.chosen(telling.trace_sample, telling.trace_slow_ms)
    telemetry.start("lamplight-edge", f"{nodes[0].settings.name}-{nodes[0].session}", sampling)
    stop = asyncio.Event()
    with process.stop_on_signals(stop):
        try:
            if page is not None:
                page.start({node.settings.name: node for node in nodes})
            summary = lambda: "; ".join(map(_summary, nodes))  # noqa: E731
            async with cared_for(nodes, each[0].care, slowdown, stop, summary) as care, measured(nodes, telling):
                await cameras.side_by_side(nodes, stop, failures)
        finally:
            line.close()
            if page is not None:
                await asyncio.to_thread(page.stop)
            await asyncio.to_thread(telemetry.stop)
            for node in nodes:
                _say(_summary(node), telling.log_json)
            if left := shared.reader.left_out:
                _say(f"{left} text regions were not read (--recognize-most)", telling.log_json)
    return RESTART_EXIT if care.wants_restart else 0


def _say(words: str, as_log: bool) -> None:
    """Last words, as a line of the log where that is JSON."""
    if as_log:
        logging.getLogger(__name__).warning("%s", words)
    else:
        print(f"lamplight: {words}", file=sys.stderr)


def _page(each: Sequence[EdgeSettings]) -> "LivePage | None":
    if not each[0].page.live:
        return None
    from edge_node.live.kept import Kept
    from edge_node.live.page import LivePage

    folders = [given.output.output for given in each if given.kept.keep_readings]
    return LivePage(each[0].page, Kept(folders) if folders else None)


def list_cameras() -> int:
    """`python -m edge_node --list-cameras`; exits with 3 where there is none to use."""
    from edge_node.sources.camera import list_cameras

    lines, usable = list_cameras()
    print("\n".join(lines))
    return 0 if usable else 3


def _summary(node: "EdgeNode") -> str:
    """What became of the frames, in a line."""
    from edge_node.sources.fused import FusedSource

    ledger = node.ledger
    parts = [f"{ledger.outcomes[outcome]} {outcome.name.lower().replace('_', ' ')}" for outcome in Outcome]
    counts = {
        "sent again": ledger.resent,
        "results came too late": ledger.late,
        "replaced by newer ones before they were sent": node.captured.dropped,
        "lit up on this device": ledger.paths[Route.EDGE],
        **{f"of these taken over ({reason})": count for reason, count in node.takeover.counts.items()},
        **{f"judged {verdict}": count for verdict, count in node.gate.counts.items() if verdict != "gate off"},
        **{f"not taken ({reason})": count for reason, count in node.selection.skipped.items()},
        "wait in the spool": len(node.backlog.keeping),
        **{what: node.backlog.keeping.counts[what] for what in ("not kept", "given up", "damaged")},
    }
    parts += [f"{count} {what}" for what, count in counts.items() if count]
    parts += node.source.status.words()
    if isinstance(node.source, FusedSource):
        parts.append(node.source.words())
    where = node.settings.output.output / "readings.jsonl"
    return f"{node.source.name}: frames: {', '.join(parts)}; readings are in {where}"


def enhance(argv: Sequence[str]) -> int:
    """`python -m edge_node enhance IN OUT`: one picture over the unary call."""
    from edge_node.client import Client

    parser = argparse.ArgumentParser(
        prog="python -m edge_node enhance", description="Have a cloud node enhance one picture."
    )
    parser.add_argument("source", type=Path, metavar="IN", help="an image file")
    parser.add_argument("target", type=Path, metavar="OUT", help="where to write the enhanced one")
    parser.add_argument("--cloud", default="", metavar="HOST[:PORT]", help="cloud node (default: localhost)")
    parser.add_argument("--identity", type=Path, metavar="FILE", help="bundle of an enrolled edge")
    parser.add_argument("--insecure", action="store_true", help="send it to another machine without TLS and --identity")
    given = parser.parse_args(argv)
    with Client(given.cloud, identity=given.identity, insecure=given.insecure) as client:
        lit = client.enhance(given.source)
    lit.save(given.target)
    print(f"{given.target}: {lit.model}, sharpness {lit.sharpness_before:.3f} to {lit.sharpness_after:.3f}")
    return 0
