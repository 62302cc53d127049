"""The commands of a cloud node."""

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cloud_node.settings import CloudSettings
from common import memory, process, settings, telemetry
from common.systemd import Notifier, report

if TYPE_CHECKING:
    from cloud_node.node import CloudNode

DESCRIPTION = """Light up the dark frames of edge nodes.

Frames come in over gRPC, are batched by priority and enhanced with LAE-GAN, and the
results are published over NATS.

other commands, each with a --help of its own:
  enroll              let edges on other machines in, and out
  enhance             light up files on this machine
  archive             light up millions of them
  alive               whether the node on this machine is alive, for containers"""

EPILOG = """examples:
  python -m cloud_node                        first GPU, else the CPU; own NATS server
  python -m cloud_node --gpus 0,1 --host 0.0.0.0 --identity authority/node
  python -m cloud_node --preset fast,edge --policy policy.toml --http 8080
  kill -HUP PID                               read policy and weights again
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 python -m cloud_node

Every flag can also be an environment variable (LAMPLIGHT_PORT=...) or a line of the
TOML file given with --config (port = ...; groups are tables: [batch])."""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `python -m cloud_node`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    process.run(lambda: _command(arguments))


def _command(arguments: Sequence[str]) -> int:
    match arguments:
        case ["enhance", *rest]:
            from cloud_node import enhance

            return enhance.run(rest)
        case ["alive", *rest]:
            from cloud_node import alive

            return alive.run(rest)
        case ["archive", *rest]:
            from cloud_node.archive import cli

            return cli.run(rest)
        case ["enroll", *rest]:
            from cloud_node.identity.cli import run

            return run(rest)
    return _serve(arguments)


def _serve(arguments: Sequence[str]) -> int:
    given = settings.load(CloudSettings, arguments, prog="python -m cloud_node", description=DESCRIPTION, epilog=EPILOG)
    process.configure_logging(given.verbose, "lamplight-cloud" if given.telling.log_json else "")
    memory.tune_malloc()
    return asyncio.run(_live(given))


async def _live(given: CloudSettings) -> int:
    from cloud_node.node import CloudNode

    node = CloudNode(given)
    telemetry.start("lamplight-cloud", node.name, telemetry.Sampling.chosen(None, given.telling.trace_slow_ms))
    stop = asyncio.Event()
    telling = asyncio.create_task(_tell_systemd(node, stop), name="systemd")
    with process.stop_on_signals(stop), process.on_hangup(node.reload):
        try:
            await node.start()
            await node.serve(stop)
        finally:
            await node.drain()
            telling.cancel()
            await asyncio.to_thread(telemetry.stop)
    return 0


async def _tell_systemd(node: "CloudNode", stop: asyncio.Event) -> None:
    """Alive is an event loop that turns: of a device that hangs the supervisor takes care."""

    def status() -> str:
        if reason := node.unready():
            return reason
        state = node.status()
        return f"ready on {node.address}; {state['edges']} edges, {state['queued']['frames']} frames wait"

    await report(Notifier(), stop, ready=lambda: not node.unready(), stuck=lambda limit_s: "", status=status)
