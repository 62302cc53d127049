"""What an edge's bundle says instead of flags: its names, the cloud nodes, the NATS servers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from common.errors import SettingsError
from common.identity import identity_of
from edge_node.settings import DEFAULT_CLOUD, EdgeSettings

S = TypeVar("S", bound=EdgeSettings)


def enrolled(each: Sequence[S]) -> list[S]:
    """Settings of one or several cameras with what their bundle says; what was given by hand stays.

    Raises:
        SettingsError: the bundle cannot be used, or is not for an edge of that name.
    """
    made: list[S] = []
    for number, one in enumerate(each):
        identity = identity_of(one.identity)
        if identity is None:
            made.append(one)
            continue
        bundle = identity.bundle
        if not one.edge and number >= len(bundle.edges):
            raise SettingsError(
                f"{one.identity} has {len(bundle.edges)} names for {len(each)} cameras: enroll the edge with a name "
                "for each, as in `enroll gate-0,gate-1`"
            )
        edge = one.edge or bundle.edges[number]
        if edge not in bundle.edges:
            raise SettingsError(
                f"--edge {edge}: {one.identity} is of {' and '.join(bundle.edges)}; leave --edge out, or enroll {edge}"
            )
        cloud = ",".join(bundle.cloud) if one.cloud == DEFAULT_CLOUD and bundle.cloud else one.cloud
        made.append(replace(one, edge=edge, cloud=cloud, nats=one.nats or ",".join(bundle.nats)))
    return made
