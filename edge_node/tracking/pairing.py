"""What it costs to say that a piece of text known before is one found now."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edge_node.tracking.boxes import PATCH, Box, Floats, Vectors
from edge_node.tracking.texts import distance

MOST: Final = 14.0  # of a pair; costs are squared standard deviations and what weighs as much
LOOK_WEIGHT: Final = 4.0
LOOK_FALL: Final = 0.12  # of the likeness, below what is usual for it, that counts as one standard deviation
LEAST_FALL: Final = 0.06  # of a text that always looks the same
LOOK_LOOSE: Final = 0.25  # likeness that regions of other signs have more than what is exactly in a place
LOOK_MOST: Final = 16.0
NEAR: Final = 9.0  # squared standard deviations of a box's jitter
TEXT_MOST: Final = 20.0
TEXT_NOISE: Final = 0.12  # of the letters, that a reader is wrong about how sure it is
SUDDEN: Final = 6.0  # of a text that begins to move: most do not
STILL_THERE: Final = 0.5  # likeness of its place to before with which it cannot have begun to move
ALIKE: Final = 0.4  # likeness without which nothing that moved unforeseen, or was away for long, is the same
SAME_TEXT: Final = 0.34
OTHER_PART: Final = 0.8  # letters of a part that its line does not have there
STRICT: Final = 5.0  # of what was away for long and does not look the same
OTHER_LOOK: Final = 0.35  # fall of the likeness where it is no part of the line, nor the line of it
LEAST_SHOWN: Final = 8  # columns of a patch that tell something
INSIDE: Final = 0.7  # of the length of a part that is within its line

Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of one sight, at the moment of a frame."""

    box: Box
    off: float  # pixels that its place may be off, if it goes on as it did
    far: float  # and if it does not; 0 where that would be strange
    spot: Box  # where it was looked whether it is still there
    before: Vectors  # what was exactly at that spot, as a patch
    now: Vectors  # and what is
    there: float  # likeness of the two, -1..1
    usual: float  # which was so much in the frames before; 0 where not known yet
    spread: float  # and mean difference of single frames to that
    text: str
    confidence: float
    whole: bool  # not only its beginning or its end was seen
    strict: bool  # it was away for long, or the scene seems another: the place alone does not tell


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found in a frame."""

    box: Box
    text: str = ""
    confidence: float = 0.0


@dataclass(frozen=True, slots=True)
class Table:
    """Each known (rows) with each seen (columns)."""

    costs: Floats  # inf where out of the question
    inside: Flags  # what is seen is only a part of the known line: the detector split it
    around: Flags  # or the other way round: it joined what were two
    within: Flags  # it lies in the known line's place, whatever it looks like
    piece: Flags  # and may be a piece of it, as far as places and texts go
    misses: Floats  # (rows, columns, 2): how far, right and down, it was from where it was expected


def compare(known: Sequence[Expected], seen: Sequence[Seen], known_looks: Vectors, seen_looks: Vectors) -> Table:
    """known_looks, seen_looks: (rows, P) and (columns, P), of length 1 or 0."""
    rows, columns = len(known), len(seen)
    if not rows or not columns:
        empty = np.zeros((rows, columns))
        none = empty.astype(bool)
        return Table(empty, none, none, none, none, np.zeros((rows, columns, 2)))
    a, b = _array([one.box for one in known])[:, None], _array([one.box for one in seen])[None]
    off = np.array([one.off for one in known])[:, None]
    strict = np.array([one.strict for one in known])[:, None]
    dx, dy = b[..., 0] - a[..., 0], b[..., 1] - a[..., 1]
    along, across = dx * a[..., 2] + dy * a[..., 3], dy * a[..., 2] - dx * a[..., 3]
    cosine = np.abs(a[..., 2] * b[..., 2] + a[..., 3] * b[..., 3])
    sine = np.abs(a[..., 2] * b[..., 3] - a[..., 3] * b[..., 2])
    length, height = b[..., 4] * cosine + b[..., 5] * sine, b[..., 4] * sine + b[..., 5] * cosine  # along the known one
    sizes = _Sizes(a[..., 4], a[..., 5], length, height)
    longer, higher = np.maximum(a[..., 4], length), np.maximum(a[..., 5], height)
    ends, lines = 0.05 * longer + 0.3 * higher, 0.25 * higher
    place = along**2 / (ends**2 + off**2) + across**2 / (lines**2 + off**2)
    far = np.hypot(off, np.array([one.far for one in known])[:, None])
    sudden = along**2 / (ends**2 + far**2) + across**2 / (lines**2 + far**2) + SUDDEN
    there, usual = (np.array([value]).T for value in ([one.there for one in known], [one.usual for one in known]))
    place = np.where((far > off) & (there < STILL_THERE), np.minimum(place, sudden), place)
    still = (along / ends) ** 2 + (across / lines) ** 2
    size = (np.log(a[..., 5] / height) / 0.3) ** 2 + (np.log(a[..., 4] / length) / 0.4) ** 2
    look = known_looks @ seen_looks.T
    stays = still < NEAR  # what is found is where it was: so that looks the same
    shorter = length < a[..., 4]
    part = _parts(sizes, along, across, np.maximum(off, far / 2))
    there = np.repeat(there, columns, axis=1)
    for row, column in np.argwhere((stays | part) & shorter & (usual > 0) & (there < usual - LOOK_FALL)).tolist():
        start, end = along[row, column] - length[row, column] / 2, along[row, column] + length[row, column] / 2
        there[row, column] = _shown(known[row], start, end, there[row, column])
    unusual = np.clip(3 * np.array([[one.spread] for one in known]), LEAST_FALL, LOOK_FALL)
    fallen = stays & (usual > 0) & (there < usual - LOOK_FALL)
    for row in np.flatnonzero(fallen.any(axis=1)).tolist():
        there[row] = np.maximum(there[row], np.where(fallen[row], _half_shown(known[row]), -1.0))
    fall = np.where(stays, np.clip((usual - np.maximum(there, look - LOOK_LOOSE)) / unusual - 1, 0, None) ** 2, 0.0)
    look = np.where(stays, np.maximum(look, there), look)
    doubt = np.minimum(fall, LOOK_MOST) + np.where(strict & ((look < ALIKE) | ~stays), STRICT, 0.0)
    doubt = np.where((still > NEAR) & (look < ALIKE), np.inf, doubt)
    costs = place + size + LOOK_WEIGHT * (1 - look)
    within = (part & shorter) | ((np.abs(along) < 0.5 * a[..., 4]) & (np.abs(across) < 0.5 * a[..., 5]))
    lying, part = part, part & ((usual == 0) | (there > usual - OTHER_LOOK))
    for row, column in np.argwhere((costs < MOST + 1) | lying).tolist():
        one, other = known[row], seen[column]
        if one.text and other.text:
            edits = distance(one.text, other.text) if one.whole else part_distance(one.text, other.text)
            costs[row, column] += _text_cost(one, other, edits)
            if edits <= SAME_TEXT and len(one.text) >= 3:
                doubt[row, column] = 0.0
            if lying[row, column]:
                lying[row, column] = _within(one.text, other.text, OTHER_PART)
                part[row, column] = _within(one.text, other.text, OTHER_PART if part[row, column] else SAME_TEXT)
    costs += doubt
    return Table(costs, part & shorter, part & ~shorter, within, lying & shorter, np.stack([dx, dy], axis=-1))


@dataclass(frozen=True, slots=True)
class _Sizes:
    known_length: Floats
    known_height: Floats
    length: Floats
    height: Floats


def _shown(known: Expected, start: float, end: float, whole: float) -> float:
    """How alike before and now are from `start` to `end`, in pixels from its middle: something may hide the rest."""
    if abs(known.box.along[0]) < 0.9:
        return whole
    width, spot = PATCH[0], known.spot
    off, _ = known.box.local(spot.x - known.box.x, spot.y - known.box.y)
    left, right = (round((0.5 + (x - off) / spot.length) * width) for x in (start, end))
    shown = slice(max(left, 0), min(right, width))
    if shown.stop - shown.start < LEAST_SHOWN:
        return whole
    return _alike(*(patch.reshape(PATCH[::-1])[:, shown] for patch in (known.before, known.now)))


def _half_shown(known: Expected) -> float:
    """How alike before and now are in the upper or the lower half: something may hide the other."""
    if abs(known.box.along[0]) < 0.9:
        return -1.0
    middle = PATCH[1] // 2
    before, now = known.before.reshape(PATCH[::-1]), known.now.reshape(PATCH[::-1])
    return max(_alike(before[:middle], now[:middle]), _alike(before[middle:], now[middle:]))


def _alike(before: Vectors, now: Vectors) -> float:
    one, other = before - before.mean(), now - now.mean()
    return float((one * other).sum() / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-6))


def _within(one: str, other: str, most: float) -> bool:
    """Whether the shorter text may be a part of the other, at its beginning or its end."""
    short = min(len(one), len(other))
    return part_distance(one, other) <= most if short >= 3 else most == OTHER_PART


def part_distance(one: str, other: str) -> float:
    """`distance` of the shorter text to the beginning or the end of the other."""
    short, long = sorted((one, other), key=len)
    return min(distance(short, long[: len(short)]), distance(short, long[-len(short) :]))


def _text_cost(one: Expected, other: Seen, edits: float) -> float:
    """By how much more their letters differ than two readings of one text do."""
    wrong = 1 - _letters(one) * _letters(other)
    spread = math.sqrt(TEXT_NOISE**2 + wrong * (1 - wrong) / max(len(one.text), len(other.text)))
    score = max((edits - wrong - 0.03) / spread, -1.0)
    return min(score * abs(score), TEXT_MOST)


def _letters(read: Expected | Seen) -> float:
    """How likely a letter of it is right."""
    return float(max(read.confidence, 0.01) ** (1 / max(len(read.text), 1)))


def _parts(sizes: _Sizes, along: Floats, across: Floats, off: Floats) -> Flags:
    """Whether the shorter one is a piece of the longer one's line, and clearly shorter."""
    short, long = np.minimum(sizes.known_length, sizes.length), np.maximum(sizes.known_length, sizes.length)
    shared = np.clip((short + long) / 2 - np.abs(along), 0, short)
    height = np.maximum(sizes.known_height, sizes.height)
    on_line = np.abs(across) < 0.4 * height + 0.5 * np.minimum(off, height)
    alike = np.abs(np.log(sizes.known_height / sizes.height)) < np.log(1.7)
    found: Flags = (shared >= INSIDE * short) & (short < 0.85 * long) & on_line & alike
    return found


def _array(boxes: Sequence[Box]) -> Floats:
    """(N, 6): x, y, direction, length, height."""
    return np.array([(box.x, box.y, *box.along, box.length, box.height) for box in boxes], np.float64)
