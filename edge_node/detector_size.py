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
ASPECT: Final = (
    16 / 9
)  # of frames whose size is not known: their longer side is bounded so that 16:9 has the shorter one
RATE: Final = 10.0  # frames a second where --fps does not say
SHARE: Final = 0.6  # of a frame's time that the detector may take where its text is read too
SHARE_ALONE: Final = 0.8  # where it is not: the rest of the node has work too
Size = tuple[int, int]  # width, height
TRIES: Final = 3  # the quickest counts: others may be at work beside it


class Side(int):
    """Pixels of a frame's shorter side, 1 or more, or `auto`, which is 0."""

    expected = "a whole number of 1 or more, or auto"

    def __new__(cls, given: "str | int") -> Self:
        if given == "auto":
            return super().__new__(cls, 0)
        if isinstance(given, float) or int(given) < 1:
            raise ValueError(f"{given} is not {cls.expected}")
        return super().__new__(cls, given)

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]  # for copy and pickle
        return (str(self),)

    def __str__(self) -> str:
        return str(int(self)) if self else "auto"


@dataclass(frozen=True, slots=True)
class Chosen:
    """A side and what was measured."""

    side: int
    taken_ms: dict[int, float]  # of one frame, by side, up to the first that took too long or failed
    limit_ms: float
    failure: str = ""  # why no larger side was tried; empty where none failed


def choose(measure: Callable[[int], float], limit_ms: float, sides: Sequence[int] = SIDES) -> Chosen:
    """The largest side whose frame takes at most `limit_ms`, else the smallest.

    measure: milliseconds of a frame at that side; asked from the smallest on, no further than the first over the limit,
        or the first for which it fails (memory).

    >>> choose(lambda side: side / 10, 70).side
    640
    """
    taken: dict[int, float] = {}
    failure = ""
    for side in sorted(sides):
        try:
            taken[side] = measure(side)
        except Exception as error:  # as of the inference engine, which has its own: a smaller one may do
            failure = f"{side} failed: {error}"
            break
        if taken[side] > limit_ms:
            break
    fitting = [side for side, ms in taken.items() if ms <= limit_ms]
    return Chosen(max(fitting, default=min(sides)), taken, limit_ms, failure)


def rate(fps: Iterable[float]) -> float:
    """Frames a second that cameras with these `--fps` bring together; one without any (0) counts as RATE."""
    return sum(each or RATE for each in fps)


def common_size(sizes: Iterable[Size | None]) -> Size | None:
    """The size of all cameras, where all were asked for the same."""
    known = set(sizes)
    return known.pop() if len(known) == 1 else None


def sides_for(size: Size | None) -> tuple[int, ...]:
    """SIDES as far as frames of this size get there: larger ones are neither measured nor ever needed."""
    most = SIDES[-1] if size is None else min(SIDES[-1], max(ENLARGED, min(size)))
    return (*(side for side in SIDES if side < most), most)


def fit(detector: "TextDetector", frames_per_s: float, share: float = SHARE, size: Size | None = None) -> Chosen:
    """Size a detector so that it keeps the rate: smaller frames are enlarged less, larger ones reduced.

    What is measured is the costliest frame that the bounds allow: of the cameras' shape, or a square where it is not
    known.

    Args:
        detector: with `limit_side` and `max_side`, which are changed; `max_side` never grows.
        frames_per_s: of all cameras together.
        share: of a frame's time that it may take, 0..1.
        size: of all cameras' frames, in pixels.
    """
    sized: Any = detector
    most, aspect = sized.max_side, max(size) / min(size) if size else ASPECT

    def at(side: int) -> None:
        sized.limit_side, sized.max_side = min(side, ENLARGED), min(most, round(side * aspect))

    def measure(side: int) -> float:
        at(side)
        longer = sized.max_side
        shape = (max(1, round(longer / aspect)) if size else longer, longer, 3)
        frame = np.random.default_rng(0).integers(0, 64, shape, np.uint8)
        return min(_ms(lambda: detector.detect(frame)) for _ in range(TRIES))

    chosen = choose(measure, 1000 * share / frames_per_s, sides_for(size))
    at(chosen.side)
    _tell(chosen, frames_per_s, sized.max_side)
    return chosen


def _tell(chosen: Chosen, frames_per_s: float, max_side: int) -> None:
    measured = ", ".join(f"{side}: {ms:.0f} ms" for side, ms in chosen.taken_ms.items()) or "an unknown time"
    why = f"a frame takes {measured}, and may take {chosen.limit_ms:.0f} ms at {frames_per_s:g} frames a second"
    if chosen.failure:
        log.warning("--detector-side auto: %d, as %s; %s", chosen.side, chosen.failure, why)
    elif chosen.taken_ms[chosen.side] > chosen.limit_ms:
        log.warning("--detector-side auto: %d is the least there is, and too slow; %s", chosen.side, why)
    else:
        log.info("--detector-side auto: %d, longer side at most %d; %s", chosen.side, max_side, why)


def _ms(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3
