"""All checks: side by side where they do not disturb each other."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from edge_node.check.broker import check_broker
from edge_node.check.bundle import check_bundle
from edge_node.check.clock import check_ntp
from edge_node.check.cloud import check_cloud
from edge_node.check.disk import check_disk
from edge_node.check.finding import Finding, Group, Mark
from edge_node.check.host import check_host
from edge_node.check.models import check_models
from edge_node.check.sinks import check_sinks
from edge_node.check.source import check_source
from edge_node.settings import EdgeSettings
from lamplight.v1 import enhancement_pb2 as pb

GROUPS = ("source", "cloud", "nats", "sinks", "models", "disk", "clock", "machine")


async def check(each: Sequence[EdgeSettings]) -> list[Finding]:
    """Look at everything that nodes with these settings need, one for each camera. Each check has its time; none hangs.

    Opens a stream under the edge's name and closes it again, has the cloud node light up one small picture, and fetches
    no result: a node that runs meanwhile loses nothing.
    """
    given, groups = each[0], {name: Group(name) for name in GROUPS}
    check_bundle(given, groups["cloud"])
    check_ntp(groups["clock"])
    check_host(given, groups["machine"])
    await asyncio.gather(
        _sources(each, groups["source"]),
        _network(given, groups["cloud"], groups["nats"], groups["clock"]),
        check_disk(given, groups["disk"]),
        check_sinks(each, groups["sinks"]),
    )
    await check_models(given, groups["models"])  # alone: it wants the processors, and its times shall mean something
    return [finding for name in GROUPS for finding in groups[name].findings]


async def _sources(each: Sequence[EdgeSettings], found: Group) -> None:
    parts = [Group(found.name) for _ in each]
    await asyncio.gather(*map(check_source, each, parts))
    for given, part in zip(each, parts, strict=True):
        camera = f"{given.name}: " if len(each) > 1 else ""
        found.findings += [replace(item, value=camera + item.value) for item in part.findings]


async def _network(given: EdgeSettings, cloud: Group, nats: Group, clock: Group) -> None:
    """Every cloud node named, then NATS where the first of them says that results lie."""
    addresses = [address.strip() for address in given.cloud.split(",") if address.strip()]
    parts = [Group(cloud.name) for _ in addresses]
    found = await asyncio.gather(*(check_cloud(given, part, a) for part, a in zip(parts, addresses, strict=True)))
    works = [not any(finding.mark is Mark.FAIL for finding in part.findings) for part in parts]
    for part, address, fine in zip(parts, addresses, works, strict=True):
        cloud.findings += [_of_several(item, address, fine, any(works)) for item in part.findings]
    opened: pb.Opened | None = next((item for item in found if item is not None), None)
    await check_broker(given, nats, clock, opened)


def _of_several(finding: Finding, address: str, fine: bool, others_work: bool) -> Finding:
    """A cloud node that is away is no failure while another one works."""
    if not fine and others_work and finding.mark is Mark.FAIL:
        return replace(finding, mark=Mark.WARN)
    return finding
