"""Which faults happen when: pure, and the same for the same seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# What can happen to whom, with how likely it is and how long it lasts, seconds.
KINDS: Final = {
    "edge": {"kill": (3, 0.5, 6), "cut": (4, 1, 20), "slow": (2, 5, 20), "pause": (1, 1, 12), "disk": (1, 5, 20),
             "skew": (1, 5, 30)},
    "cloud": {"kill": (4, 0.5, 8), "cut": (2, 1, 12), "pause": (2, 1, 12), "skew": (1, 5, 30)},
    "nats": {"kill": (4, 0.5, 8), "cut": (2, 1, 12), "pause": (2, 1, 12)},
}  # fmt: skip
LONG_CUT_S: Final = 60.0  # once, where there is time for it
GAP_S: Final = 0.5  # between two faults of one member
LARGEST_SKEW_S: Final = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong with one member, from `start_s` to `end_s` of the run."""

    start_s: float
    end_s: float
    kind: str
    member: str
    strength: float  # 0..1, what it means depends on the kind

    @property
    def skew_s(self) -> float:
        """By how much a clock is wrong: either way, seconds to hours."""
        size = LARGEST_SKEW_S ** abs(2 * self.strength - 1)
        return size if self.strength > 0.5 else -size

    def __str__(self) -> str:
        return f"{self.kind} {self.member} for {self.end_s - self.start_s:.1f} s"


def plan(seed: int, seconds: float, count: int, members: Sequence[str]) -> list[Fault]:
    """`count` faults spread over `seconds`, no two at once on one member; as many as fit, by their start.

    Args:
        members: names as "edge-1", "cloud-2", "nats-3"; what stands before the dash says what can happen.
    """
    dice = random.Random(seed)
    faults: list[Fault] = []
    if seconds >= 5 * LONG_CUT_S:
        edge = dice.choice([member for member in members if member.startswith("edge")])
        start = dice.uniform(0, seconds - 1.5 * LONG_CUT_S)
        faults.append(Fault(start, start + LONG_CUT_S, "cut", edge, 0.5))
    for number in range(20 * count):
        if len(faults) == count:
            break
        member = dice.choice(members)
        kinds = KINDS[member.partition("-")[0]]
        kind = dice.choices(list(kinds), [weight for weight, _, _ in kinds.values()])[0]
        _, least, most = kinds[kind]
        lasts = min(dice.uniform(least, most), seconds / 3)
        start = (number % count + dice.random()) / count * max(0.0, seconds - lasts)
        fault = Fault(round(start, 2), round(start + lasts, 2), kind, member, dice.random())
        if not any(_meet(fault, other) for other in faults):
            faults.append(fault)
    return sorted(faults, key=lambda fault: fault.start_s)


def _meet(one: Fault, other: Fault) -> bool:
    return one.member == other.member and one.start_s < other.end_s + GAP_S and other.start_s < one.end_s + GAP_S
