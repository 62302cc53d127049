"""`python -m edge_node listen --nats URL`: readings and alerts of all edges, as they come."""

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from nats import errors as nats_errors
from nats.aio.msg import Msg

from common import process
from common.errors import SettingsError
from common.identity import read_private, trusting
from common.nats_connection import Connection, Login
from common.printable import printable
from common.subjects import check_edge
from common.tasks import end_tasks
from edge_node.sinks.addresses import check_nats
from edge_node.sinks.nats_subject import ALERTS, READINGS


def listen(argv: Sequence[str]) -> int:
    """Print until stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m edge_node listen",
        description="Print what edges publish with --readings-nats and --alert-nats, as it comes.",
    )
    parser.add_argument("--nats", required=True, metavar="URL", help="the NATS server that they publish to")
    parser.add_argument(
        "--identity", type=Path, metavar="DIR", help="folder node/ of the authority, where edges are enrolled"
    )
    parser.add_argument("--edge", default="*", metavar="NAME", help="of this edge alone")
    parser.add_argument("--alerts", action="store_true", help="alerts alone")
    parser.add_argument("--json", action="store_true", help="as it is sent, a line each")
    given = parser.parse_args(argv)
    try:
        check_nats(given.nats, "--nats")
    except ValueError as error:
        raise SettingsError(str(error)) from None
    edge = given.edge if given.edge == "*" else check_edge(given.edge)
    subjects = [f"{ALERTS}.{edge}"] if given.alerts else [f"{READINGS}.{edge}", f"{ALERTS}.{edge}"]
    process.configure_logging(verbose=False)
    login = None if given.identity is None else partial(_login, given.identity)
    asyncio.run(_listen(Connection(given.nats, name="listen", login=login), subjects, given.json))
    return 0


def _login(node: Path) -> Login:
    """The cloud nodes' own. Raises SettingsError."""
    try:
        credentials = str(json.loads(read_private(node / "logins.json"))["results"])
    except (ValueError, KeyError, TypeError):
        raise SettingsError(f"--identity {node}: not the folder node/ that `enroll --init` makes") from None
    return Login(credentials, trusting(read_private(node / "ca.crt")))


async def _listen(nats: Connection, subjects: Sequence[str], as_json: bool) -> None:
    stop = asyncio.Event()

    async def show(message: Msg) -> None:
        try:
            print((in_json if as_json else in_words)(message.data), flush=True)
        except OSError:  # whoever read along has gone
            stop.set()

    nats.start()
    with process.stop_on_signals(stop):
        following = asyncio.create_task(_follow(nats, subjects, show))
        try:
            await stop.wait()
        finally:
            await end_tasks([following])
            await nats.close()


async def _follow(nats: Connection, subjects: Sequence[str], show: Callable[[Msg], Awaitable[None]]) -> None:
    """Subscribe on each new connection."""
    while True:
        client = await nats.wait()
        with contextlib.suppress(nats_errors.Error, OSError):
            for subject in subjects:
                await client.subscribe(subject, cb=show)
            await client.flush()
            print(f"lamplight: listening to {', '.join(subjects)} at {nats.address}", file=sys.stderr, flush=True)
        while client.is_connected:
            await asyncio.sleep(0.2)


def in_json(data: bytes) -> str:
    """A message as JSON that is safe to print."""
    try:
        return json.dumps(json.loads(data))
    except ValueError:
        return json.dumps({"event": "unknown", "text": data.decode(errors="replace")})


def in_words(data: bytes) -> str:
    """A message as a line to read; what is no message of ours is shown as it came, made safe.

    >>> in_words(b'hello\\x1b')
    '?        hello\\\\x1b'
    """
    try:
        told = json.loads(data)
        sight = told["sight"]
        moment = datetime.fromtimestamp(sight["last_unix_ns"] / 1e9).strftime("%H:%M:%S")
        what = f"ALERT {told['alert']}" if told["event"] == "alert" else told["event"]
        text = sight["text"] or "(not recognised)"
        line = f"{moment} {sight['edge']:12} {what:8} {text}  {sight['confidence']:.2f}, {sight['frames']} frames"
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError):
        line = f"?        {data[:200].decode(errors='replace')}"
    return printable(line)
