"""Several cameras in one process: a node for each, side by side."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from common.errors import LamplightError, SettingsError, SourceError
from common.settings import load_each
from edge_node.enrolled import enrolled
from edge_node.settings import NAME_LENGTH, EdgeSettings

if TYPE_CHECKING:
    from edge_node.node import EdgeNode

log = logging.getLogger(__name__)

S = TypeVar("S", bound=EdgeSettings)


def load(cls: type[S], argv: Sequence[str], *, prog: str = "", description: str = "", epilog: str = "") -> list[S]:
    """The settings of each camera: `--camera` and `--source` may be given several times, a TOML file may have a
    table [[camera]] for each.

    Raises:
        SettingsError: as `common.settings.load`.
    """
    given = load_each(
        cls, argv,
        repeated=("camera", "source"), array="camera", prog=prog, description=description, epilog=epilog,
    )  # fmt: skip
    return told_apart(enrolled(given))


def told_apart(each: Sequence[S]) -> list[S]:
    """Give several cameras names and folders of their own: NAME-0, NAME-1... where they share one name, and the
    folder OUTPUT/NAME for each. They never end because one is not there at the start; the size counts for those
    that can be asked for one, and only folders are watched.

    Raises:
        SettingsError: two have the same name all the same.
    """
    if len(each) == 1:
        return list(each)
    for part in ("reading", "care", "telling", "page", "verbose"):
        if any(getattr(one, part) != getattr(each[0], part) for one in each):
            raise SettingsError(f"[[camera]]: {part} is shared by all cameras: set it above the tables")
    shared = Counter(one.name for one in each)
    made = []
    for number, one in enumerate(each):
        name = one.name
        if shared[name] > 1:
            name = f"{name[: NAME_LENGTH - 1 - len(str(number))]}-{number}"
        what = one.camera or one.source or ""
        has_size = "://" not in what and (one.camera is not None or what.startswith(("/dev/", "lavfi:")))
        made.append(
            replace(
                one,
                edge=name,
                size=one.size if has_size else "",
                watch=one.watch and Path(what).expanduser().is_dir(),
                output=replace(one.output, output=one.output.output / name),
                live=replace(one.live, wait_for_source=True),
            )
        )
    twice = [name for name, count in Counter(one.name for one in made).items() if count > 1]
    if twice:
        raise SettingsError(f"two cameras have the name {twice[0]}: give each an `edge` of its own")
    return made


def assembled(
    each: Sequence[EdgeSettings], make: Callable[[EdgeSettings], "EdgeNode"]
) -> tuple[list["EdgeNode"], list[Exception]]:
    """A node for each camera; where there are several, one whose source cannot be is logged and left out.

    Raises:
        LamplightError: none can be.
    """
    nodes, failures = [], list[Exception]()
    for one in each:
        try:
            nodes.append(make(one))
        except SourceError as error:
            failures.append(error)
            if len(each) > 1:
                log.error("%s is left out: %s", one.name, error)
    if not nodes:
        raise failures[0]
    return nodes, failures


async def side_by_side(nodes: Sequence["EdgeNode"], stop: asyncio.Event, failures: Sequence[Exception] = ()) -> None:
    """Run nodes until all have ended; the failure of one is logged and does not end the others.

    Args:
        failures: of those that were left out.

    Raises:
        LamplightError: the first failure, once all have ended.
    """
    failed = list(failures)

    async def run(node: "EdgeNode") -> None:
        try:
            await node.run(stop)
        except Exception as error:
            failed.append(error)
            if len(nodes) > 1:
                known = isinstance(error, LamplightError)
                name = f"{node.settings.name} ({node.source.name})"
                log.error("%s has ended, the others go on: %s", name, error, exc_info=None if known else error)

    async with asyncio.TaskGroup() as group:
        for node in nodes:
            group.create_task(run(node))
    if failed:
        raise failed[0]
