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
from common.frame import Outcome, Route
from edge_node import cameras
from edge_node.settings import EdgeSettings

if TYPE_CHECKING:
    from edge_node.care import Slowdown
    from edge_node.local_enhancer import LocalEnhancer
    from edge_node.node import EdgeNode
    from edge_node.reader import Reader
    from edge_node.sinks import Sink

DESCRIPTION = """Read text in the dark.

Takes frames from a camera, stream, file or folder, has a cloud node light them up,
finds the text in what comes back, and writes it down in DIR/readings.jsonl.
What works and what does not: `python -m edge_node check`, with the same flags; what is kept and not yet read:
`... spool`; where one frame's time went: `... trace`;
one picture: `... enhance IN OUT`; load on a cloud node: `... load` (see their --help)."""

EPILOG = """examples:
  python -m edge_node --camera 0
  python -m edge_node --camera 0 --camera 1 --source rtsp://10.0.0.7/stream --edge gate
  python -m edge_node --list-cameras
  python -m edge_node --source rtsp://user:password@10.0.0.7/stream --cloud gpu-box:50051
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
    return _watch(arguments)


def _watch(arguments: Sequence[str]) -> int:
    each = cameras.load(EdgeSettings, arguments, prog="python -m edge_node", description=DESCRIPTION, epilog=EPILOG)
    process.configure_logging(each[0].verbose, "lamplight-edge" if each[0].telling.log_json else "")
    if each[0].list_cameras:
        return list_cameras()
    memory.tune_malloc(arenas=2)  # few threads that are seldom at work together: 2 % less memory
    return asyncio.run(_run_each([replace(given, cloud=with_ports(given.cloud)) for given in each]))


async def _run_each(each: Sequence[EdgeSettings]) -> int:
    """A node for each camera; they share the detector, the terminal, the care for the machine and the signals."""
    from common.text_detection import create_detector
    from edge_node.care import RESTART_EXIT, Slowdown, cared_for
    from edge_node.metrics import measured
    from edge_node.reader import Reader
    from edge_node.sinks import SharedSink, TerminalLine
    from edge_node.takeover import load_enhancer

    reading, telling, slowdown = each[0].reading, each[0].telling, Slowdown()
    line = TerminalLine(quiet=telling.log_json)
    detector = None
    if reading.detector != "none":
        detector = create_detector(
            reading.detector,
            threads=reading.detector_threads,
            limit_side=reading.detector_side,
            max_side=reading.detector_max_side,
        )
    reader, last = Reader(detector), line if len(each) == 1 else SharedSink(line)
    enhancer = functools.cache(load_enhancer)
    nodes, failures = cameras.assembled(
        each, lambda given: _node(given, reader, last, enhancer(given.choosing.local), slowdown)
    )
    sampling = telemetry.Sampling.chosen(telling.trace_sample, telling.trace_slow_ms)
    telemetry.start("lamplight-edge", f"{nodes[0].settings.name}-{nodes[0].session}", sampling)
    stop = asyncio.Event()
    with process.stop_on_signals(stop):
        try:
            summary = lambda: "; ".join(map(_summary, nodes))  # noqa: E731
            async with cared_for(nodes, each[0].care, slowdown, stop, summary) as care, measured(nodes, telling):
                await cameras.side_by_side(nodes, stop, failures)
        finally:
            line.close()
            await asyncio.to_thread(telemetry.stop)
            for node in nodes:
                if telling.log_json:
                    logging.getLogger(__name__).warning("%s", _summary(node))
                else:
                    print(f"lamplight: {_summary(node)}", file=sys.stderr)
    return RESTART_EXIT if care.wants_restart else 0


def _node(
    given: EdgeSettings, reader: "Reader", line: "Sink", enhancer: "LocalEnhancer | None", slowdown: "Slowdown"
) -> "EdgeNode":
    from edge_node.node import EdgeNode
    from edge_node.sinks import AnnotatedImages, AnnotatedVideo, JsonLines, Sink, TerminalLine, WhileRoom
    from edge_node.sources import open_source
    from edge_node.sources.fused import fuse

    folder = given.output.output
    source = open_source(
        given.camera, given.source,
        size=given.camera_size, loop=given.loop, watch=given.watch, live=given.live,
        fps=given.fps * max(1, given.fusing.fuse), thin=given.fusing.fuse <= 1,
    )  # fmt: skip
    source = fuse(source, given.fusing.fuse)
    if isinstance(line, TerminalLine):
        line.total = min(filter(None, (source.total, given.limit)), default=None)
    pictures: list[Sink] = []
    if given.output.annotate:
        pictures.append(AnnotatedImages(folder / "annotated"))
    if given.output.video:
        pictures.append(AnnotatedVideo(folder / "annotated.mp4", given.fps or 10.0))
    bounded = (WhileRoom(sink, folder, given.care.min_free_mib) for sink in pictures)
    sinks = [JsonLines(folder / "readings.jsonl"), line, *bounded]
    return EdgeNode(given, source, reader, sinks, enhancer, slowdown=slowdown)


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
    parser.add_argument("--cloud", default="localhost", metavar="HOST[:PORT]", help="cloud node (default: localhost)")
    given = parser.parse_args(argv)
    with Client(given.cloud) as client:
        lit = client.enhance(given.source)
    lit.save(given.target)
    print(f"{given.target}: {lit.model}, sharpness {lit.sharpness_before:.3f} to {lit.sharpness_after:.3f}")
    return 0
