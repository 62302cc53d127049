"""`python -m edge_node check`: the report, for people and for scripts."""

import asyncio
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from rich.console import Console
from rich.text import Text

from common import process
from common.channel import with_ports
from common.settings import option
from edge_node import cameras
from edge_node.check.finding import Finding, Mark
from edge_node.check.run import check
from edge_node.settings import EdgeSettings

FAILED = 1  # exit code
COLORS = {Mark.OK: "green", Mark.WARN: "yellow", Mark.FAIL: "bold red", Mark.SKIP: "dim"}

DESCRIPTION = """Tell what works and what does not, and what to do.

Takes the flags, variables and settings file of the node itself, so that it looks at just what the node
would use: source, cloud node, NATS, models, disk, clock, memory and temperature. It may run beside the
node, except for cameras that serve one program alone. Ends with 0 when the node would work, else 1."""

EPILOG = """examples:
  python -m edge_node check --camera 0 --identity edge-17.bundle
  python -m edge_node check --config /etc/lamplight/edge.toml --json | jq '.findings[] | select(.mark == "FAIL")'"""


@dataclass(frozen=True, slots=True)
class CheckSettings(EdgeSettings):
    """The node's, and how to report."""

    json: bool = option(False, "the report as JSON on standard output")


def command(argv: Sequence[str]) -> int:
    """The command; ends the process with its exit code."""
    prog = "python -m edge_node check"
    each = cameras.load(CheckSettings, argv, prog=prog, description=DESCRIPTION, epilog=EPILOG)
    process.configure_logging(each[0].verbose)
    asyncio.run(_report([replace(given, cloud=with_ports(given.cloud)) for given in each]))
    return 0


async def _report(each: Sequence[CheckSettings]) -> NoReturn:
    with Console(stderr=True).status("looking at source, cloud, NATS, disk, clock and models"):
        findings = await check(each)
    works = not any(finding.mark is Mark.FAIL for finding in findings)
    if each[0].json:
        print(json.dumps({"works": works, "findings": [to_json(finding) for finding in findings]}, indent=1))
    else:
        show(findings, Console())
    sys.stdout.flush()
    os._exit(0 if works else FAILED)  # a resolver or driver that hangs has a thread, which an exit would wait for


def to_json(finding: Finding) -> dict[str, object]:
    """A finding as the report has it: group, name, mark, value, advice, figures."""
    return {**dataclasses.asdict(finding), "mark": finding.mark.value}


def show(findings: Sequence[Finding], console: Console) -> None:
    """One line for each finding, with advice below it, and a line that sums them up."""
    for finding in findings:
        mark = (f"{finding.mark.value:<5}", COLORS[finding.mark])
        line = Text.assemble(mark, f"{finding.group:<8} {finding.name:<15} {finding.value}")
        console.print(line, soft_wrap=True, highlight=False)
        if finding.advice:
            console.print(Text(f"{'':<30}{finding.advice}", style="bold"), soft_wrap=True, highlight=False)
    count = {mark: sum(finding.mark is mark for finding in findings) for mark in Mark}
    verdict = "the node would not work" if count[Mark.FAIL] else "the node would work"
    numbers = f"{count[Mark.OK]} ok, {count[Mark.WARN]} warnings, {count[Mark.FAIL]} failures"
    console.print(f"{verdict}: {numbers}", highlight=False)
