"""Reading end to end: what is read of receipts in the dark, lit up, lit up after fusion, and bright.

    python benchmarks/reading.py --data DATA [--cache FOLDER]     # receipts_sroie under DATA
    python benchmarks/reading.py --data DATA --cache FOLDER --part 1/4     # and 2/4 ... beside it; then as above

Held-out receipts in 8 to 20 and in 40 to 120 times less light (a phone's sensor, the camera sways by up to 3 pixels):
the frame as it is, lit by `fast`, the same with all lines in doubt read again (`--recognize-again`, without a bound),
eight frames fused and lit, and the scan itself, each through the node's detector and recogniser, as its makers left it
and as it was taught to read in the dark (`--recognizer`), without a prior and with that of receipts
(`--recognize-like`). What stands in --cache is not made again, so a run may be broken off.

Word accuracy: words read right where they stand. Character error rate: edits per character, with lines that were
missed and text where there is none. Case does not count. 95 % bootstrap intervals over receipts; shares of the gap from
dark to bright are paired. Writes benchmarks/results/reading.json and a plot.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from reading_scenes import AGAIN, BRIGHT, DARK, FUSED, LIT, Scenes, progress, weights
from reading_truth import Pipeline, Reader, score

from cloud_node.evaluation.bootstrap import Estimate, difference, estimate, mean, share_closed
from common.text_prior import NONE
from common.text_recognition import DARK as TAUGHT_IN_THE_DARK
from common.text_recognition import PLAIN

RESULTS = Path(__file__).resolve().parent / "results" / "reading"
MEASURES = {"word accuracy": (0, 1), "character error rate": (2, 3)}  # columns of `score`: a part, and its whole
CONDITIONS = (DARK, LIT, AGAIN, FUSED, BRIGHT)
SAID = {DARK: "as it is", LIT: "lit", AGAIN: "lit, again", FUSED: "fused and lit", BRIGHT: "bright"}
GAINED = (LIT, AGAIN, FUSED)
BASELINE = Reader(PLAIN)
Rows = dict[Reader, dict[str, np.ndarray]]  # by condition, (receipts, columns of `score`)


def rounded(figure: Estimate) -> list[float]:
    return [round(value, 4) for value in (figure.value, figure.low, figure.high)]


def summary(rows: Rows) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for measure, columns in MEASURES.items():
        by = {reader: {name: rows[:, columns] for name, rows in found.items()} for reader, found in rows.items()}
        plain = by[BASELINE]
        for reader, parts in by.items():
            same = by[reader._replace(recognizer=PLAIN)]
            made[f"{measure}, {reader}"] = {
                "value": {condition: rounded(estimate(part, mean)) for condition, part in parts.items()},
                "share of the gap closed": {
                    condition: rounded(share_closed(parts[condition], parts[DARK], parts[BRIGHT], mean))
                    for condition in GAINED
                },
                "share of the plain reader's gap closed": {
                    condition: rounded(share_closed(parts[condition], plain[DARK], plain[BRIGHT], mean))
                    for condition in GAINED
                },
                "against the plain reader": {
                    condition: rounded(difference(parts[condition], plain[condition], mean)) for condition in parts
                },
                "against the plain recogniser": {
                    condition: rounded(difference(parts[condition], same[condition], mean)) for condition in parts
                },
                "read again against lit": rounded(difference(parts[AGAIN], parts[LIT], mean)),
            }
    return made


def named(reader: Reader) -> str:
    taught = {PLAIN: "plain", TAUGHT_IN_THE_DARK: "taught"}.get(reader.recognizer, reader.recognizer)
    return taught + (", like" if reader.like != NONE else "")


def table(results: dict[str, Any], readers: list[Reader]) -> str:
    """The lines of docs/reading.md."""
    lines = ["| | words | gap closed | characters wrong | gap closed |", "|---|---|---|---|---|"]
    darknesses = [name for name in results if name.startswith("receipts ")]
    for darkness in darknesses:
        seen = CONDITIONS if darkness == darknesses[-1] else CONDITIONS[:-1]  # the scan is the same in both
        for condition, reader in ((c, r) for c in seen for r in readers):
            cells = []
            for measure in MEASURES:
                found = results[darkness][f"{measure}, {reader}"]
                cells.append("{:.3f} [{:.3f}, {:.3f}]".format(*found["value"][condition]))
                share = found["share of the plain reader's gap closed"].get(condition)
                cells.append("{:.2f} [{:.2f}, {:.2f}]".format(*share) if share else "")
            where = "" if condition == BRIGHT else f"{darkness.removeprefix('receipts ')}, "
            lines.append(f"| {where}{SAID[condition]}: {named(reader)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(results: dict[str, Any], readers: list[Reader]) -> None:
    darknesses = [name for name in results if name.startswith("receipts ")]
    figure, axes = plt.subplots(2, len(darknesses), figsize=(12, 7), sharey="row", squeeze=False)
    wide = 0.84 / len(readers)
    for row, measure in zip(axes, MEASURES, strict=True):
        for axis, darkness in zip(row, darknesses, strict=True):
            for number, reader in enumerate(readers):
                figures = [results[darkness][f"{measure}, {reader}"]["value"][condition] for condition in CONDITIONS]
                values = [value for value, _, _ in figures]
                errors = [[value - low for value, low, _ in figures], [high - value for value, _, high in figures]]
                x = np.arange(len(CONDITIONS)) + wide * (number - (len(readers) - 1) / 2)
                bars = axis.bar(x, values, wide * 0.94, yerr=errors, capsize=2, ecolor="0.3", label=named(reader))
                bars.errorbar.lines[2][0].set_linewidth(0.9)
            axis.set_xticks(range(len(CONDITIONS)), [SAID[name] for name in CONDITIONS])
            axis.set_title(f"{measure}, {darkness.removeprefix('receipts ').replace('-', ' to ')} less light")
            axis.set_ylim(0, 1)
            axis.grid(axis="y", alpha=0.3)
            axis.set_axisbelow(True)
    axes[1, -1].legend()
    figure.tight_layout()
    figure.savefig(RESULTS.with_suffix(".png"), dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds receipts_sroie")
    parser.add_argument("--limit", type=int, default=0, help="receipts, evenly spread (default: all 30)")
    parser.add_argument("--cache", type=Path, help="folder to keep pictures and what was read in")
    parser.add_argument("--part", help="2/4: read the second of four parts into --cache, and stop there")
    parser.add_argument(
        "--recognizer", action="append", help="plain, dark or a file; repeatable (default: plain and dark)"
    )
    parser.add_argument("--kept", action="store_true", help="only the receipts that --cache has whole, read no other")
    given = parser.parse_args()
    torch.set_num_threads(1)
    part = tuple(map(int, given.part.split("/"))) if given.part else (1, 1)
    if given.part and (given.cache is None or len(part) != 2 or not 1 <= part[0] <= part[1]):
        parser.error(f"--part {given.part}: a part and how many there are, 1/4 to 4/4, and --cache to keep it in")
    scenes, pipeline = Scenes(given.data, given.limit, cache=given.cache, part=part), Pipeline(given.cache)
    readers = [Reader(r, like) for r in given.recognizer or (PLAIN, TAUGHT_IN_THE_DARK) for like in pipeline.priors]
    if BASELINE not in readers and not given.part:
        parser.error("--recognizer plain is what the others are measured against")
    if given.kept:
        wanted = [(d, c, r) for d in scenes.darkness for c in CONDITIONS for r in readers]
        scenes.paths = [(n, path) for n, path in scenes.paths if all(pipeline.has(path.name, *w) for w in wanted)]
        if not scenes.paths:
            parser.error("--kept: no receipt was read in all its conditions yet")
    rows: dict[str, Any] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for scene in progress(scenes):
        for condition in CONDITIONS:
            for reader in readers:
                read = pipeline.read_scene(scene, condition, reader)
                rows[scene.darkness][reader][condition].append(score(read, scene.truth))
    if given.part:
        return
    results: dict[str, Any] = {"receipts": len(scenes.paths), "weights of fast": weights()}
    for darkness, read in rows.items():
        results[darkness] = summary(
            {reader: {name: np.array(each) for name, each in found.items()} for reader, found in read.items()}
        )
    RESULTS.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    plot(results, readers)
    print(table(results, readers))


if __name__ == "__main__":
    main()
