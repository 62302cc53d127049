"""`python -m edge_node search`: kept readings in the terminal."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.errors import SettingsError
from common.printable import printable
from edge_node.readings.rows import Found, to_json
from edge_node.readings.store import Store, search_all, stores_in
from edge_node.readings.when import lasting, local, unix_ns

PROG = "python -m edge_node search"
NOTHING = 1  # exit code, as grep's
WIDTH = 140  # where there is no terminal to ask

DESCRIPTION = """Search what an edge node has read and kept.

Finds readings with all the words of TEXT in any order; case, accents and punctuation do not count. A word of three
letters and more is found anywhere, a shorter one where a word begins. The newest first; without TEXT the latest.
Ends with 0 when something was found, 1 when nothing was, 2 when there was trouble."""

EPILOG = """examples:
  python -m edge_node search exit
  python -m edge_node search 'B-AB 12' --since 2h --camera gate
  python -m edge_node search restaurant --fuzzy --since yesterday --until today
  python -m edge_node search --json --limit 1000 | jq -r .text"""


def search(argv: Sequence[str]) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog=PROG, description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", nargs="*", metavar="TEXT", help="words to find; without, the latest readings")
    add_window(parser)
    parser.add_argument("--fuzzy", action="store_true", help="also what may be it with reading errors: EX1T, comer")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (default: 50)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_args(argv)
    if given.limit < 1:
        raise SettingsError(f"--limit {given.limit}: at least 1")
    text = " ".join(given.text)
    stores = stores_in(given.output)
    found = search_all(stores, text, limit=given.limit, fuzzy=given.fuzzy, **window(given))
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else WIDTH, highlight=False)
    try:
        if given.json:
            for one in found:
                print(json.dumps(to_json(one), ensure_ascii=terminal))  # nothing that steers it
        elif found:
            console.print(table(found, several=len({one.edge for one in found}) > 1))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not found:
        print(f"lamplight: {_nothing(stores, text, given)}", file=sys.stderr)
    elif len(found) == given.limit and not given.json:
        print(f"lamplight: there may be more than these {given.limit}: --limit", file=sys.stderr)
    return 0 if found else NOTHING


def add_window(parser: argparse.ArgumentParser) -> None:
    """The flags that `search` and `export` share."""
    parser.add_argument("--since", metavar="WHEN", help="in sight after: 2h (ago), 3d, 14:30, yesterday, 2026-11-27")
    parser.add_argument("--until", metavar="WHEN", help="in sight before")
    parser.add_argument("--camera", default="", metavar="NAME", help="a part of the name of a camera, file or edge")
    parser.add_argument(
        "--output", type=Path, default=Path("readings"), metavar="DIR",
        help="folder that the edge node writes to (default: readings)",
    )  # fmt: skip


def window(given: argparse.Namespace) -> dict[str, Any]:
    """Those flags as arguments of a search. Raises SettingsError when they do not fit."""
    since = None if given.since is None else unix_ns(given.since, "--since")
    until = None if given.until is None else unix_ns(given.until, "--until")
    if since is not None and until is not None and since > until:
        raise SettingsError(f"--since {given.since} is after --until {given.until}")
    return {"since": since, "until": until, "camera": given.camera}


def table(found: Sequence[Found], several: bool) -> Table:
    """A row for each; with the edge where there are several."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("first seen", no_wrap=True)
    made.add_column("for", justify="right", no_wrap=True)
    for name in (*(["edge"] if several else []), "camera"):
        made.add_column(name, overflow="fold")
    made.add_column("text", overflow="fold", ratio=2)
    made.add_column("sure", justify="right", no_wrap=True)
    made.add_column("picture", overflow="fold", style="dim", ratio=3)
    for one in found:
        text = Text(printable(one.text))
        for span in one.spans:
            start, end = (len(printable(one.text[:place])) for place in span)  # what is escaped is longer
            text.stylize("bold green" if not one.cost else "bold yellow", start, end)
        picture = one.crop or one.picture
        made.add_row(
            local(one.first_unix_ns),
            lasting(one.last_unix_ns - one.first_unix_ns) if one.frames > 1 else "",
            *([Text(printable(one.edge))] if several else []),
            Text(printable(one.name)),
            text,
            f"{one.confidence:.0%}" if one.text else "",
            Text(printable(str(picture)), style=f"link {picture.absolute().as_uri()}") if picture else "",
        )
    return made


def _nothing(stores: Sequence[Store], text: str, given: argparse.Namespace) -> str:
    kept = sum(store.count() for store in stores)
    if not kept:
        return f"nothing is kept in {given.output} yet: texts are kept as soon as they are read"
    bounds = [f"--{name} {getattr(given, name)}" for name in ("since", "until", "camera") if getattr(given, name)]
    what = f"nothing found{f' for {text!r}' if text else ''}{f' with {chr(32).join(bounds)}' if bounds else ''}"
    tip = "; --fuzzy finds it with reading errors too" if text and not given.fuzzy else ""
    return f"{what} among {kept:,} readings{tip}"
