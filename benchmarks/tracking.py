"""How often signs are split or merged, against peers, on clips with known truth; how good voted texts are; the cost.

    python benchmarks/tracking.py --photos ../shared/data/plates_ro/images --seeds 8 --detector 1

--peers PYTHON: one that has `supervision` and `norfair` (pip install supervision==0.26.1 norfair==2.3.0).
Writes benchmarks/results/tracking.json and tracking.png.
"""

import argparse
import json
import subprocess
import time
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from tracking_clips import HEIGHT, KINDS, WIDTH, Clip, Step, photographs, reading_of

from common.frame import Region
from common.pixels import Bytes
from edge_node.tracking import TextTracker
from edge_node.tracking.texts import distance

matplotlib.use("Agg")
RESULTS = Path(__file__).resolve().parent / "results"
FEWEST = 3  # regions that a sign must have to count
FOREIGN = 2  # regions of another sign that make a sight a merged one


class Score:
    """Counts over clips."""

    def __init__(self) -> None:
        self.signs = self.split = self.merged = self.wrong = self.missed = self.phantoms = 0

    def add(self, ids: list[list[str]], truth: list[tuple[int, ...]], told: set[str]) -> dict[int, str]:
        """One clip; the sight of each sign."""
        of: dict[str, Counter] = defaultdict(Counter)
        seen: Counter = Counter()
        for row, signs in zip(ids, truth, strict=True):
            seen.update(signs)
            for id, sign in zip(row, signs, strict=True):
                of[id][sign] += 1
        sights, merged = defaultdict(list), set()
        for id in told:
            real = {sign: count for sign, count in of[id].items() if sign >= 0}
            if not real:
                self.phantoms += 1
                continue
            sights[max(real, key=real.__getitem__)].append(id)
            many = {sign for sign, count in real.items() if count >= FOREIGN}
            merged |= many if len(many) > 1 else set()
        signs = {sign for sign, count in seen.items() if sign >= 0 and count >= FEWEST}
        split = {sign for sign in signs if len(sights[sign]) > 1}
        self.signs += len(signs)
        self.split, self.merged = self.split + len(split), self.merged + len(merged & signs)
        self.wrong += len(split | (merged & signs))
        self.missed += sum(not sights[sign] and sign not in merged for sign in signs)
        return {sign: max(found, key=lambda id: of[id][sign]) for sign, found in sights.items() if found}

    def figures(self) -> dict[str, float]:
        share = 100 / max(self.signs, 1)
        return {
            "signs": self.signs,
            "split_percent": round(self.split * share, 2),
            "merged_percent": round(self.merged * share, 2),
            "split_or_merged_percent": round(self.wrong * share, 2),
            "missed_percent": round(self.missed * share, 2),
            "phantom_sights": self.phantoms,
        }


def follow(steps: list[Step]) -> tuple[list[list[str]], dict, float, int]:
    """Ids of the regions, the sights told, milliseconds of CPU a frame, and how often something was told."""
    tracker, told, ids, spent, news = TextTracker("bench"), {}, [], 0.0, 0
    for number, step in enumerate(steps):
        captured_ns = 10**12 + round(step.t * 1e9)
        start = time.thread_time()
        reading, changed = tracker.observe(reading_of(step, number), step.rgb, captured_ns)
        spent += time.thread_time() - start
        ids.append([region.sight for region in reading.regions])
        told |= {sight.id: sight for sight in changed}
        news += len(changed)
    told |= {sight.id: sight for sight in tracker.close()}
    return ids, told, spent / len(steps) * 1e3, news


def plain_iou(steps: list[Step], least: float = 0.3, timeout_s: float = 10.0) -> list[list[str]]:
    """The simplest thing: each region goes to the box that it overlaps most, greedily."""
    boxes: dict[str, tuple] = {}
    ids, made = [], 0
    for step in steps:
        found = [box(region) for region in step.regions]
        pairs = sorted(
            ((overlap(old[0], new), id, i) for id, old in boxes.items() for i, new in enumerate(found)), reverse=True
        )
        row: list[str] = [""] * len(found)
        for value, id, i in pairs:
            if value >= least and not row[i] and id not in row:
                row[i] = id
        for i in range(len(found)):
            if not row[i]:
                made += 1
                row[i] = f"iou-{made}"
            boxes[row[i]] = (found[i], step.t)
        boxes = {id: old for id, old in boxes.items() if step.t - old[1] <= timeout_s}
        ids.append(row)
    return ids


def box(region: Region) -> tuple[float, float, float, float]:
    xs, ys = [x for x, _ in region.polygon], [y for _, y in region.polygon]
    return min(xs), min(ys), max(xs), max(ys)


def overlap(a: tuple, b: tuple) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    both = wide * high
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def seen_twice(ids: list[list]) -> set[str]:
    """What a tracker without a rule of its own would tell: no flicker."""
    counts = Counter(id for row in ids for id in row)
    return {id for id, count in counts.items() if count >= 2 and id not in ("", -1, "-1")}


def peers_of(python: str, clips: list[list[Step]]) -> dict[str, list]:
    given = [[([box(r) for r in s.regions], [r.score for r in s.regions]) for s in steps] for steps in clips]
    script = Path(__file__).with_name("tracking_peers.py")
    done = subprocess.run([python, str(script)], input=json.dumps(given), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def texts(clip: Clip, steps: list[Step], ids: list, told: dict, of_sign: dict[int, str], sums: Counter) -> None:
    """The voted text, the best view's, and each single reading, against the truth."""
    if not clip.read:
        return
    single = defaultdict(list)
    for step, row in zip(steps, ids, strict=True):
        for region, id in zip(step.regions, row, strict=True):
            single[id].append(region)
    for sign in clip.signs:
        id = of_sign.get(sign.number)
        if id is None or not told[id].text:
            continue
        best = max(single[id], key=lambda region: region.confidence)
        for name, said in (("voted", told[id].text), ("surest view", best.text)):
            sums[name, "signs"] += 1
            sums[name, "right"] += said == sign.text
            sums[name, "errors"] += distance(said, sign.text)
        sums["one view", "signs"] += len(single[id])
        sums["one view", "right"] += sum(region.text == sign.text for region in single[id])
        sums["one view", "errors"] += sum(distance(region.text, sign.text) for region in single[id])


def with_detector(steps: list[Step], detector) -> list[Step]:
    """The same pictures, and what DBNet finds in them; a region is the sign's in whose place its centre is."""
    found = []
    for step in steps:
        regions = detector.detect(step.rgb)
        middles = [np.mean(region.polygon, axis=0) for region in regions]
        truth = [next((n for n, b in step.places if b[0] <= x <= b[2] and b[1] <= y <= b[3]), -1) for x, y in middles]
        found.append(replace(step, regions=regions, truth=tuple(truth)))
    return found


def cost(photo: Bytes) -> dict[str, float]:
    """Milliseconds of CPU a frame of 1280x720 with so many trembling regions."""
    rgb = cv2.resize(photo, (1280, 720))
    table = {}
    for count in (10, 100, 300):
        rng = np.random.default_rng(count)
        corners = [(x, y) for y in range(10, 700, 22) for x in range(10, 1200, 118)][:count]
        tracker, spent = TextTracker("bench"), []
        for k in range(25):
            boxes = [(x + dx, y + dy) for (x, y), (dx, dy) in zip(corners, rng.normal(0, 1, (count, 2)), strict=True)]
            regions = tuple(
                Region(((x, y), (x + 100, y), (x + 100, y + 16), (x, y + 16)), 0.8, f"WORD {i}", 0.8)
                for i, (x, y) in enumerate(boxes)
            )
            reading = reading_of(Step(k / 10, rgb, regions, ()), k)
            start = time.thread_time()
            tracker.observe(reading, rgb, 10**12 + k * 10**8)
            spent.append((time.thread_time() - start) * 1e3)
        table[str(count)] = round(float(np.median(spent[5:])), 2)
    return table


def draw(figures: dict, path: Path) -> None:
    import matplotlib.pyplot as plt

    names = list(figures["trackers"])
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.2), width_ratios=(3, 1), layout="constrained")
    for place, name in enumerate(names):
        rows = figures["trackers"][name]
        at = np.arange(len(KINDS) + 1) + (place - (len(names) - 1) / 2) * 0.8 / len(names)
        values = [rows[kind]["split_or_merged_percent"] for kind in (*KINDS, "all")]
        bars = axes[0].bar(at, values, 0.76 / len(names), label=name)
        axes[0].bar_label(bars, fmt="%.0f", fontsize=7)
    axes[0].axhline(2, color="black", linestyle=":", linewidth=1, label="aim: 2 %")
    axes[0].set(xticks=range(len(KINDS) + 1), xticklabels=[*KINDS, "all"], ylabel="signs split or merged, %")
    axes[0].legend(frameon=False, fontsize=8)
    axes[1].plot([int(n) for n in figures["cpu_ms"]], list(figures["cpu_ms"].values()), "o-")
    axes[1].set(xlabel="regions in a 1280x720 frame", ylabel="ms of CPU", ylim=0)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder with bright photographs")
    parser.add_argument("--seeds", type=int, default=8, help="clips of each kind (8)")
    parser.add_argument("--first", type=int, default=0, help="number of the first (0)")
    parser.add_argument("--detector", type=int, default=0, help="clips of each kind that DBNet looks at too (0)")
    parser.add_argument("--peers", default="", metavar="PYTHON", help="a Python with supervision and norfair")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    photos = photographs(given.photos)
    scores: dict[str, dict[str, Score]] = defaultdict(lambda: defaultdict(Score))
    sums: Counter = Counter()
    frames = news = 0
    for kind in KINDS:
        clips = [Clip(kind, seed, photos) for seed in range(given.first, given.first + given.seeds)]
        bare = []
        for seed, clip in enumerate(clips):
            steps = list(clip.steps())
            ids, told, _, said = follow(steps)
            frames, news, truth = frames + len(steps), news + said, [step.truth for step in steps]
            for name in (kind, "all"):
                of_sign = scores["ours"][name].add(ids, truth, set(told))
            texts(clip, steps, ids, told, of_sign, sums)
            if seed < given.detector:
                from common.text_detection import DBNet

                real = with_detector(steps, DBNet(threads=1))
                ids, told, _, _ = follow(real)
                for name in (kind, "all"):
                    scores["ours, DBNet"][name].add(ids, [step.truth for step in real], set(told))
            plain = plain_iou(steps)
            for name in (kind, "all"):
                scores["overlap alone"][name].add(plain, truth, seen_twice(plain))
            bare.append([replace(step, rgb=np.zeros((0, 0, 3), np.uint8)) for step in steps])
        if given.peers:
            for peer, found in peers_of(given.peers, bare).items():
                for steps, ids in zip(bare, found, strict=True):
                    for name in (kind, "all"):
                        scores[peer][name].add(ids, [step.truth for step in steps], seen_twice(ids))
        print(
            kind, {name: rows[kind].figures()["split_or_merged_percent"] for name, rows in scores.items()}, flush=True
        )
    figures = {
        "clips": given.seeds * len(KINDS), "first": given.first, "frames": frames, "size": [WIDTH, HEIGHT],
        "trackers": {
            name: {kind: rows[kind].figures() for kind in (*KINDS, "all")} for name, rows in scores.items()
        },
        "told_per_frame": round(news / frames, 3),
        "texts": {
            name: {
                "right_percent": round(100 * sums[name, "right"] / max(sums[name, "signs"], 1), 1),
                "letters_wrong_percent": round(100 * sums[name, "errors"] / max(sums[name, "signs"], 1), 1),
            }
            for name in ("voted", "surest view", "one view")
        },
        "cpu_ms": cost(cv2.imread(str(photos[0]))),
    }  # fmt: skip
    print(
        json.dumps({**figures, "trackers": {name: rows["all"] for name, rows in figures["trackers"].items()}}, indent=1)
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "tracking.json").write_text(json.dumps(figures, indent=1) + "\n")
    draw(figures, RESULTS / "tracking.png")


if __name__ == "__main__":
    main()
