"""A fleet: edges in regions, cloud nodes that fail and come back, regions that take over from one another.

Nodes are simulated batch by batch (node.py), each at its share of its region's frames; what fails moves the load. To
keep a million edges within minutes, one node stands for all of its region, which are alike, and sees one node's frames.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import simpy
from node import Device, Node


@dataclass(frozen=True)
class Fleet:
    """`edges` in `regions` evenly, each sending `fps`; `spare` is the share of capacity kept free."""

    edges: int
    regions: int
    fps: float  # of one edge
    device: Device
    beside_s: float
    most_node_fps: float  # of one node, whatever its device
    spare: float = 0.3
    mix: tuple[float, float, float] = (0.1, 0.6, 0.3)
    region_hop_s: float = 0.08  # a round trip more, to another region

    @property
    def node_fps(self) -> float:
        """Sustained by one node."""
        return min(self.device.most_fps, self.most_node_fps)

    @property
    def nodes(self) -> int:
        """Of one region."""
        return math.ceil(self.edges * self.fps / self.regions / (self.node_fps * (1 - self.spare)))


@dataclass(frozen=True)
class Failure:
    """From `at_s` for `seconds` a share of a region's nodes is away (1 = the region)."""

    at_s: float
    seconds: float
    region: int
    share: float


@dataclass
class Region:
    """One of its nodes, and how many alike ones work."""

    name: int
    nodes: int
    node: Node
    working: int = 0
    arrivals_fps: float = 0.0  # of this node
    from_afar: float = 0.0  # the share of them that is another region's
    seconds: list[tuple[float, int, int]] = field(default_factory=list)  # (time, queue, frames so far)


def simulate(fleet: Fleet, failures: tuple[Failure, ...], seconds: float, seed: int = 0) -> list[Region]:
    """Frames of a node that fails are sent again to the others, after the edges' back-off of 0.2 to 0.7 s."""
    env, rng = simpy.Environment(), np.random.default_rng(seed)
    regions = [
        Region(name, fleet.nodes, Node(env, _bounded(fleet), fleet.beside_s), fleet.nodes)
        for name in range(fleet.regions)
    ]

    def share_out() -> None:
        """Each region's frames go to its nodes; those of a region that is gone to all others."""
        whole = fleet.edges * fleet.fps / fleet.regions
        gone = [region for region in regions if not region.working]
        left = [region for region in regions if region.working]
        for region in left:
            more = len(gone) / len(left)
            region.arrivals_fps = whole * (1 + more) / region.working
            region.from_afar = more / (1 + more)
        for region in gone:
            region.arrivals_fps = 0.0

    def arrivals(region: Region) -> Iterator[simpy.Event]:
        while True:
            if not region.arrivals_fps:
                yield env.timeout(0.1)
                continue
            yield env.timeout(rng.exponential(1 / region.arrivals_fps))
            if region.arrivals_fps:
                farther_s = fleet.region_hop_s if rng.random() < region.from_afar else 0.0
                region.node.offer(int(rng.choice(3, p=fleet.mix)), farther_s=farther_s)

    def watch(region: Region) -> Iterator[simpy.Event]:
        while True:
            yield env.timeout(1.0)
            done = sum(map(len, region.node.latencies.values()))
            region.seconds.append((env.now, region.node.queued, done))

    def fail(failure: Failure) -> Iterator[simpy.Event]:
        yield env.timeout(failure.at_s)
        region = regions[failure.region]
        lost = min(region.working, round(failure.share * region.nodes))
        region.working -= lost
        others = [region] if region.working else [other for other in regions if other is not region]
        # What the lost nodes held is sent again, half a batch in work on average: so much for each node that is left.
        failed_s, held = env.now, region.node.queued + fleet.device.most / 2
        again = held * lost / max(1, sum(other.working for other in others))
        if not region.working:
            for queue in region.node.waiting.values():
                queue.clear()
        yield env.timeout(rng.uniform(0.2, 0.7) + (0 if region.working else fleet.region_hop_s))
        share_out()
        for other in others:
            for _ in range(rng.poisson(again)):
                other.node.offer(int(rng.choice(3, p=fleet.mix)), failed_s, 0 if region.working else fleet.region_hop_s)
        yield env.timeout(failure.seconds)
        region.working += lost
        share_out()

    share_out()
    for region in regions:
        env.process(region.node.run())
        env.process(arrivals(region))
        env.process(watch(region))
    for failure in failures:
        env.process(fail(failure))
    env.run(until=seconds)
    return regions


def _bounded(fleet: Fleet) -> Device:
    """The device, no faster than the rest of its node."""
    least_s = 1 / fleet.most_node_fps
    times = (max(fleet.device.takes(n), n * least_s) for n in range(1, fleet.device.most + 1))
    return Device(tuple(times), fleet.device.most)
