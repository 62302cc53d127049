"""What the gate keeps home, whether any text is lost by it, what it costs, and whether a still scene is seen as such.

    python benchmarks/gate.py --data ../shared/data

Every photograph is read as it is, and lit up by the cloud's preset `fast`; lost is an outline that is found only when
lit. Writes benchmarks/results/gate.json and gate.png; on one core it takes a quarter of an hour.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import torch

from cloud_node.evaluation import cases, darkness
from cloud_node.evaluation.detection import count, read_outlines
from cloud_node.laegan import load
from cloud_node.training import pools
from cloud_node.training.darkness import to_linear
from common import packing
from common.color import to_rgb
from common.pixels import Bytes, RawImage
from common.text_detection import DBNet
from edge_node.change import has_changed
from edge_node.gate import EXPOSURE, FLAT, Gate
from edge_node.glance import glance
from edge_node.selection import Selection
from edge_node.solved_curve import solve_curve
from edge_node.sources.planes import to_raw

matplotlib.use("Agg")
RESULTS = Path(__file__).resolve().parent / "results"
LESS_LIGHT = (1, 2, 3, 4, 8, 16, 32, 64)
WIDTH, HEIGHT, FPS = 1280, 720, 10


def photographs(data: Path, limit: int) -> Iterator[tuple[str, Bytes, list]]:
    """(set, picture, outlines); receipts are cut to 960x720 and taken in less and less light."""
    for number, case in enumerate(cases.thinned(cases.bright_receipts(data).cases, limit // 3)):
        picture = case.read()
        rgb = np.ascontiguousarray(picture.low[:720, :960])
        inside = [
            outline
            for outline in picture.truth
            if all(0 <= x < rgb.shape[1] and 0 <= y < rgb.shape[0] for x, y in outline.polygon)
        ]
        for ratio in LESS_LIGHT:
            low = rgb if ratio == 1 else darkness.darken(rgb, number * 100 + ratio, (ratio, ratio))
            yield f"receipts, light 1/{ratio}", low, inside
    named = {
        "street, dusk and night": cases.dark_plates,
        "street, by day": cases.bright_plates,
        "scene text": cases.bright_scene_text,
    }
    for name, make in named.items():
        for case in cases.thinned(make(data).cases, limit):
            picture = case.read()
            yield name, picture.low, list(picture.truth)
    for path in pools.dark_files(data)[0][:limit]:
        yield (
            "street, dusk, of training",
            cases.read_image(path),
            read_outlines(data / "plates_ro/gt" / f"{path.stem}.txt"),
        )


def text(data: Path, limit: int) -> list[dict]:
    """One row a photograph: what is found as it is, what when lit, and how steep its curve is."""
    network, detector, rows = load("fast").to(memory_format=torch.channels_last), DBNet(threads=1), []
    for name, rgb, outlines in photographs(data, limit):
        with torch.inference_mode():
            lit = network(torch.from_numpy(np.array(rgb)).movedim(-1, 0)[None].float() / 255)[0]
        lit = (lit.clamp(0, 1) * 255).round().byte().movedim(0, -1).contiguous().numpy()
        before, after = count(detector.detect(rgb), outlines), count(detector.detect(lit), outlines)
        row = {
            "set": name,
            "alpha": round(solve_curve(rgb, EXPOSURE), 4),
            "home": not Gate().judge(RawImage.from_rgb(rgb)).light,
            "lines": before.truth,
            "as_is": before.right,
            "lit": after.right,
            "lost": len(set(after.hits) - set(before.hits)),
            "won": len(set(before.hits) - set(after.hits)),
        }
        rows.append(row)
        print(f"{len(rows):4} {name:26} alpha {row['alpha']:.2f}  lost {row['lost']}", flush=True)
    return rows


def exposures(data: Path) -> dict[str, float]:
    """Share kept home of real low and normal exposures."""
    pairs = cases.sice_pairs(data).cases
    low = [not Gate().judge(RawImage.from_rgb(case.read().low)).light for case in pairs]
    normal = [not Gate().judge(RawImage.from_rgb(case.read().bright)).light for case in pairs]
    return {"pairs": len(pairs), "low": statistics.mean(low), "normal": statistics.mean(normal)}


def cost(rgb: Bytes) -> dict[str, float]:
    """Milliseconds of one core a frame, 1280x720 4:2:0 as a decoder gives it, noisy and dark: median of 100."""
    import av

    decoded = av.VideoFrame.from_ndarray(expose(rgb, 40, 1.0, 0), format="rgb24").reformat(format="yuv420p")
    raw, gate, selection = to_raw(decoded), Gate(), Selection(on_change=True)
    areas = Gate(areas=(_area(),))
    selection.is_new(raw)
    areas.take(areas.judge(raw))
    return {
        "capture": milliseconds(lambda: to_raw(decoded)),
        "gate": milliseconds(lambda: gate.judge(raw)),
        "pack": milliseconds(lambda: packing.pack(raw)),
        "gate with an essential region": milliseconds(lambda: areas.judge(raw)),
        "--on-change": milliseconds(lambda: selection.is_new(raw)),
        "to RGB, for frames read as they are": milliseconds(lambda: to_rgb(raw)),
    }


def _area():
    from edge_node.areas import Area

    return Area(0.25, 0.25, 0.5, 0.5)


def milliseconds(run: Callable[[], object]) -> float:
    spent = []
    for _ in range(103):
        start = time.thread_time()
        run()
        spent.append((time.thread_time() - start) * 1e3)
    return round(statistics.median(spent[3:]), 3)


def expose(rgb: Bytes, ratio: float, log_gain: float, seed: int) -> Bytes:
    """`darkness.darken` by a sensor whose gain stays, as a camera's does from frame to frame."""
    gains = np.array([2.0, 1.0, 1.7], np.float32)
    light = to_linear(rgb / np.float32(255)) / np.float32(ratio)
    raw = darkness.expose(darkness.mosaic(light / gains), log_gain, np.random.default_rng(seed))
    return darkness.compress(darkness.render(darkness.demosaic(raw, gains)))


def still(data: Path, limit: int) -> dict[str, dict[str, int]]:
    """Frames of a still scene taken for changed, and number plates of 100x24 pixels that appear and are noticed."""
    table: dict[str, dict[str, int]] = {}
    for case in cases.thinned(cases.bright_plates(data).cases, max(1, limit // 3)):
        rgb = cv2.resize(case.read().low, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        plate = rgb.copy()
        plate[400:424, 600:700] = 235
        cv2.putText(plate, "B 123 XYZ", (604, 418), 0, 0.5, (20, 20, 20), 2)
        for ratio in (8, 20, 60, 120):
            for gain, log_gain in zip(("low", "high"), darkness.CAMERA.log_gain, strict=True):
                looks = [glance(RawImage.from_rgb(expose(rgb, ratio, log_gain, seed))) for seed in range(3)]
                new = glance(RawImage.from_rgb(expose(plate, ratio, log_gain, 3)))
                row = table.setdefault(
                    f"light 1/{ratio}, {gain} gain", {"still": 0, "false": 0, "new": 0, "noticed": 0}
                )
                row["still"] += 3
                row["false"] += sum(has_changed(looks[i], looks[j]) for i, j in ((0, 1), (1, 2), (0, 2)))
                row["new"] += 3
                row["noticed"] += sum(has_changed(look, new) for look in looks)
    return table


def by_set(rows: list[dict]) -> dict[str, dict[str, float]]:
    table = {}
    for name in dict.fromkeys(row["set"] for row in rows):
        some = [row for row in rows if row["set"] == name]
        home = [row for row in some if row["home"]]
        table[name] = {
            "frames": len(some),
            "kept home": len(home),
            **{key: sum(row[key] for row in some) for key in ("lines", "as_is", "lit")},
            "found with the gate": sum(row["as_is"] if row["home"] else row["lit"] for row in some),
            "lost by the gate": sum(row["lost"] for row in home),
        }
    return table


def draw(rows: list[dict], path: Path) -> None:
    """Lines lost over the limit, and the curve's steepness of each set."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), width_ratios=(3, 4), layout="constrained")
    limits = np.linspace(0, 0.45, 200)
    lost = [sum(row["lost"] for row in rows if row["alpha"] <= limit) for limit in limits]
    left.plot(limits, lost, color="#b03a2e")
    left.axvline(FLAT, color="black", linestyle=":", label=f"the gate's limit, {FLAT}")
    left.set(xlabel="limit: alpha of the frame's exposure curve", ylabel="lines found only when lit, kept home", ylim=0)
    left.legend(frameon=False)
    names = list(dict.fromkeys(row["set"] for row in rows))[::-1]
    for place, name in enumerate(names):
        some = [row for row in rows if row["set"] == name]
        for row in some:
            loses = row["lost"] > 0
            right.plot(
                row["alpha"], place, "o", ms=6 if loses else 4, alpha=0.7, color="#b03a2e" if loses else "#7f8c8d"
            )
    right.plot([], [], "o", color="#7f8c8d", label="nothing is found only when lit")
    right.plot([], [], "o", color="#b03a2e", label="some lines are")
    right.axvline(FLAT, color="black", linestyle=":")
    right.set(xlabel="alpha", yticks=range(len(names)), yticklabels=names)
    right.legend(frameon=False, loc="upper right")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the photographs")
    parser.add_argument("--cost", action="store_true", help="what capture, gate and packing cost, and no more")
    parser.add_argument("--limit", type=int, default=35, help="photographs of a set, a third of it of others (35)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    scene = cv2.resize(cases.bright_plates(given.data).cases[0].read().low, (WIDTH, HEIGHT))
    spent = cost(scene)
    walk = spent["capture"] + spent["gate"] + spent["pack"]
    print(json.dumps(spent, indent=1), f"\ncapture, gate and packing at {FPS}/s: {walk * FPS / 10:.1f} % of a core")
    if given.cost:
        written = json.loads((RESULTS / "gate.json").read_text())
        written |= {"ms": spent, "core_percent": walk * FPS / 10}
        (RESULTS / "gate.json").write_text(json.dumps(written, indent=1) + "\n")
        return
    changes = still(given.data, given.limit)
    print(json.dumps(changes, indent=1))
    pairs = exposures(given.data)
    print(json.dumps(pairs))
    rows = text(given.data, given.limit)
    table = by_set(rows)
    for name, row in table.items():
        print(f"{name:26}", "  ".join(f"{key} {value}" for key, value in row.items()))
    figures = {"limit": FLAT, "sets": table, "exposures": pairs, "ms": spent, "core_percent": walk * FPS / 10}
    RESULTS.mkdir(exist_ok=True)
    draw(rows, RESULTS / "gate.png")
    (RESULTS / "gate.json").write_text(json.dumps({**figures, "still": changes, "frames": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
