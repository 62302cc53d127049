"""Run every row over every picture, one at a time, and keep the figures of each."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tqdm import tqdm

from cloud_node.evaluation.cases import DETECTION, FIDELITY, MIXED_LIGHT, NATURALNESS, CaseSet, Picture
from cloud_node.evaluation.detection import count
from cloud_node.evaluation.metrics import psnr, ssim, to_reference_mean
from cloud_node.evaluation.mixed import mixed_light
from cloud_node.evaluation.niqe import Niqe
from cloud_node.evaluation.rows import BRIGHT, Row
from common.errors import LamplightError
from common.pixels import Bytes
from common.text_detection import TextDetector

Figures = dict[str, Any]  # of one picture: found, right, truth, hits; psnr, ssim, ...; niqe; change, clipped, ...
Records = dict[str, dict[str, dict[str, Figures]]]  # set -> row -> picture -> figures
Keep = Callable[[str, int, str, Picture, Bytes], None]  # set, place, row, picture, output


@dataclass(frozen=True)
class Instruments:
    """What the figures are taken with."""

    detector: TextDetector
    niqe: Niqe | None = None  # without it NIQE is left out


def measure(sets: Sequence[CaseSet], rows: Sequence[Row], with_: Instruments, keep: Keep) -> Records:
    """The figures of each row on each picture of each set. `keep` sees every output, for the picture grids.

    The bright twin, where there is one, is a row as well. Rows of the ablation run on the sets of Table 2 only.

    Raises:
        LamplightError: when a row's output has another shape than its picture; with what rows and files raise.
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
                    output = row.apply(picture.low)
                    if output.shape != picture.low.shape:
                        raise LamplightError(
                            f"row {row.name!r} made {output.shape} of {picture.low.shape} ({case.name})"
                        )
                    figures = take(picture, output, cases.measures, with_)
                    records.setdefault(cases.name, {}).setdefault(row.name, {})[case.name] = figures
                    keep(cases.name, place, row.name, picture, output)
                if picture.bright is not None:
                    measures = [measure for measure in cases.measures if measure != FIDELITY]
                    figures = take(picture, picture.bright, measures, with_)
                    records.setdefault(cases.name, {}).setdefault(BRIGHT, {})[case.name] = figures
                    keep(cases.name, place, BRIGHT, picture, picture.bright)
                progress.update()
    return records


def take(picture: Picture, output: Bytes, measures: Sequence[str], with_: Instruments) -> Figures:
    """The figures of one output; those that are not numbers (no structure, no lamp) are left out."""
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
    return {name: value for name, value in figures.items() if not (isinstance(value, float) and math.isnan(value))}
