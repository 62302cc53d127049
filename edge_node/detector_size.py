"""`--detector-side auto`: how large the detector may see frames on this device.

A size is measured once, as the models are loaded; a side given as a number is never measured.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

if TYPE_CHECKING:
    from common.text_detection import TextDetector

log = logging.getLogger(__name__)

SIDES: Final = (320, 480, 640, 960)  # of a frame's shorter side, as the network sees it
ENLARGED: Final = 480  # no frame is enlarged further: nothing more is found (docs/reading.md)
ASPECT: Final = 16 / 9  # of the frame that is measured; one that is less wide takes less
RATE: Final = 10.0  # frames a second where --fps does not say
SHARE: Final = 0.6  # of a frame's time that the detector may take where its text is read too
TRIES: Final = 3  # the quickest counts: others may be at work beside it


class Side(int):
    """Pixels of a frame's shorter side, or `auto` (0)."""

    expected = "a whole number, or auto"

    def __new__(cls, given: "str | int") -> Self:
        return super().__new__(cls, 0 if given == "auto" else given)

    def __str__(self) -> str:
        return str(int(self)) if self else "auto"


@dataclass(frozen=True, slots=True)
class Chosen:
    """A side of SIDES and what was measured."""

    side: int
    taken_ms: dict[int, float]  # of one frame, by side, up to the first that took too long
    limit_ms: float

    @property
    def is_full(self) -> bool:
        """Whether the largest fits, so that nothing has to be made smaller."""
        return self.side == SIDES[-1]


def choose(measure: Callable[[int], float], limit_ms: float, sides: Sequence[int] = SIDES) -> Chosen:
    """The largest side whose frame takes at most `limit_ms`, else the smallest.

    measure: milliseconds of a frame at that side; asked from the smallest on, no further than the first over the limit.

    >>> choose(lambda side: side / 10, 70).side
    640
    """
    taken: dict[int, float] = {}
    for side in sorted(sides):
        taken[side] = measure(side)
        if taken[side] > limit_ms:
            break
    fitting = [side for side, ms in taken.items() if ms <= limit_ms]
    return Chosen(max(fitting, default=min(sides)), taken, limit_ms)


def rate(fps: Iterable[float]) -> float:
    """Frames a second that cameras with these `--fps` bring together; one without any (0) counts as RATE."""
    return sum(each or RATE for each in fps)


def fit(detector: "TextDetector", frames_per_s: float, share: float = SHARE) -> Chosen:
    """Size a detector so that it keeps the rate: smaller frames are enlarged less, larger ones reduced.

    Where even the largest side fits, and so on a quick device, it is as it is by default.

    Args:
        detector: with `limit_side` and `max_side`, which are changed; `max_side` never grows.
        frames_per_s: of all cameras together.
        share: of a frame's time that it may take, 0..1.
    """
    sized: Any = detector
    most = sized.max_side

    def at(side: int) -> None:
        sized.limit_side, sized.max_side = min(side, ENLARGED), min(most, round(side * ASPECT))

    def measure(side: int) -> float:
        at(side)
        frame = np.random.default_rng(0).integers(0, 64, (side, round(side * ASPECT), 3), np.uint8)
        return min(_ms(lambda: detector.detect(frame)) for _ in range(TRIES))

    chosen = choose(measure, 1000 * share / frames_per_s, SIDES)
    at(chosen.side)
    if chosen.is_full:
        sized.limit_side, sized.max_side = ENLARGED, most
    _tell(chosen, frames_per_s, sized.max_side)
    return chosen


def _tell(chosen: Chosen, frames_per_s: float, max_side: int) -> None:
    measured = ", ".join(f"{side}: {ms:.0f} ms" for side, ms in chosen.taken_ms.items())
    why = f"a frame takes {measured}, and may take {chosen.limit_ms:.0f} ms at {frames_per_s:g} frames a second"
    if chosen.taken_ms[chosen.side] > chosen.limit_ms:
        log.warning("--detector-side auto: %d is the least there is, and too slow; %s", chosen.side, why)
    else:
        log.info("--detector-side auto: %d, longer side at most %d; %s", chosen.side, max_side, why)


def _ms(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3
