"""Stepping down: what is given up, one step at a time, when the link cannot carry lossless frames in time.

Pure: rates, sizes and latencies come in, the step for the next frame goes out.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from common import packing
from common.frame import Priority
from common.packing import PackedImage
from common.pixels import RawImage
from edge_node.settings import OFF, EdgeSettings
from edge_node.smaller import smaller


class Measure(Enum):
    """What may be given up."""

    BOUNDED = "bounded"  # samples off by 1, then 2
    SIZE = "size"  # three quarters of each side, then half
    RATE = "rate"  # every second frame, then every fourth


@dataclass(frozen=True, slots=True)
class Step:
    """How frames are sent."""

    max_error: int = 0  # of a sample
    scale: float = 1.0  # of each side
    every: int = 1  # frames of which one is sent
    share: float = 1.0  # of the lossless bytes; a guess until frames were sent so

    def __str__(self) -> str:
        parts = [f"error {self.max_error}"] if self.max_error else []
        parts += [f"size {self.scale:g}"] if self.scale < 1 else []
        parts += [f"1 of {self.every}"] if self.every > 1 else []
        return ", ".join(parts) or "lossless"


MAX_ERRORS: Final = ((1, 0.6), (2, 0.45))  # and the share of the bytes that is left
SCALES: Final = (0.75, 0.5)
EVERY: Final = (2, 4)
DOWN_AFTER: Final = 2  # frames in a row that are late
UP_AFTER: Final = 5  # for which a better step would do
AT_ONCE: Final = 1.5  # times what there is time for, on the link alone: one frame is enough
ROOM: Final = 0.8  # of the time, in which a better step must fit before it is taken
OF_DEADLINE: Final = 0.8  # is planned for: latencies vary


def ladder(allowed: Collection[Measure]) -> tuple[Step, ...]:
    """From lossless down to the least that is allowed."""
    steps = [Step()]
    if Measure.BOUNDED in allowed:
        steps += [Step(error, share=share) for error, share in MAX_ERRORS]
    last = steps[-1]
    if Measure.SIZE in allowed:
        steps += [Step(last.max_error, scale, share=last.share * scale**2) for scale in SCALES]
    last = steps[-1]
    if Measure.RATE in allowed:
        steps += [Step(last.max_error, last.scale, every, last.share) for every in EVERY]
    return tuple(steps)


def pack(image: RawImage, step: Step) -> PackedImage:
    """A frame as this step sends it; safe from any thread."""
    return packing.pack(smaller(image, step.scale), step.max_error)


@dataclass(slots=True)
class Stepper:
    """Which step the next frame takes.

    A frame has `budget_s`: until its deadline, or, when `paced`, until the next frame comes. It is expected to take its
    bytes over the link's rate, and with a deadline what latency had beside that lately.
    """

    steps: tuple[Step, ...]
    budget_s: float
    paced: bool = False
    at: int = 0
    _lossless_bytes: float = 0.0
    _shares: dict[int, float] = field(default_factory=dict)  # learnt
    _beside_s: float = 0.0
    _late: int = 0
    _early: int = 0
    _taken: int = 0

    @property
    def step(self) -> Step:
        return self.steps[self.at]

    def expected_s(self, at: int, rate: float) -> float:
        """Seconds that a frame of this step takes, as a share of the frames that are sent."""
        size = self._lossless_bytes * self._shares.get(at, self.steps[at].share)
        if self.paced:
            return size / rate / self.steps[at].every
        return size / rate + self._beside_s

    def choose(self, rate: float) -> Step:
        """The step of the next frame, one beside the last one's at most.

        Args:
            rate: bytes/s of the link; 0 = not known yet.
        """
        if not rate or not self._lossless_bytes:
            return self.step
        expected_s = self.expected_s(self.at, rate)
        self._late = self._late + 1 if expected_s > self.budget_s else 0
        better = self.at > 0 and self.expected_s(self.at - 1, rate) < ROOM * self.budget_s
        self._early = self._early + 1 if better else 0
        last = len(self.steps) - 1
        hopeless = self._late and expected_s - self._beside_s > AT_ONCE * self.budget_s
        if self.at < last and (self._late >= DOWN_AFTER or hopeless):
            self._move(1)
        elif self._early >= UP_AFTER:
            self._move(-1)
        return self.step

    def _move(self, by: int) -> None:
        self.at += by
        self._late = self._early = 0

    def packed(self, step: Step, size: int) -> None:
        """A frame of this step has so many bytes."""
        at = self.steps.index(step)
        if at == 0:
            self._lossless_bytes = size if not self._lossless_bytes else 0.75 * self._lossless_bytes + 0.25 * size
        elif self._lossless_bytes:
            # What a scene's lossless bytes would be is not known any more: the guess of the share stands for the
            # change of scene and of share alike.
            share = self._shares.get(at)
            if share is None:
                self._shares[at] = size / self._lossless_bytes
            else:
                self._lossless_bytes = 0.75 * self._lossless_bytes + 0.25 * size / share

    def arrived(self, latency_s: float, size: int, rate: float) -> None:
        """The result of a frame of `size` bytes came so long after its capture."""
        if rate:
            beside_s = min(max(0.0, latency_s - size / rate), 2 * self.budget_s)  # one outage must not count for long
            self._beside_s += (0.2 if beside_s > self._beside_s else 0.5) * (beside_s - self._beside_s)

    def skips(self) -> bool:
        """Whether the next frame of the source is one of those that are left out."""
        self._taken += 1
        return self._taken % self.step.every != 0


def stepper_for(settings: EdgeSettings, live: bool) -> Stepper:
    """The rules that the user gave. It stays at lossless where nothing is in a hurry, or nothing may be given up."""
    rules, sending = settings.stepping, settings.sending
    allowed = {Measure(name) for name in rules.step_down if name != OFF}
    if sending.priority is Priority.ESSENTIAL and not rules.step_down_essential:
        allowed = set()
    if sending.deadline_ms:
        return Stepper(ladder(allowed - {Measure.RATE}), OF_DEADLINE * sending.deadline_ms / 1000)
    if live and settings.fps:
        return Stepper(ladder(allowed), 1 / settings.fps, paced=True)
    return Stepper(ladder(()), float("inf"))
