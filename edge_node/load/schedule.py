"""When frames are meant to be sent, whatever becomes of them: an open loop."""

import random
from collections.abc import Iterator
from itertools import takewhile
from typing import NamedTuple

from common.frame import Priority
from edge_node.load.settings import Arrivals, LoadSettings, Weights

LEAD_IN = 100  # each edge enters the pattern of priorities at another place


class Arrival(NamedTuple):
    """A frame that is meant to be sent `due_s` seconds after the start."""

    due_s: float
    priority: Priority


def schedule(settings: LoadSettings, edge: int) -> Iterator[Arrival]:
    """An edge's arrivals in order of time; the same for the same seed, however edges are spread over processes."""
    rng = random.Random(f"{settings.traffic.seed}/{edge}")
    times = times_of(settings.traffic.arrivals, settings.fps, rng)
    mixed = map(Arrival, times, priorities(settings.weights, rng))
    return takewhile(lambda arrival: arrival.due_s < settings.end_s, mixed)


def times_of(arrivals: Arrivals, fps: float, rng: random.Random) -> Iterator[float]:
    """Seconds from the start, for ever; edges do not beat in step."""
    if arrivals is Arrivals.FIXED:
        phase = rng.random()
        number = 0
        while True:
            yield (number + phase) / fps
            number += 1
    now_s = 0.0
    while True:
        now_s += rng.expovariate(fps)
        yield now_s


def priorities(weights: Weights, rng: random.Random) -> Iterator[Priority]:
    """Priorities by weight, for ever: whoever is furthest behind its share goes next, so that counts stay exact."""
    total = sum(weights)
    shares = {priority: weight / total for priority, weight in zip(Priority, weights, strict=True)}
    earned = dict.fromkeys(Priority, 0.0)
    skipped = rng.randrange(LEAD_IN)
    while True:
        for priority, share in shares.items():
            earned[priority] += share
        chosen = max(earned, key=lambda priority: earned[priority])
        earned[chosen] -= 1.0
        if skipped:
            skipped -= 1
        else:
            yield chosen
