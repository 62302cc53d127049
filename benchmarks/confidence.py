"""Fits the confidence of recognised text, and measures how reliable it is on receipts that the fit did not see.

    python benchmarks/confidence.py --data DATA [--cache FOLDER]     # receipts_sroie under DATA
    python benchmarks/confidence.py --data DATA --chosen             # fits WEIGHTS_CHOSEN alone
    python benchmarks/confidence.py --data DATA --limit 10 --recognizer dark     # fits WEIGHTS_TAUGHT alone

Fit: receipts that training saw, in 8 to 20 and 40 to 120 times less light and lit by `fast`, and as scanned.
Measured: held-out receipts, dark (as the camera has them), lit, lit after fusion of eight frames, and bright. A text is
right when all its letters are, case and spaces apart. Prints WEIGHTS for common/text_confidence.py and writes
benchmarks/results/confidence.json and a plot: expected calibration error (ten bins of equal width) of the recogniser's
own score and of the confidence, with 95 % bootstrap intervals over receipts.

WEIGHTS_CHOSEN are of texts that a prior chose (`--recognize-like`): fitted on training receipts, lit, with a prior of
those that are not among them.

WEIGHTS_TAUGHT are of what the taught recogniser reads with its own weights. They are fitted on receipts that its
training left out, lit and bright, and measured on held-out ones, as a node reads them.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from reading_scenes import AGAIN, BRIGHT, DARK, FUSED, LIT, Scenes, progress
from reading_truth import Pipeline, Reader, Remembering, labelled
from text_prior import lines

from cloud_node.training.recognizer.pages import LEFT_OUT
from common.text_confidence import FEATURES, WEIGHTS, chosen_features, features
from common.text_prior import TextPrior, grams_of

RESULTS = Path(__file__).resolve().parent / "results" / "confidence"
BINS = 10
RIDGE = 1.0  # on the weights, the bias apart: a prior worth about one text


def collect(scenes: Scenes, pipeline: Pipeline) -> dict[str, dict[str, list[tuple[list[float], float, bool]]]]:
    """By condition and receipt: features, the recogniser's own score, right or not."""
    made: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for scene in progress(scenes):
        for condition in (*scene.pictures, *(() if scenes.training else (AGAIN,))):
            if condition == BRIGHT and scene.darkness != scenes.darkness[0] or scenes.training and condition == DARK:
                continue
            name = condition if condition == BRIGHT else f"{condition}, {scene.darkness.removeprefix('receipts ')}"
            read = pipeline.read_scene(scene, condition)
            made[name][scene.name] += [
                (features(one.letters, *one.size), float(np.mean(one.letters)), right)
                for one, right in labelled(read, scene.truth)
            ]
    return made


def fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights of a logistic regression by Newton's method; x: (texts, features), y: 0 or 1."""
    weights, prior = np.zeros(x.shape[1]), np.full(x.shape[1], RIDGE)
    prior[0] = 0
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ weights))
        slope = x.T @ (p - y) + prior * weights
        step = np.linalg.solve((x.T * (p * (1 - p))) @ x + np.diag(prior), slope)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    return weights


def error(p: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error: how far what is promised lies from what is right, on average over the texts."""
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    sums = np.bincount(bins, p - right, BINS)
    return float(np.abs(sums).sum() / max(1, len(p)))


def with_interval(groups: Sequence[tuple[np.ndarray, np.ndarray]], draws: int = 1000) -> list[float]:
    rng, values = np.random.default_rng(0), []
    whole = error(*(np.concatenate(part) for part in zip(*groups, strict=True)))
    for _ in range(draws):
        drawn = [groups[i] for i in rng.integers(0, len(groups), len(groups))]
        values.append(error(*(np.concatenate(part) for part in zip(*drawn, strict=True))))
    return [round(float(value), 4) for value in (whole, *np.percentile(values, (2.5, 97.5)))]


def fit_chosen(scenes: Scenes, pipeline: Pipeline, data: Path) -> None:
    but = frozenset(path.stem for _, path in scenes.paths)
    pipeline.priors["others"] = TextPrior(grams_of(lines(data, but)))
    others = Reader(like="others")
    texts = [
        (scene.name, chosen_features(features(one.letters, *one.size), one.share), right)
        for scene in progress(scenes)
        for one, right in labelled(pipeline.read_scene(scene, LIT, others), scene.truth)
        if one.share is not None
    ]
    receipts = np.array([name for name, _, _ in texts])
    x, y = np.array([row for _, row, _ in texts]), np.array([right for _, _, right in texts], float)
    left_out = np.zeros(len(y))  # what a fit without its receipt says of each
    for name in set(receipts):
        inside = receipts == name
        left_out[inside] = 1 / (1 + np.exp(-x[inside] @ fit(x[~inside], y[~inside])))
    print(f"{len(y)} texts, {y.mean():.3f} right; error of fits without their receipt: {error(left_out, y):.3f}")
    print("WEIGHTS_CHOSEN:", fit(x, y).round(3).tolist())


class AllTaught(Remembering):
    """Reads bright lines with its own weights too: there are too few noisy ones that are easy."""

    def reads_as_taught(self, crop: np.ndarray) -> bool:
        return True


def fit_taught(seen: Scenes, held_out: Scenes, pipeline: Pipeline, reader: Reader) -> None:
    """WEIGHTS_TAUGHT, and the errors by condition on receipts that the fit did not see."""
    seen.paths = seen.paths[::LEFT_OUT]  # those that no step of the training saw
    every = Pipeline()
    every.recognizers[reader.recognizer] = AllTaught(reader.recognizer)
    rows = [
        (features(one.letters, *one.size), right)
        for scene in progress(seen)
        for condition in (LIT, BRIGHT)[: 2 if scene.darkness == seen.darkness[0] else 1]
        for one, right in labelled(every.read_scene(scene, condition, reader), scene.truth)
        if one.taught
    ]
    taught = fit(np.array([row for row, _ in rows]), np.array([right for _, right in rows], float)).round(3)
    print(f"WEIGHTS_TAUGHT, of {len(rows)} texts:", taught.tolist())
    made: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for scene in progress(held_out):
        for condition in (DARK, LIT, FUSED, BRIGHT)[: 4 if scene.darkness == held_out.darkness[0] else 3]:
            read = labelled(pipeline.read_scene(scene, condition, reader), scene.truth)
            odds = [np.dot(taught if one.taught else WEIGHTS, features(one.letters, *one.size)) for one, _ in read]
            if read:
                name = condition if condition == BRIGHT else f"{condition}, {scene.darkness.removeprefix('receipts ')}"
                made[name].append((1 / (1 + np.exp(-np.array(odds))), np.array([right for _, right in read], float)))
    for name, groups in made.items():
        p, right = (np.concatenate(part) for part in zip(*groups, strict=True))
        sure = right[p >= 0.8]
        print(f"{name}: {len(p)} texts, error {with_interval(groups)}; from 0.8 on {sure.mean():.3f} of {len(sure)}")


def measure(found: dict[str, dict[str, list[Any]]], weights: np.ndarray) -> dict[str, Any]:
    made = {}
    for condition, receipts in found.items():
        rows = [rows for rows in receipts.values() if rows]
        y = [np.array([row[2] for row in each], float) for each in rows]
        own = [np.array([row[1] for row in each]) for each in rows]
        ours = [1 / (1 + np.exp(-np.array([row[0] for row in each]) @ weights)) for each in rows]
        p, right = np.concatenate(ours), np.concatenate(y)
        made[condition] = {
            "texts": len(right), "right": round(float(right.mean()), 3),
            "ece_score": with_interval(list(zip(own, y, strict=True))),
            "ece_confidence": with_interval(list(zip(ours, y, strict=True))),
            "right_above_0.8": [int((p >= 0.8).sum()), round(float(right[p >= 0.8].mean()), 3)],
            "right_below_0.2": [int((p < 0.2).sum()), round(float(right[p < 0.2].mean()), 3)],
        }  # fmt: skip
    return made


def plot(found: dict[str, dict[str, list[Any]]], weights: np.ndarray) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.3), sharey=True)
    for condition, receipts in found.items():
        rows = [row for each in receipts.values() for row in each]
        y, own = np.array([row[2] for row in rows], float), np.array([row[1] for row in rows])
        ours = 1 / (1 + np.exp(-np.array([row[0] for row in rows]) @ weights))
        for axis, p in zip(axes, (own, ours), strict=True):
            bins = np.minimum((p * BINS).astype(int), BINS - 1)
            kept = [b for b in range(BINS) if (bins == b).sum() >= 10]
            axis.plot([p[bins == b].mean() for b in kept], [y[bins == b].mean() for b in kept], "o-", label=condition)
    for axis, title in zip(axes, ("the recogniser's score", "confidence"), strict=True):
        axis.plot([0, 1], [0, 1], ":", color="grey")
        axis.set(xlabel=title, xlim=(0, 1), ylim=(0, 1))
    axes[0].set_ylabel("share of texts that are right")
    axes[0].legend(fontsize=8)
    figure.savefig(RESULTS.with_suffix(".png"), dpi=90, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds receipts_sroie")
    parser.add_argument("--fit", type=int, default=20, help="receipts to fit on (default: 20)")
    parser.add_argument("--limit", type=int, default=0, help="held-out receipts, evenly spread (default: all 30)")
    parser.add_argument("--cache", type=Path, help="folder to keep pictures and what was read in")
    parser.add_argument("--chosen", action="store_true", help="fit WEIGHTS_CHOSEN, and nothing else")
    parser.add_argument("--recognizer", metavar="dark|FILE", help="fit WEIGHTS_TAUGHT of it, and nothing else")
    given = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = Pipeline(given.cache)
    if given.chosen:
        fit_chosen(Scenes(given.data, given.fit, cache=given.cache, training=True), pipeline, given.data)
        return
    if given.recognizer:
        seen, held_out = (Scenes(given.data, n, cache=given.cache, training=not n) for n in (0, given.limit or 30))
        fit_taught(seen, held_out, pipeline, Reader(given.recognizer))
        return
    seen = collect(Scenes(given.data, given.fit, cache=given.cache, training=True), pipeline)
    rows = [row for receipts in seen.values() for each in receipts.values() for row in each]
    weights = fit(np.array([row[0] for row in rows]), np.array([row[2] for row in rows], float)).round(3)
    print("WEIGHTS:", weights.tolist())
    held_out = collect(Scenes(given.data, given.limit, cache=given.cache), pipeline)
    results = {
        "weights": dict(zip(FEATURES, weights.tolist(), strict=True)), "fitted_on_texts": len(rows),
        "fit": measure(seen, weights), "held out": measure(held_out, weights),
    }  # fmt: skip
    RESULTS.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    plot(held_out, weights)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
