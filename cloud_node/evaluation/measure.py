"""Run every row over every picture, one at a time, and keep the figures of each."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import cv2
from tqdm import tqdm

from cloud_node.evaluation.cases import DETECTION, FIDELITY, MIXED_LIGHT, NATURALNESS, CaseSet, Picture
from cloud_node.evaluation.detection import count
from cloud_node.evaluation.metrics import psnr, ssim, to_reference_mean
from cloud_node.evaluation.mixed import mixed_light
from cloud_node.evaluation.niqe import Niqe
from cloud_node.evaluation.rows import BRIGHT, Row
from common.errors import ImageError, LamplightError
from common.pixels import Bytes
from common.text_detection import TextDetector

Figures = dict[str, Any]  # of one picture: found, right, truth, hits; psnr, ssim, ...; niqe; change, clipped, ...
Records = dict[str, dict[str, dict[str, Figures]]]  # set -> row -> picture -> figures
Done = Callable[[Records], None]
Keep = Callable[[str, int, str, Picture, Bytes], None]  # set, place, row, picture, output


@dataclass(frozen=True)
class Instruments:
    """What the figures are taken with."""

    detector: TextDetector
    niqe: Niqe | None = None  # without it NIQE is left out


def measure(sets: Sequence[CaseSet], rows: Sequence[Row], with_: Instruments, keep: Keep, done: Done) -> Records:
    """The figures of each row on each picture of each set. `keep` sees every output, for the picture grids;
    `done` gets the figures so far after every set, so that a later failure loses none of them.

    The bright twin, where there is one, is a row as well. Rows of the ablation run on the sets of Table 2 only.

    Raises:
        LamplightError: with row and picture, when a row fails, its output has another shape than its picture, or no
            figures can be taken of it; with what files raise.
    """
    records: Records = {}
    total = sum(len(cases.cases) for cases in sets)
    with tqdm(total=total, unit="picture") as progress:
        for cases in sets:
            progress.set_description(cases.name)
            for place, case in enumerate(cases.cases):
                picture = case.read()
                for row in rows:
                    if row.ablation and picture.bright is None:
                        continue
                    progress.set_postfix_str(row.name)
                    with _named(row.name, case.name):
                        output = row.apply(picture.low)
                        if output.shape != picture.low.shape:
                            raise ValueError(f"it made {output.shape} of {picture.low.shape}")
                        figures = take(picture, output, cases.measures, with_)
                    records.setdefault(cases.name, {}).setdefault(row.name, {})[case.name] = figures
                    keep(cases.name, place, row.name, picture, output)
                if picture.bright is not None:
                    measures = [measure for measure in cases.measures if measure != FIDELITY]
                    with _named(BRIGHT, case.name):
                        figures = take(picture, picture.bright, measures, with_)
                    records.setdefault(cases.name, {}).setdefault(BRIGHT, {})[case.name] = figures
                    keep(cases.name, place, BRIGHT, picture, picture.bright)
                progress.update()
            done(records)
    return records


def take(picture: Picture, output: Bytes, measures: Sequence[str], with_: Instruments) -> Figures:
    """The figures of one output; those that are no finite numbers (no structure, no lamp) are left out."""
    figures: Figures = {}
    if DETECTION in measures:
        figures |= asdict(count(with_.detector.detect(output), picture.truth))
    if FIDELITY in measures and picture.bright is not None:
        mended = to_reference_mean(output, picture.bright)
        figures |= {"psnr": psnr(output, picture.bright), "ssim": ssim(output, picture.bright)}
        figures |= {"psnr_gt_mean": psnr(mended, picture.bright), "ssim_gt_mean": ssim(mended, picture.bright)}
    if NATURALNESS in measures and with_.niqe is not None:
        figures["niqe"] = with_.niqe(output)
    if MIXED_LIGHT in measures:
        figures |= asdict(mixed_light(picture.low, output))
    return {name: value for name, value in figures.items() if not isinstance(value, float) or math.isfinite(value)}


@contextmanager
def _named(row: str, picture: str) -> Iterator[None]:
    """What goes wrong inside becomes a LamplightError that names row and picture."""
    try:
        yield
    except (ValueError, RuntimeError, cv2.error, ImageError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise LamplightError(
            f"row {row!r} failed on {picture}: {reason}; leave the row or the picture out and run again"
        ) from error
