"""How near alignment comes to the known shift, beside phase correlation and ECC; part of benchmarks/fusion.py."""

import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from bursts import Burst, burst, sheet_of

from cloud_node.evaluation.cases import DARKNESS, dark_receipts, read_image, thinned
from edge_node.alignment import find_shift
from edge_node.fusion import planes_of

SWAY = 3.0  # pixels


def measure_alignments(name: str, data: Path, limit: int) -> dict[str, Any]:
    """While the camera sways and the sheet moves; pairs of single frames."""
    cases, folder = thinned(dark_receipts(name, data).cases, limit), data / "receipts_sroie" / "images"
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for seed, case in enumerate(cases):
        bright, sheet = read_image(folder / case.name), sheet_of(read_image(folder / cases[seed - 1].name))
        scene = burst(bright, seed, DARKNESS[name], 6, sway_pixels=SWAY, sheet=sheet)
        for method, found in measure_alignment(scene).items():
            pairs[method] += found
    return {
        method: {
            "median error": round(float(np.median([error for error, _ in found])), 2),
            "largest error": round(max(error for error, _ in found), 2),
            "least ms": round(min(ms for _, ms in found), 1),
        }
        for method, found in pairs.items()
    }


def measure_alignment(scene: Burst) -> dict[str, list[tuple[float, float]]]:
    """Error in pixels and milliseconds of each pair of neighbours, by method."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for k in range(1, len(scene.frames)):
        one, other = (planes_of(scene.frames[i])[0] for i in (k - 1, k))
        true = scene.path[k] - scene.path[k - 1]
        for name, method in {"ours": find_shift, "phase correlation": phase_correlation, "ECC": ecc}.items():
            start = time.perf_counter()
            shift = np.array(method(one, other))
            taken = (time.perf_counter() - start) * 1e3
            found[name].append((float(np.abs(shift - true).max()), taken))
    return found


def binned(luma: np.ndarray, bins: int = 4) -> np.ndarray:
    size = (luma.shape[1] // bins, luma.shape[0] // bins)
    return cv2.resize(luma[: size[1] * bins, : size[0] * bins], size, interpolation=cv2.INTER_AREA).astype(np.float32)


def phase_correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = binned(one), binned(other)
    return np.array(cv2.phaseCorrelate(one, other, cv2.createHanningWindow(one.shape[::-1], cv2.CV_32F))[0]) * 4


def ecc(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    criteria, start = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 8, 1e-3), np.eye(2, 3, dtype=np.float32)
    try:
        _, matrix = cv2.findTransformECC(binned(one), binned(other), start, cv2.MOTION_TRANSLATION, criteria, None, 3)
    except cv2.error:  # it did not converge
        return np.zeros(2)
    return matrix[:, 2] * 4
