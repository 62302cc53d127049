"""Reading end to end: what is read of receipts in the dark, lit up, lit up after fusion, and bright.

    python benchmarks/reading.py --data DATA [--cache FOLDER]     # receipts_sroie under DATA

Held-out receipts in 8 to 20 and in 40 to 120 times less light (a phone's sensor, the camera sways by up to 3 pixels):
the frame as it is, lit by `fast`, the same with all lines in doubt read again (`--recognize-again`, without a bound),
eight frames fused and lit, and the scan itself, each through the node's detector and recogniser. Word accuracy: words
read right where they stand. Character error rate: edits per character, with lines that were missed and text where
there is none. Case does not count. 95 % bootstrap intervals over receipts; shares of the gap from dark to bright are
paired. Writes benchmarks/results/reading.json and a plot.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from reading_scenes import AGAIN, BRIGHT, DARK, FUSED, LIT, Scenes, progress
from reading_truth import Pipeline, score

from cloud_node.evaluation.bootstrap import Estimate, difference, estimate, mean, share_closed

RESULTS = Path(__file__).resolve().parent / "results" / "reading"
MEASURES = {"word accuracy": (0, 1), "character error rate": (2, 3)}  # columns of `score`: a part, and its whole
CONDITIONS = (DARK, LIT, AGAIN, FUSED, BRIGHT)


def rounded(figure: Estimate) -> list[float]:
    return [round(value, 4) for value in (figure.value, figure.low, figure.high)]


def summary(rows: dict[str, np.ndarray]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for measure, columns in MEASURES.items():
        parts = {condition: values[:, columns] for condition, values in rows.items()}
        made[measure] = {condition: rounded(estimate(part, mean)) for condition, part in parts.items()}
        made[f"{measure}: share of the gap closed"] = {
            condition: rounded(share_closed(parts[condition], parts[DARK], parts[BRIGHT], mean))
            for condition in (LIT, AGAIN, FUSED)
        }
        made[f"{measure}: read again against lit"] = rounded(difference(parts[AGAIN], parts[LIT], mean))
    return made


def label(condition: str) -> str:
    return condition.replace(", ", ",\n").replace("doubt ", "doubt\n")


def plot(results: dict[str, Any]) -> None:
    darknesses = [name for name in results if name.startswith("receipts ")]
    figure, axes = plt.subplots(1, 2, figsize=(12, 4))
    for axis, measure in zip(axes, MEASURES, strict=True):
        for number, darkness in enumerate(darknesses):
            figures = [results[darkness][measure][condition] for condition in CONDITIONS]
            values = [value for value, _, _ in figures]
            errors = [[value - low for value, low, _ in figures], [high - value for value, _, high in figures]]
            x = np.arange(len(CONDITIONS)) + 0.38 * (number - 0.5)
            axis.bar(x, values, 0.36, yerr=errors, capsize=3, label=darkness.removeprefix("receipts ") + " less light")
        axis.set_xticks(range(len(CONDITIONS)), [label(name) for name in CONDITIONS])
        axis.set_title(measure)
        axis.set_ylim(0, max(1.0, axis.get_ylim()[1]))
    axes[1].legend()
    figure.tight_layout()
    figure.savefig(RESULTS.with_suffix(".png"), dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds receipts_sroie")
    parser.add_argument("--limit", type=int, default=0, help="receipts, evenly spread (default: all 30)")
    parser.add_argument("--cache", type=Path, help="folder to keep pictures and what was read in")
    given = parser.parse_args()
    torch.set_num_threads(1)
    scenes, pipeline = Scenes(given.data, given.limit, cache=given.cache), Pipeline(given.cache)
    rows: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for scene in progress(scenes):
        for condition in CONDITIONS:
            rows[scene.darkness][condition].append(score(pipeline.read_scene(scene, condition), scene.truth))
    results: dict[str, Any] = {"receipts": len(scenes.paths)}
    for darkness, found in rows.items():
        results[darkness] = summary({condition: np.array(found[condition]) for condition in CONDITIONS})
    RESULTS.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    plot(results)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
