"""Figures of the demo: readings and truth go in, scores, times and sizes come out. Nothing here starts a process."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from common.errors import SourceError
from common.frame import Region
from common.polygons import match
from common.telemetry import STAGES
from deploy.demo.clip import Bytes, FrameTruth

WAITING = "waiting"  # the part of a frame's latency that no stage claims


@dataclass(frozen=True, slots=True)
class FrameReading:
    """One line of readings.jsonl, as far as the report needs it."""

    number: int  # of the frame in the clip, from 0
    sequence: int
    outcome: str
    reason: str
    model: str
    latency_ms: float
    stages_ms: dict[str, float]  # without parts of stages such as engine/enhance
    bytes_raw: int
    bytes_up: int
    bytes_down: int
    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """How much of the text was found, over all frames, at IoU 0.5."""

    matched: int
    found: int
    true: int

    @property
    def recall(self) -> float:
        return self.matched / self.true if self.true else float("nan")

    @property
    def precision(self) -> float:
        return self.matched / self.found if self.found else float("nan")

    def __add__(self, other: "Score") -> "Score":
        return Score(self.matched + other.matched, self.found + other.found, self.true + other.true)


@dataclass(frozen=True, slots=True)
class StageFigures:
    """Time in one stage: percentiles over the frames in ms, and its share of all frames' latency, 0..1."""

    name: str
    p50_ms: float
    p95_ms: float
    share: float


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of a frame on average: as RGB, as PNG, as the camera gave it, as sent, as it came back."""

    rgb: float
    png: float
    raw: float
    up: float
    down: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that the demo says in numbers."""

    frames: int  # in the clip
    outcomes: dict[str, int]  # of the frames that were read
    models: tuple[str, ...]
    dark: Score
    lit: Score
    stages: tuple[StageFigures, ...]
    latency: StageFigures
    sizes: Sizes

    @property
    def missing(self) -> int:
        """Frames without a reading."""
        return self.frames - sum(self.outcomes.values())

    @property
    def enhanced(self) -> int:
        return self.outcomes.get("enhanced", 0)


def load_readings(path: Path, count: int) -> tuple[FrameReading, ...]:
    """Readings of a clip of `count` frames, in the clip's order.

    Raises:
        SourceError: the file is missing or broken, speaks of a frame outside 0..count-1, or twice of one.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}; the edge node writes it") from None
    readings: dict[int, FrameReading] = {}
    for row, line in enumerate(lines, start=1):
        try:
            reading = _parse(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SourceError(f"{path}, line {row}: no reading of a clip ({error!r})") from None
        if not 0 <= reading.number < count:
            raise SourceError(f"{path}, line {row}: frame #{reading.number}, but the clip has #0 to #{count - 1}")
        if reading.number in readings:
            raise SourceError(f"{path}, line {row}: frame #{reading.number} was read twice")
        readings[reading.number] = reading
    return tuple(readings[number] for number in sorted(readings))


def _parse(line: dict[str, Any]) -> FrameReading:
    if line["schema"] != 1:
        raise ValueError(f"schema {line['schema']}, not 1")
    size = line["bytes"]
    return FrameReading(
        number=int(line["name"].rpartition("#")[2]),
        sequence=int(line["sequence"]),
        outcome=str(line["outcome"]),
        reason=str(line["reason"]),
        model=str(line["model"]),
        latency_ms=float(line["latency_ms"]),
        stages_ms={name: float(ms) for name, ms in line["stages_ms"].items() if "/" not in name},
        bytes_raw=int(size["raw"]),
        bytes_up=int(size["up"]),
        bytes_down=int(size["down"]),
        regions=tuple(
            Region(tuple((float(x), float(y)) for x, y in region["polygon"]), float(region["score"]))
            for region in line["regions"]
        ),
    )


def score(found: Sequence[Region], truth: FrameTruth) -> Score:
    """Compare what was found in one frame with what is there."""
    return Score(len(match(found, truth.outlines)), len(found), len(truth.outlines))


def figures(
    readings: Sequence[FrameReading],
    truth: Sequence[FrameTruth],
    dark_regions: Sequence[Sequence[Region]],
    dark_frames: Sequence[Bytes],
) -> Figures:
    """All figures. `dark_regions` and `dark_frames` are of every frame of the clip; a frame that was not
    enhanced counts as one in which nothing was found.

    Raises:
        SourceError: there is no frame to speak of, or the sequences do not belong together.
    """
    if not len(truth) == len(dark_regions) == len(dark_frames):
        raise SourceError(f"{len(dark_frames)} frames, {len(dark_regions)} searched, but the truth of {len(truth)}")
    enhanced = [reading for reading in readings if reading.outcome == "enhanced"]
    if not enhanced:
        raise SourceError("no frame was enhanced: there is nothing to report")
    regions = {reading.number: reading.regions for reading in enhanced}
    nothing = Score(0, 0, 0)
    return Figures(
        frames=len(truth),
        outcomes=dict(Counter(reading.outcome for reading in readings)),
        models=tuple(sorted({reading.model for reading in enhanced})),
        dark=sum((score(found, true) for found, true in zip(dark_regions, truth, strict=True)), nothing),
        lit=sum((score(regions.get(number, ()), true) for number, true in enumerate(truth)), nothing),
        stages=stage_figures(enhanced),
        latency=_summary("latency", [reading.latency_ms for reading in enhanced], 1.0),
        sizes=_sizes(enhanced, dark_frames),
    )


def stage_names(readings: Sequence[FrameReading]) -> list[str]:
    """Stages that occur, in the order of the walk, unknown ones after them, waiting last."""
    seen = {name for reading in readings for name in reading.stages_ms}
    known = [name for name in STAGES if name in seen]
    return [*known, *sorted(seen - set(known)), WAITING]


def stage_times(reading: FrameReading) -> dict[str, float]:
    """Milliseconds of one frame by stage, with the time between them as `waiting`."""
    return reading.stages_ms | {WAITING: max(0.0, reading.latency_ms - sum(reading.stages_ms.values()))}


def stage_figures(readings: Sequence[FrameReading]) -> tuple[StageFigures, ...]:
    """Percentiles and shares by stage; a stage that a frame did not pass took no time."""
    times = [stage_times(reading) for reading in readings]
    total = sum(sum(spent.values()) for spent in times)
    return tuple(
        _summary(name, spent, sum(spent) / total if total else 0.0)
        for name in stage_names(readings)
        if sum(spent := [frame.get(name, 0.0) for frame in times]) > 0
    )


def _summary(name: str, times_ms: Sequence[float], share: float) -> StageFigures:
    p50, p95 = np.percentile(times_ms, [50, 95])
    return StageFigures(name, float(p50), float(p95), share)


def _sizes(readings: Sequence[FrameReading], dark_frames: Sequence[Bytes]) -> Sizes:
    shown = [dark_frames[reading.number] for reading in readings]
    return Sizes(
        rgb=float(np.mean([frame.nbytes for frame in shown])),
        png=float(np.mean([png_bytes(frame) for frame in shown])),
        raw=float(np.mean([reading.bytes_raw for reading in readings])),
        up=float(np.mean([reading.bytes_up for reading in readings])),
        down=float(np.mean([reading.bytes_down for reading in readings])),
    )


def png_bytes(rgb: Bytes) -> int:
    """Size of an (H, W, 3) uint8 RGB image as PNG, level 1."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return int(encoded.size)
