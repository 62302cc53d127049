"""The commands of an edge node."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from common import memory, process, settings, telemetry
from common.channel import with_port
from common.frame import Outcome
from edge_node.settings import EdgeSettings

if TYPE_CHECKING:
    from edge_node.node import EdgeNode

DESCRIPTION = """Read text in the dark.

Takes frames from a camera, stream, file or folder, has a cloud node light them up,
finds the text in what comes back, and writes it down in DIR/readings.jsonl.
What works and what does not: `python -m edge_node check`, with the same flags; one picture:
`python -m edge_node enhance IN OUT`; load on a cloud node: `python -m edge_node load` (see their --help)."""

EPILOG = """examples:
  python -m edge_node --camera 0
  python -m edge_node --source rtsp://user:password@10.0.0.7/stream --cloud gpu-box:50051
  python -m edge_node --source night.mp4 --annotate --output out/
  python -m edge_node --source photos/ --priority essential --result-format lossless
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 python -m edge_node --camera 0

Every flag can also be an environment variable (LAMPLIGHT_CLOUD=...) or a line of the
TOML file given with --config (cloud = ...; groups are tables: [sending])."""


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
    return _watch(arguments)


def _watch(arguments: Sequence[str]) -> int:
    given = settings.load(EdgeSettings, arguments, prog="python -m edge_node", description=DESCRIPTION, epilog=EPILOG)
    process.configure_logging(given.verbose)
    memory.tune_malloc(arenas=2)  # few threads that are seldom at work together: 2 % less memory
    return asyncio.run(_run(replace(given, cloud=with_port(given.cloud))))


async def _run(given: EdgeSettings) -> int:
    from common.text_detection import create_detector
    from edge_node.care import RESTART_EXIT, cared_for
    from edge_node.node import EdgeNode
    from edge_node.reader import Reader
    from edge_node.sinks import AnnotatedImages, AnnotatedVideo, JsonLines, Sink, TerminalLine, WhileRoom
    from edge_node.sources import open_source

    reading, folder = given.reading, given.output.output
    detector = None
    if reading.detector != "none":
        detector = create_detector(
            reading.detector,
            threads=reading.detector_threads,
            limit_side=reading.detector_side,
            max_side=reading.detector_max_side,
        )
    source = open_source(given.camera, given.source, size=given.camera_size, loop=given.loop)
    total = min(filter(None, (source.total, given.limit)), default=None)
    sinks: list[Sink] = [JsonLines(folder / "readings.jsonl"), TerminalLine(total)]
    pictures: list[Sink] = []
    if given.output.annotate:
        pictures.append(AnnotatedImages(folder / "annotated"))
    if given.output.video:
        pictures.append(AnnotatedVideo(folder / "annotated.mp4", given.fps or 10.0))
    sinks += [WhileRoom(sink, folder, given.care.min_free_mib) for sink in pictures]

    reader = Reader(detector)
    node = EdgeNode(given, source, reader, sinks)
    telemetry.start("lamplight-edge", f"{given.name}-{node.session}")
    stop = asyncio.Event()
    with process.stop_on_signals(stop):
        try:
            async with cared_for(node, given.care, stop, lambda: _summary(node)) as care:
                await node.run(stop)
        finally:
            await asyncio.to_thread(telemetry.stop)
    print(f"lamplight: {_summary(node)}; readings are in {folder / 'readings.jsonl'}", file=sys.stderr)
    return RESTART_EXIT if care.wants_restart else 0


def _summary(node: "EdgeNode") -> str:
    """What became of the frames, in a line."""
    ledger = node.ledger
    parts = [f"{ledger.outcomes[outcome]} {outcome.name.lower()}" for outcome in Outcome]
    counts = {
        "sent again": ledger.resent,
        "results came too late": ledger.late,
        "replaced by newer ones before they were sent": node.captured.dropped,
    }
    return "frames: " + ", ".join(parts + [f"{count} {what}" for what, count in counts.items() if count])


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
